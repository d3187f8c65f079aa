"""The input of most calibrators: the average of the draws, exact at 0.999999."""

import numpy as np
from scipy.special import logsumexp

from research.metrics.scores import predictive

# A probability of exactly 0 is one too small for float32. The smallest float32 takes its place.
FLOOR = float(np.log(np.finfo(np.float32).smallest_subnormal))


def floored(log_probs: np.ndarray) -> np.ndarray:
    """Log-probabilities in float64, with `FLOOR` for -inf."""
    log_probs = np.asarray(log_probs, np.float64)
    return np.where(np.isneginf(log_probs), FLOOR, log_probs)


def averaged(log_probs: np.ndarray) -> np.ndarray:
    """Log-probabilities of the mean of S draws, finite.

    Args:
        log_probs: [S, N, K] normalised.

    Returns:
        [N, K] float64.

    Raises:
        UserError: a row is not a distribution.
    """
    return floored(predictive(log_probs).log_probs)


def log_odds(log_probs: np.ndarray) -> np.ndarray:
    """log p_k - log(1 - p_k) of every class, without cancellation.

    Where p_k is near 1, 1 - p_k is summed from the other classes, so that 0.999999 and 0.99999999
    stay as far apart as the network put them.

    Args:
        log_probs: [N, K] float64, as from `averaged`.

    Returns:
        [N, K]
    """
    top = np.argmax(log_probs, axis=1)[:, None]  # [N, 1]
    others = log_probs.copy()
    np.put_along_axis(others, top, -np.inf, axis=1)
    log_rest = np.log1p(-np.minimum(np.exp(others), 0.5))  # [N, K]; only the top is above a half
    np.put_along_axis(log_rest, top, logsumexp(others, axis=1, keepdims=True), axis=1)
    return log_probs - log_rest
