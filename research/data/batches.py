"""Which images a step sees, and every image once for evaluation.

Training order has no state: an epoch's permutation comes from `fold_in(key, epoch)`, so the step
number is the whole position and a resumed run sees what an uninterrupted one would have seen.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache

import jax
import numpy as np
from tqdm import tqdm

from research.data.dataset import Images, Split
from research.data.streamed import StreamedImages, ahead


def epoch_order(key: jax.Array, epoch: int, n: int) -> np.ndarray:
    """The order of the n training images in an epoch: a permutation [n] of 0..n-1."""
    return np.asarray(jax.random.permutation(jax.random.fold_in(key, epoch), n))


def _place(step: int, n: int, batch_size: int) -> tuple[int, int]:
    """(epoch, first place in its order) of a step's batch."""
    epoch, batch = divmod(step, n // batch_size)
    return epoch, batch * batch_size


def batch_indices(key: jax.Array, step: int, n: int, batch_size: int) -> np.ndarray:
    """The images of a training step: [batch_size] indices below n.

    Batches are full: an epoch is n // batch_size steps, and what is left of its order is not seen
    in it. The caller sees to it that batch_size <= n.
    """
    epoch, start = _place(step, n, batch_size)
    return epoch_order(key, epoch, n)[start : start + batch_size]


def training_batches(
    split: Split,
    key: jax.Array,
    batch_size: int,
    start_step: int,
    num_steps: int,
    members: int = 1,
) -> Iterator[tuple[np.ndarray | None, np.ndarray]]:
    """The batches of `num_steps` steps, beginning with step `start_step`.

    Args:
        split: what to train on, with at least `batch_size` images.
        key: of the data; the same for the whole run.
        batch_size: B.
        start_step: the number of the first step.
        num_steps: how many steps.
        members: M networks that are trained at once, each in an order of its own.

    Yields:
        (images, indices [M*B]). Streamed images are decoded ahead, [M*B, H, W, 3] uint8; for
        images in memory the first is None, because they live on the device and are gathered there.
    """
    n = len(split.labels)
    keys = [key] if members == 1 else jax.random.split(key, members)

    @lru_cache(maxsize=2)
    def orders(epoch):
        return np.stack([epoch_order(each, epoch, n) for each in keys])  # [M, N]

    def indices_of(step):
        epoch, start = _place(step, n, batch_size)
        return orders(epoch)[:, start : start + batch_size].reshape(-1)

    stop = start_step + num_steps
    if not isinstance(split.images, StreamedImages):
        return ((None, indices_of(step)) for step in range(start_step, stop))

    def batch_of(step):
        indices = indices_of(step)
        return split.images[indices], indices

    return ahead(batch_of, start_step, stop)


def padded_batches(
    images: Images, batch_size: int, progress: str | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Every image once, in batches of one size, so that what is computed of them compiles once.

    Args:
        images: [N, ...], N >= 1.
        batch_size: B.
        progress: the name of a progress bar, shown on a terminal; None: no bar.

    Returns:
        Pairs of images [B, ...] and `present` [B] float32: 1, or 0 for the copies of the last
        batch's first image that fill it up.
    """
    n = len(images)

    def batch_of(number):
        index = np.arange(number * batch_size, (number + 1) * batch_size)
        present = index < n
        return images[np.where(present, index, index[0])], present.astype(np.float32)

    count = -(-n // batch_size)
    streamed = isinstance(images, StreamedImages)
    batches = ahead(batch_of, 0, count) if streamed else map(batch_of, range(count))
    disable = None if progress else True  # None: where there is no terminal
    return iter(
        tqdm(batches, desc=progress, total=count, unit="batch", leave=False, disable=disable)
    )


def map_batches(
    function: Callable[[np.ndarray], jax.Array], images: Images, batch_size: int, axis: int = 0
) -> np.ndarray:
    """Applies a function to every image once, batch by batch: N results for N images.

    Args:
        function: [B, ...] -> an array whose axis `axis` is B.
        images: [N, ...], N >= 1.
        batch_size: B.
        axis: where the result has the batch.

    Returns:
        The results, joined along `axis`.
    """
    batches = padded_batches(images, batch_size)
    results = np.concatenate([np.asarray(function(batch)) for batch, _ in batches], axis)
    return results[(slice(None),) * axis + (slice(len(images)),)]
