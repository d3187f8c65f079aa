"""The batch of each training step, and every image once for evaluation.

Training order has no state: an epoch's permutation comes from `fold_in(key, epoch)`, so the step
number is the whole position, and a resumed run trains on what an uninterrupted one would have.
Training inside one compiled program has its batches from `epochs.py`.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache

import jax
import numpy as np
from tqdm import tqdm

from research.data.dataset import Images, Split
from research.data.streamed import StreamedImages, ahead
from research.method import Array


def epoch_order(key: jax.Array, epoch: int, n: int) -> np.ndarray:
    """The order of the n training images in an epoch: a permutation [n] of 0..n-1."""
    return np.asarray(jax.random.permutation(jax.random.fold_in(key, epoch), n))


def training_batches(
    split: Split,
    key: jax.Array,
    batch_size: int,
    start_step: int,
    num_steps: int,
    members: int = 1,
) -> Iterator[tuple[np.ndarray | None, np.ndarray]]:
    """The batches of `num_steps` steps, beginning with step `start_step`.

    Batches are full: an epoch is N // B steps, and the images that are left over are not used in
    it.

    Args:
        split: the training split, with at least `batch_size` images.
        key: decides the order; the same for the whole run.
        batch_size: B.
        start_step: the number of the first step.
        num_steps: the number of steps.
        members: M, the number of networks that are trained at once, each in an order of its own.

    Yields:
        (images, indices [M*B]). Streamed images are decoded ahead, [M*B, H, W, 3] uint8; for
        images in memory the first is None, because they live on the device and are gathered there.
    """
    n = len(split.labels)
    keys = [key] if members == 1 else jax.random.split(key, members)

    @lru_cache(maxsize=2)
    def orders(epoch):
        return np.stack([epoch_order(key, epoch, n) for key in keys])  # [M, N]

    def indices_of(step):
        epoch, number = divmod(step, n // batch_size)
        return orders(epoch)[:, number * batch_size : (number + 1) * batch_size].reshape(-1)

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
    function: Callable[[np.ndarray], Array], images: Images, batch_size: int, axis: int = 0
) -> np.ndarray:
    """Applies a function to every image once, batch by batch: N results for N images.

    Args:
        function: [B, ...] -> an array whose axis `axis` is B.
        images: [N, ...], N >= 1.
        batch_size: B.
        axis: the axis of the result that runs over the batch.

    Returns:
        The results, joined along `axis`.
    """
    batches = padded_batches(images, batch_size)
    results = np.concatenate([np.asarray(function(batch)) for batch, _ in batches], axis)
    return results[(slice(None),) * axis + (slice(len(images)),)]
