"""The order of the classes that agrees best with the labels (an assignment problem; Kuhn 1955)."""

import numpy as np
from scipy.optimize import linear_sum_assignment


def best_order(predicted: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """The class [K] that each predicted class agrees best with; ties go to the class itself.

    Args:
        predicted: [N] int.
        labels: [N] int.
        classes: K.
    """
    counts = np.zeros((classes, classes))
    np.add.at(counts, (predicted, labels), 1)
    return linear_sum_assignment(counts + 0.5 * np.eye(classes), maximize=True)[1]
