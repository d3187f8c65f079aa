"""Metrics as functions of weights, so that all bootstrap resamples are computed at once.

A bootstrap resample is a vector of counts: how often each example was drawn. A metric that takes
the counts as weights [R, N] computes R resamples at once: a mean is a matrix product, and an error
over bins, or over groups of tied confidences, is a sum per bin. Everything here is float64.

Equal-width bins are ((m-1)/M, m/M], closed on the right (Guo et al. 2017, section 2), with p = 0 in
the first. Equal-mass bins hold the same number of examples each (Nguyen & O'Connor 2015), but tied
values never part: where most confidences are exactly 1.0 they share one bin, and none is lost.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np
from scipy.sparse import csr_array
from scipy.stats import rankdata

NUM_BINS = 15
# Log-probabilities come as float32, so a probability that is meant to lie on an edge (0.6 = 9/15)
# lies up to about 1e-7 beside it. A probability this near to an edge belongs to the bin below it.
EDGE = 1e-6


def weighted(metric: Callable[..., np.ndarray]) -> Callable[..., Any]:
    """Lets a metric over weights [R, N] be called without any.

    The metric itself is written once, for `weights` [R, N], and returns [R]. Called with
    `weights=None` it sees each example once and gives a float; N is the length of its first
    argument. Where it is undefined (no errors, one class) it is NaN.
    """

    @wraps(metric)
    def call(first, *args, weights: np.ndarray | None = None, **kwargs):
        if weights is None:
            return float(metric(first, *args, weights=np.ones((1, len(first))), **kwargs)[0])
        return metric(first, *args, weights=np.asarray(weights, np.float64), **kwargs)

    return call


def ratio(numerator: np.ndarray, denominator: np.ndarray, empty: float = np.nan) -> np.ndarray:
    """`numerator / denominator`, and `empty` where the denominator is 0."""
    numerator, denominator = np.broadcast_arrays(numerator, denominator)
    out = np.full(numerator.shape, empty, np.float64)
    return np.divide(numerator, denominator, out=out, where=denominator != 0)


def mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted mean [R] of `values` [N]."""
    return weights @ np.asarray(values, np.float64) / weights.sum(axis=1)


def bin_sums(bins: np.ndarray, values: np.ndarray, weights: np.ndarray, size: int) -> np.ndarray:
    """Sum of weight times value in each bin.

    Args:
        bins: [N] int, 0..size-1; or [N, K], when each example lies in K bins.
        values: values of the same shape as `bins`.
        weights: [R, N].
        size: the number of bins.

    Returns:
        [size, R]
    """
    rows, *_ = used = np.nonzero(values)  # labels and errors are mostly zero: skip those
    entries = np.asarray(values, np.float64)[used]
    select = csr_array((entries, (bins[used], rows)), shape=(size, weights.shape[1]))
    return select @ weights.T


def tie_groups(score: np.ndarray) -> tuple[np.ndarray, int]:
    """Groups of equal scores, lowest first: the group of each example [N], how many there are.

    Examples of one score cannot be told apart, so no metric may depend on their order.
    """
    distinct, groups = np.unique(score, return_inverse=True)
    return groups, len(distinct)


def equal_width_bins(probs: np.ndarray, num_bins: int = NUM_BINS) -> np.ndarray:
    """Bin numbers 0..num_bins-1, of the shape of `probs`."""
    edges = np.arange(1, num_bins) / num_bins
    return np.searchsorted(edges + EDGE, probs, side="left")


def equal_mass_bins(probs: np.ndarray, num_bins: int = NUM_BINS) -> np.ndarray:
    """Bin numbers 0..num_bins-1 [N] of `probs` [N], by rank.

    Tied values share their mean rank, and so their bin. In a bootstrap the bins stay those of the
    original sample.
    """
    ranks = rankdata(probs) - 0.5
    return (ranks * num_bins / len(probs)).astype(np.int64)
