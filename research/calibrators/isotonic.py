"""Isotonic regression: any map that does not fall, fitted by pooling neighbours.

Zadrozny & Elkan 2002; scikit-learn's `IsotonicRegression`. Between the fitted examples the map is
linear in the log-odds.

Where the lowest scores hold no hit the fit says 0, and one such example in the test split would
make the NLL infinite. So one more example is spread evenly over the K classes: 1/K of a hit at the
lowest score, and (K - 1)/K of a miss at the highest. It is pooled as the others are, so the map
still never falls, and a lowest block of n misses says (1/K) / (n + 1/K).
"""

import numpy as np
from sklearn.isotonic import IsotonicRegression

from research.calibrators import Calibrator
from research.calibrators._one_versus_rest import Map, one_versus_rest


def _fit(scores: np.ndarray, hits: np.ndarray, num_classes: int) -> tuple[Map, int]:
    share = 1 / num_classes
    regression = IsotonicRegression(out_of_bounds="clip")
    regression.fit(
        np.concatenate([scores, [scores.min(), scores.max()]]),
        np.concatenate([hits, [1.0, 0.0]]),
        sample_weight=np.concatenate([np.ones(len(scores)), [share, 1 - share]]),
    )
    return regression.predict, len(np.unique(regression.y_thresholds_))


def isotonic(log_probs: np.ndarray, labels: np.ndarray) -> Calibrator:
    """Fits a map for each class to the averaged prediction; S' = 1.

    Args:
        log_probs: [S, N, K] normalised, of the validation split.
        labels: [N] int.
    """
    return one_versus_rest(_fit, log_probs, labels)
