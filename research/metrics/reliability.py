"""The reliability diagram: accuracy against confidence, bin by bin, with intervals.

After DeGroot & Fienberg 1983 and Niculescu-Mizil & Caruana 2005. On the diagonal, what is claimed
is delivered; below it, the classifier is over-confident.
"""

from typing import NamedTuple

import numpy as np

from research.metrics.bins import NUM_BINS, equal_width_bins
from research.metrics.intervals import wilson
from research.metrics.weighted import bin_sums, ratio


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
    each = np.ones((1, len(members)))
    count = bin_sums(members, each[0], each, bins)[:, 0]
    right = bin_sums(members, correct, each, bins)[:, 0]
    claimed = bin_sums(members, confidence, each, bins)[:, 0]
    used = count > 0
    low, high = np.full((2, bins), np.nan)
    low[used], high[used] = wilson(right[used], count[used])
    edges = np.arange(bins + 1) / bins
    return ReliabilityCurve(
        lower=edges[:-1],
        upper=edges[1:],
        count=count.astype(np.int64),
        confidence=ratio(claimed, count),
        accuracy=ratio(right, count),
        low=low,
        high=high,
    )
