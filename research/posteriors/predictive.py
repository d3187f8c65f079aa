"""A method and images in, log-probabilities out: exactly N predictions for N images.

Each network is drawn once for many batches and applied to one batch after another, so that S draws
cost S forward passes and no more memory than one. Draws that share most of their work (a random
head on one base) are computed together instead: the shared part then runs once.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from tqdm import tqdm

from research.data.batches import map_batches
from research.data.dataset import Images
from research.data.streamed import StreamedImages
from research.method import Method, predict
from research.runtime.mesh import shard

Predictor = Callable[[Any, Images], np.ndarray]
BLOCK = 4096  # streamed images that are decoded once for all draws


def predictor(
    method: Method,
    key: jax.Array,
    batch_size: int,
    mesh: Mesh | None = None,
    most_draws: int | None = None,
    progress: str | None = None,
) -> Predictor:
    """Compiles the prediction once for all splits.

    Args:
        method: the method that predicts.
        key: decides the S draws; they are the same for every batch and every split.
        batch_size: B, a multiple of the number of devices in `mesh`.
        mesh: the devices that share a batch; None: a batch goes to where the state is.
        most_draws: the largest number of draws where each costs a forward pass; None: no limit.
        progress: the name of a progress bar over the draws, on a terminal; None: no bar.

    Returns:
        (state, images [N, ...]) -> log_probs [S, N, K] float32 on the host.
    """

    def put(batch):
        return batch if mesh is None else shard(batch, mesh)

    if method.vectorised:
        all_draws = jax.jit(lambda key, state, images: predict(method, key, state, images))
        return lambda state, images: map_batches(
            lambda batch: all_draws(key, state, put(batch)), images, batch_size, axis=1
        )

    draw, apply = jax.jit(method.draw), jax.jit(method.apply)
    count = min(method.num_draws, most_draws or method.num_draws)
    # Spread out, so that all members of an ensemble are among them.
    indices = np.linspace(0, method.num_draws - 1, count).astype(np.int32)

    def one_after_another(state, images):
        log_probs, disable = [], None if progress else True
        for index in tqdm(indices, desc=progress, unit="draw", leave=False, disable=disable):
            network = draw(key, state, index)
            run = partial(lambda network, batch: apply(network, put(batch)), network)
            log_probs.append(map_batches(run, images, batch_size))
        return np.stack(log_probs)

    def predict_blocks(state, images):
        if not isinstance(images, StreamedImages):
            return one_after_another(state, images)
        starts = range(0, len(images), BLOCK)
        blocks = (images[np.arange(s, min(s + BLOCK, len(images)))] for s in starts)
        return np.concatenate([one_after_another(state, block) for block in blocks], axis=1)

    return predict_blocks
