"""A problem whose two columns determine the class: a board of four fields."""

import numpy as np
from scipy.special import expit

from research.method import Batch

STEEPNESS = 60.0


def truth(rows_name: str, x: np.ndarray) -> np.ndarray:
    """p(class 1) [N] of x [N, 2]: high where both columns lie on the same side of one half."""
    del rows_name  # it is the same for all rows
    return expit(STEEPNESS * (x[:, 0] - 0.5) * (x[:, 1] - 0.5))


def board(generator: np.random.Generator, count: int) -> Batch:
    """Rows of U[0, 1)^2, labelled by `truth`; nobody can be right more than 86 % of the time."""
    x = generator.random((count, 2), np.float32)
    return Batch(x, (generator.random(count) < truth("", x)).astype(np.int32))
