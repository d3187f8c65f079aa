"""What the classifier claims, beside what it delivers."""

import numpy as np

from research.metrics.weighted import bin_sums, mean, ratio, tie_groups, weighted


@weighted
def average(values: np.ndarray, *, weights: np.ndarray) -> np.ndarray:
    """Mean of a number [N], or share of true values: of `Scores.correct` it is the accuracy."""
    return mean(values, weights)


@weighted
def confidence_on_errors(
    confidence: np.ndarray, correct: np.ndarray, *, weights: np.ndarray
) -> np.ndarray:
    """Mean confidence of the wrong answers; NaN where there are none."""
    wrong = 1.0 - correct
    return ratio(weights @ (confidence * wrong), weights @ wrong)


@weighted
def share_identical(confidence: np.ndarray, *, weights: np.ndarray) -> np.ndarray:
    """Share of answers that show the most common confidence, in float32 as a person sees it."""
    groups, size = tie_groups(confidence.astype(np.float32))
    counts = bin_sums(groups, np.ones(len(groups)), weights, size)
    return counts.max(axis=0) / weights.sum(axis=1)
