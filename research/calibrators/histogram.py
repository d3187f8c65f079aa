"""Histogram binning: a probability becomes the share of hits in its bin.

Zadrozny & Elkan 2001, Obtaining Calibrated Probability Estimates. The bins hold equally many
validation examples, ties together; the one with p = 1/2 in it is split there, or in a network that
is always sure it would mix sure yeses with sure noes. A bin of n examples and s hits says

    (s + 1/K) / (n + 1),

the share with one more example spread evenly over the K classes (Perks 1947): never 0, and small
beside the rest however many classes there are.
"""

import numpy as np

from research.calibrators import Calibrator
from research.calibrators._one_versus_rest import Map, one_versus_rest
from research.metrics.weighted import NUM_BINS, equal_mass_bins


def _fit(scores: np.ndarray, hits: np.ndarray, num_classes: int) -> tuple[Map, int]:
    bins = 2 * equal_mass_bins(scores, NUM_BINS) + (scores > 0)
    used, members = np.unique(bins, return_inverse=True)
    count, right = np.bincount(members), np.bincount(members, weights=hits)
    values = (right + 1 / num_classes) / (count + 1)
    upper = np.array([scores[members == b].max() for b in range(len(used))])
    lower = np.array([scores[members == b].min() for b in range(len(used))])
    edges = (upper[:-1] + lower[1:]) / 2
    return lambda scores: values[np.searchsorted(edges, scores)], len(used)


def histogram(log_probs: np.ndarray, labels: np.ndarray) -> Calibrator:
    """Fits the bins of each class to the averaged prediction; S' = 1.

    Args:
        log_probs: [S, N, K] normalised, of the validation split.
        labels: [N] int.
    """
    return one_versus_rest(_fit, log_probs, labels)
