"""The reliability diagram: accuracy against confidence, bin by bin, with intervals.

After DeGroot & Fienberg 1983 and Niculescu-Mizil & Caruana 2005. On the diagonal, what is claimed
is delivered; below it, the classifier is over-confident.

On a scale from 0 to 1 every answer of a saturated classifier falls in the last bin. Such answers
differ in the uncertainty u = 1 - confidence: 0.99 claims one mistake in a hundred, 0.999999 one in
a million. So the bins of `confidence_histogram` are decades of log10 u, with one more edge at 50 %
confidence.
"""

from typing import NamedTuple

import numpy as np

from research.metrics.intervals import wilson
from research.metrics.weighted import NUM_BINS, equal_width_bins, ratio

LOG_EDGES = (-8.0, -7.0, -6.0, -5.0, -4.0, -3.0, -2.0, -1.0, float(np.log10(0.5)), 0.0)


class ReliabilityCurve(NamedTuple):
    """One entry for each of B equal-width bins; NaN where a bin is empty."""

    lower: np.ndarray  # [B] left edge, open
    upper: np.ndarray  # [B] right edge, closed
    count: np.ndarray  # [B] int
    confidence: np.ndarray  # [B] mean in the bin
    accuracy: np.ndarray  # [B]
    low: np.ndarray  # [B] Wilson's 95 % interval of the accuracy
    high: np.ndarray  # [B]


def reliability_curve(
    confidence: np.ndarray, correct: np.ndarray, bins: int = NUM_BINS
) -> ReliabilityCurve:
    """What was claimed and what was delivered in each of `bins` equal-width bins.

    Args:
        confidence: [N] in 0..1.
        correct: [N] bool.
        bins: B.
    """
    members = equal_width_bins(confidence, bins)
    count = np.bincount(members, minlength=bins)
    right = np.bincount(members, correct, minlength=bins)
    claimed = np.bincount(members, confidence, minlength=bins)
    used = count > 0
    low, high = np.full((2, bins), np.nan)
    low[used], high[used] = wilson(right[used], count[used])
    edges = np.arange(bins + 1) / bins
    return ReliabilityCurve(
        lower=edges[:-1],
        upper=edges[1:],
        count=count,
        confidence=ratio(claimed, count),
        accuracy=ratio(right, count),
        low=low,
        high=high,
    )


def confidence_histogram(uncertainty: np.ndarray, correct: np.ndarray) -> dict:
    """Counts right and wrong answers by decade of uncertainty.

    Args:
        uncertainty: [N], 1 minus the confidence in the predicted class, from 0 to 1, computed
            without cancellation (`scores` in scores.py gives it).
        correct: [N] bool.

    Returns:
        `edges` [10] (log10 of the uncertainty; the first bin also holds every smaller one, and an
        uncertainty on an edge belongs to the bin below it), `right` [9] and `wrong` [9] counts.
    """
    inner_edges = 10.0 ** np.asarray(LOG_EDGES[1:-1])
    bins = np.searchsorted(inner_edges, uncertainty, side="left")  # [N]
    count = len(inner_edges) + 1
    return {
        "edges": list(LOG_EDGES),
        "right": np.bincount(bins[correct], minlength=count).tolist(),
        "wrong": np.bincount(bins[~correct], minlength=count).tolist(),
    }
