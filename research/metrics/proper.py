"""Proper scores: an honest probability, and nothing else, makes their expectation best.

The Brier score (Brier 1950), Σ_k (p_k - y_k)² with y one-hot, splits over bins of p_k (Murphy
1973): brier = reliability - resolution + uncertainty. With finite bins that holds only if the
spread within a bin is counted; resolution here is the generalised one of Stephenson, Coelho &
Jolliffe (2008), with which the identity is exact. Per class, over bins b of n_b examples,

    reliability  = 1/N Σ_b n_b (p̄_b - ȳ_b)²
    resolution   = 1/N Σ_b n_b (ȳ_b - ȳ)² - 1/N Σ_i (p_i - p̄_b)² + 2/N Σ_i (p_i - p̄_b)(y_i - ȳ_b)
    uncertainty  = ȳ (1 - ȳ)

and each is summed over the classes. Bins: 15 of equal width, as for ECE.
"""

import numpy as np

from research.metrics.weighted import NUM_BINS, bin_sums, equal_width_bins, mean, ratio, weighted


def one_hot(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """[N, K] float64."""
    return np.eye(num_classes)[labels]


@weighted
def nll(losses: np.ndarray, *, weights: np.ndarray) -> np.ndarray:
    """Negative log-likelihood, -1/N Σ_i log p_i(y_i), in nats (log score: Good 1952).

    Infinite where one label was given probability exactly 0.
    """
    impossible = np.isinf(losses)
    finite = mean(np.where(impossible, 0.0, losses), weights)
    return np.where(weights @ impossible > 0, np.inf, finite)


@weighted
def brier(probs: np.ndarray, labels: np.ndarray, *, weights: np.ndarray) -> np.ndarray:
    """Brier score 1/N Σ_i Σ_k (p_ik - y_ik)², from 0 to 2 (Brier 1950)."""
    return mean(np.sum((probs - one_hot(labels, probs.shape[1])) ** 2, axis=1), weights)


def _class_bins(probs: np.ndarray, outcomes: np.ndarray, weights: np.ndarray) -> tuple:
    """Count, sum of p and sum of y in each class's bins, each [B * K, R]."""
    num_classes = probs.shape[1]
    bins = equal_width_bins(probs) + NUM_BINS * np.arange(num_classes)  # [N, K]
    size = NUM_BINS * num_classes
    return tuple(bin_sums(bins, x, weights, size) for x in (np.ones_like(probs), probs, outcomes))


@weighted
def brier_reliability(probs: np.ndarray, labels: np.ndarray, *, weights: np.ndarray) -> np.ndarray:
    """1/N Σ_k Σ_b n_b (p̄_b - ȳ_b)²: squared calibration error, class-wise. 0 is best."""
    n, p, y = _class_bins(probs, one_hot(labels, probs.shape[1]), weights)
    return ratio((p - y) ** 2, n, empty=0.0).sum(axis=0) / weights.sum(axis=1)


@weighted
def brier_resolution(probs: np.ndarray, labels: np.ndarray, *, weights: np.ndarray) -> np.ndarray:
    """Generalised resolution: how far the probabilities sort the classes. Higher is better."""
    outcomes = one_hot(labels, probs.shape[1])
    n, p, y = _class_bins(probs, outcomes, weights)
    between_bins = ratio(y**2, n, empty=0.0).sum(axis=0) - _squared_rates(outcomes, weights)
    variance = weights @ np.sum(probs**2, axis=1) - ratio(p**2, n, empty=0.0).sum(axis=0)
    products = weights @ np.sum(probs * outcomes, axis=1)
    covariance = products - ratio(p * y, n, empty=0.0).sum(axis=0)
    return (between_bins - variance + 2 * covariance) / weights.sum(axis=1)


@weighted
def brier_uncertainty(labels: np.ndarray, num_classes: int, *, weights: np.ndarray) -> np.ndarray:
    """Σ_k ȳ_k (1 - ȳ_k): the Brier score of answering the classes' shares every time."""
    totals = weights.sum(axis=1)
    return 1 - _squared_rates(one_hot(labels, num_classes), weights) / totals


def _squared_rates(outcomes: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """N Σ_k ȳ_k² [R]."""
    return np.sum((weights @ outcomes) ** 2, axis=1) / weights.sum(axis=1)
