"""A method and images in, log-probabilities out: exactly N predictions for N images."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from research.data.batches import map_batches
from research.data.dataset import Images
from research.mesh import shard
from research.method import Method

Predictor = Callable[[Any, Images], np.ndarray]


def predictor(method: Method, key: jax.Array, batch_size: int, mesh: Mesh) -> Predictor:
    """Compiles `method.predict` once for all splits.

    Args:
        method: what predicts.
        key: fixes the S draws; the same for every batch and every split.
        batch_size: B, a multiple of the number of devices.
        mesh: devices that share a batch.

    Returns:
        (state, images [N, ...]) -> log_probs [S, N, K] float32 on the host.
    """
    compiled = jax.jit(method.predict)

    def predict(state, images):
        def one_batch(batch):
            return compiled(key, state, shard(batch, mesh))

        return map_batches(one_batch, images, batch_size, axis=1)

    return predict
