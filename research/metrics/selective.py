"""Selective classification: how right are the answers that it is most sure of?

Rank the examples by uncertainty, lowest first; coverage c keeps the first c N of them; the risk at
c is the share of errors among those (Geifman & El-Yaniv 2017; AURC and E-AURC: Geifman, Uziel &
El-Yaniv 2019).

Examples of equal uncertainty have no order, so every number here is the expected value over a
random one: within a group of n tied examples with e errors, each position holds e / n errors.
"""

import numpy as np
from scipy.special import xlog1py

from research.metrics.weighted import bin_sums, ratio, tie_groups, weighted


def _ranked(
    uncertainty: np.ndarray, wrong: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Examples and errors in each group of equal uncertainty, lowest first: two [G, R]."""
    groups, size = tie_groups(uncertainty)
    examples = bin_sums(groups, np.ones(len(groups)), weights, size)
    return examples, bin_sums(groups, wrong, weights, size)


@weighted
def aurc(uncertainty: np.ndarray, wrong: np.ndarray, *, weights: np.ndarray) -> np.ndarray:
    """Area under the risk-coverage curve: 1/N Σ_{j=1..N} risk(j / N). 0 is best.

    A tied group that follows C examples with E errors adds, at its positions j = 1..n, the risks
    (E + j e/n) / (C + j), whose sum is e + (E - C e/n) (H(C + n) - H(C)), H the harmonic numbers.

    Args:
        uncertainty: [N] 1 - confidence, or any other score that is higher for the less sure.
        wrong: [N] bool.
        weights: [R, N] whole numbers.
    """
    n, errors = _ranked(uncertainty, wrong, weights)
    after, errors_after = np.cumsum(n, axis=0), np.cumsum(errors, axis=0)
    harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, after.max() + 1))])
    rise = harmonic[after.astype(np.int64)]
    rise[1:] -= rise[:-1].copy()
    before = after - n
    risks = errors + (errors_after - errors - before * ratio(errors, n, empty=0.0)) * rise
    return risks.sum(axis=0) / weights.sum(axis=1)


@weighted
def e_aurc(uncertainty: np.ndarray, wrong: np.ndarray, *, weights: np.ndarray) -> np.ndarray:
    """Excess AURC: AURC - (r + (1 - r) ln(1 - r)), r the error rate.

    About 0 where every error comes last: the second term is that ranking's AURC for large N.
    """
    rate = weights @ np.asarray(wrong, np.float64) / weights.sum(axis=1)
    return aurc(uncertainty, wrong, weights=weights) - (rate + xlog1py(1 - rate, -rate))


def kept(coverage: float, total: float | np.ndarray) -> float | np.ndarray:
    """How many of `total` examples a coverage keeps: at least one."""
    return np.maximum(1, np.round(coverage * total))


@weighted
def accuracy_at_coverage(
    uncertainty: np.ndarray, wrong: np.ndarray, coverage: float, *, weights: np.ndarray
) -> np.ndarray:
    """Accuracy of the `coverage` N examples with the least uncertainty."""
    n, errors = _ranked(uncertainty, wrong, weights)
    keep = kept(coverage, weights.sum(axis=1))  # [R]
    last = np.argmax(np.cumsum(n, axis=0) >= keep, axis=0)[None]  # [1, R] the group cut through
    before, errors_before, size, errors_in = (
        np.take_along_axis(x, last, axis=0)[0]
        for x in (np.cumsum(n, axis=0) - n, np.cumsum(errors, axis=0) - errors, n, errors)
    )
    return 1 - (errors_before + (keep - before) * errors_in / size) / keep
