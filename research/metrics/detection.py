"""Detection: does a score put the positives above the negatives?

For errors the positives are the wrong answers; out of distribution, the strange images. A higher
score means less sure. The curves step from one distinct score to the next, so ties are one point.
Every measure is NaN where there are no positives or no negatives.
"""

import numpy as np

from research.metrics.weighted import bin_sums, ratio, tie_groups, weighted


def _curve(
    score: np.ndarray, positive: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """True and false positives as the threshold falls past each distinct score: two [G, R]."""
    groups, size = tie_groups(-score)
    hits = bin_sums(groups, positive, weights, size)
    false_alarms = bin_sums(groups, ~positive, weights, size)
    return np.cumsum(hits, axis=0), np.cumsum(false_alarms, axis=0)


@weighted
def auroc(score: np.ndarray, positive: np.ndarray, *, weights: np.ndarray) -> np.ndarray:
    """Chance that a positive scores above a negative, a tie counting half (Hanley & McNeil 1982).

    Args:
        score: [N].
        positive: [N] bool.
        weights: [R, N].
    """
    hits, false_alarms = _curve(score, positive, weights)
    before = np.vstack([np.zeros((1, hits.shape[1])), hits[:-1]])
    steps = np.diff(false_alarms, axis=0, prepend=0.0)
    area = np.sum(steps * (hits + before) / 2, axis=0)
    return ratio(area, hits[-1] * false_alarms[-1])


@weighted
def aupr(score: np.ndarray, positive: np.ndarray, *, weights: np.ndarray) -> np.ndarray:
    """Average precision Σ_g (recall_g - recall_{g-1}) precision_g, over thresholds g.

    Chance level: the share of positives. NaN without positives or without negatives.
    """
    hits, false_alarms = _curve(score, positive, weights)
    precision = ratio(hits, hits + false_alarms, empty=0.0)
    total = np.sum(np.diff(hits, axis=0, prepend=0.0) * precision, axis=0)
    return ratio(total, np.where(false_alarms[-1] > 0, hits[-1], 0.0))


@weighted
def fpr95(score: np.ndarray, positive: np.ndarray, *, weights: np.ndarray) -> np.ndarray:
    """False-positive rate at the highest threshold that finds at least 95 % of the positives."""
    hits, false_alarms = _curve(score, positive, weights)
    first = np.argmax(100 * hits >= 95 * hits[-1], axis=0)[None]  # in whole numbers: no rounding
    found = np.take_along_axis(false_alarms, first, axis=0)[0]
    return ratio(np.where(hits[-1] > 0, found, np.nan), false_alarms[-1])
