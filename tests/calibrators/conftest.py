"""Predictions whose labels follow a known distortion of them."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy.special import log_softmax


@pytest.fixture(scope="session")
def distorted() -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """log_probs [1, N, K] float64, with labels drawn from softmax(scale * log_probs + bias)."""

    def make(seed, n, scale, bias, spread=4.0):
        generator = np.random.default_rng(seed)
        log_probs = log_softmax(spread * generator.normal(size=(n, len(bias))), axis=1)
        gumbel = generator.gumbel(size=log_probs.shape)
        return log_probs[None], np.argmax(np.multiply(scale, log_probs) + bias + gumbel, axis=1)

    return make
