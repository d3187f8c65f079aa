"""K classes by a map for two: each class against the rest, then normalised.

Zadrozny & Elkan 2002, Transforming Classifier Scores into Accurate Multiclass Probability
Estimates. With g_k fitted to the pairs (log-odds of class k, label is k),

    p_k = g_k(x_k) / Σ_j g_j(x_j).

Two classes need one map: p_1 = g_1(x_1), p_0 = 1 - p_1. The log-odds are those of the averaged
prediction; they order the examples as p_k does, but do not round to 1.
"""

from collections.abc import Callable

import numpy as np

from research.calibrators import Calibrator
from research.calibrators._averaged import averaged, log_odds

Map = Callable[[np.ndarray], np.ndarray]  # scores [N] -> probabilities [N], none of them 0


def one_versus_rest(
    fit: Callable[[np.ndarray, np.ndarray, int], tuple[Map, int]],
    log_probs: np.ndarray,
    labels: np.ndarray,
) -> Calibrator:
    """Fits a map for each class; S' = 1.

    Args:
        fit: a function of scores [N], hits [N] bool and K; it returns the map of one class and the
            number of its levels.
        log_probs: [S, N, K] normalised.
        labels: [N] int.

    Returns:
        The calibrator; fitted: the `levels` of each map (of class 1 alone where K = 2).
    """
    num_classes = np.shape(log_probs)[-1]
    classes = [1] if num_classes == 2 else list(range(num_classes))
    scores = log_odds(averaged(log_probs))
    fits = [fit(scores[:, k], np.asarray(labels) == k, num_classes) for k in classes]

    def apply(log_probs: np.ndarray) -> np.ndarray:
        scores = log_odds(averaged(log_probs))
        columns = [g(scores[:, k]) for (g, _), k in zip(fits, classes, strict=True)]
        if num_classes == 2:
            columns.insert(0, 1 - columns[0])
        probs = np.stack(columns, axis=1)  # [N, K]
        return np.log(probs / probs.sum(axis=1, keepdims=True))[None]

    return Calibrator(apply, {"levels": [levels for _, levels in fits]})
