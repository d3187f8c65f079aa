"""Calibration error: of the answers given with confidence c, is the share c right?

Top-label calibration compares the confidence of the predicted class with whether it is right.
Every error over bins is a plug-in estimate, so noise makes it positive even for a perfect model;
`perfectly_calibrated_ece` says how large it would be.

Guo et al. 2017 (ECE, MCE); Nixon et al. 2019 (class-wise); Kumar, Liang & Ma 2019 (debiased);
Gupta et al. 2021 (KS).
"""

import numpy as np

from research.metrics.intervals import SIMULATED, Estimate, chunks
from research.metrics.weighted import (
    NUM_BINS,
    bin_sums,
    equal_mass_bins,
    equal_width_bins,
    ratio,
    tie_groups,
    weighted,
)


@weighted
def binned_error(
    probs: np.ndarray, outcomes: np.ndarray, bins: np.ndarray, *, weights: np.ndarray
) -> np.ndarray:
    """Σ_b n_b/N |p̄_b - ȳ_b| = 1/N Σ_b |Σ_{i in b} (p_i - y_i)|, over bins [N] of probs [N]."""
    gaps = bin_sums(bins, probs - outcomes, weights, bins.max() + 1)  # [B, R]
    return np.abs(gaps).sum(axis=0) / weights.sum(axis=1)


@weighted
def ece(confidence: np.ndarray, correct: np.ndarray, *, weights: np.ndarray) -> np.ndarray:
    """Expected calibration error of the top label: 15 equal-width bins (Guo et al. 2017, eq. 3)."""
    return binned_error(confidence, correct, equal_width_bins(confidence), weights=weights)


@weighted
def equal_mass_ece(
    confidence: np.ndarray, correct: np.ndarray, *, weights: np.ndarray
) -> np.ndarray:
    """ECE over 15 bins of equal count, ties together (Nguyen & O'Connor 2015)."""
    return binned_error(confidence, correct, equal_mass_bins(confidence), weights=weights)


@weighted
def positive_class_ece(probs: np.ndarray, labels: np.ndarray, *, weights: np.ndarray) -> np.ndarray:
    """The other binary convention: p(class 1) of [N, 2] against 1[y = 1], 15 equal-width bins."""
    positive = probs[:, 1]
    return binned_error(positive, labels == 1, equal_width_bins(positive), weights=weights)


@weighted
def class_wise_ece(probs: np.ndarray, labels: np.ndarray, *, weights: np.ndarray) -> np.ndarray:
    """Static calibration error (Nixon et al. 2019) of probs [N, K].

    It is the mean over classes of the ECE of p_k against 1[y = k], 15 equal-width bins.
    """
    num_classes = probs.shape[1]
    bins = equal_width_bins(probs) + NUM_BINS * np.arange(num_classes)  # [N, K]
    gaps = bin_sums(bins, probs - np.eye(num_classes)[labels], weights, NUM_BINS * num_classes)
    return np.abs(gaps).sum(axis=0) / weights.sum(axis=1) / num_classes


@weighted
def mce(confidence: np.ndarray, correct: np.ndarray, *, weights: np.ndarray) -> np.ndarray:
    """Maximum calibration error max_b |p̄_b - ȳ_b|, 15 equal-width bins (Guo et al. 2017, eq. 5).

    A bin with one example in it counts as much as any other: read it with the diagram.
    """
    bins = equal_width_bins(confidence)
    gaps = bin_sums(bins, confidence - correct, weights, NUM_BINS)
    counts = bin_sums(bins, np.ones(len(bins)), weights, NUM_BINS)
    return np.max(np.abs(ratio(gaps, counts, empty=0.0)), axis=0)


@weighted
def debiased_error(
    probs: np.ndarray, outcomes: np.ndarray, bins: np.ndarray, *, weights: np.ndarray
) -> np.ndarray:
    """sqrt(max(0, Σ_b n_b/N [(p̄_b - ȳ_b)² - ȳ_b (1 - ȳ_b) / (n_b - 1)])), over bins [N].

    The noise that a bin's mean carries is taken off (Kumar, Liang & Ma 2019). Bins of fewer than
    two examples, which cannot tell their noise, count 0.
    """
    size = bins.max() + 1
    counts = bin_sums(bins, np.ones(len(bins)), weights, size)  # [B, R]
    gaps = ratio(bin_sums(bins, probs - outcomes, weights, size), counts, empty=0.0)
    rates = ratio(bin_sums(bins, outcomes, weights, size), counts, empty=0.0)
    noise = ratio(rates * (1 - rates), counts - 1, empty=0.0)
    squares = np.where(counts >= 2, counts * (gaps**2 - noise), 0.0)
    return np.sqrt(np.maximum(squares.sum(axis=0) / weights.sum(axis=1), 0.0))


@weighted
def debiased_ece(confidence: np.ndarray, correct: np.ndarray, *, weights: np.ndarray) -> np.ndarray:
    """Debiased L2 calibration error of the top label, 15 equal-mass bins (Kumar et al. 2019)."""
    return debiased_error(confidence, correct, equal_mass_bins(confidence), weights=weights)


@weighted
def ks_error(confidence: np.ndarray, correct: np.ndarray, *, weights: np.ndarray) -> np.ndarray:
    """Kolmogorov-Smirnov calibration error (Gupta et al. 2021): no bins.

    Sorted by confidence, max_j |Σ_{i≤j} (c_i - correct_i)| / N; tied confidences enter at once.
    """
    groups, size = tie_groups(confidence)
    gaps = bin_sums(groups, confidence - correct, weights, size)  # [G, R]
    return np.abs(np.cumsum(gaps, axis=0)).max(axis=0) / weights.sum(axis=1)


def perfectly_calibrated_ece(
    confidence: np.ndarray, *, seed: int = 0, replicates: int = 1000
) -> Estimate:
    """The ECE that noise alone gives: each answer right with exactly the probability claimed.

    Simulates correct_i ~ Bernoulli(confidence_i). The mean, and the range of 95 % of simulations.
    """
    generator = np.random.default_rng(seed)
    num_examples = len(confidence)
    bins = equal_width_bins(confidence)
    each = np.ones(num_examples)
    claimed = bin_sums(bins, confidence, each[None], NUM_BINS)  # [B, 1]
    errors = []
    for chunk in chunks(replicates, num_examples):
        correct = generator.random((chunk, num_examples)) < confidence
        right = bin_sums(bins, each, correct, NUM_BINS)  # [B, r]
        errors.append(np.abs(claimed - right).sum(axis=0) / num_examples)
    errors = np.concatenate(errors)
    low, high = np.quantile(errors, [0.025, 0.975])
    return Estimate(float(errors.mean()), float(low), float(high), SIMULATED)
