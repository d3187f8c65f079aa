"""The frozen base runs once; its features are the data set of the head.

Methods need not know: the model they get is only the head, and the images they get are features.
"""

import hashlib
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from tqdm import tqdm

from research.data.batches import map_batches
from research.data.dataset import Dataset
from research.runtime.files import write_whole
from research.runtime.mesh import replicate, shard
from research.runtime.run import Run

BATCH = 32  # images at least


class Featured(NamedTuple):
    """A data set of features."""

    dataset: Dataset  # `images` are features [N, ...] float32
    milliseconds_per_image: float  # the time of the base, without compiling it


def identify(program: str, params, dataset: Dataset) -> str:
    """A digest that differs when the program, its weights or the images differ."""
    digest = hashlib.sha256(f"{program}{dataset.fingerprint}".encode())
    for leaf in jax.tree.leaves(params):
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()[:16]


def compute_features(apply: Callable, params: dict, dataset: Dataset, run: Run) -> Featured:
    """Runs the base over every split, once: the result is kept in the run's folder.

    It is computed anew when the base, its preprocessing or the images have changed.

    Args:
        apply: (params, images [B, H, W, 3] uint8) -> features [B, ...]; jittable.
        params: weights of the base.
        dataset: images.
        run: its devices share a batch, and `features-*.npy` are kept in its folder `features`.
    """
    batch_size, directory, mesh = run.batch(BATCH), run.directory / "features", run.mesh
    on_device = replicate(params, mesh)
    first = np.repeat(dataset.test.example, batch_size, axis=0)
    lowered = jax.jit(apply).lower(on_device, shard(first, mesh))
    compiled, digest = lowered.compile(), identify(lowered.as_text(), params, dataset)
    splits = {}
    total = sum(len(split.labels) for split in dataset.splits.values())
    bar = tqdm(total=total, desc="running the base", unit="image", disable=None)

    def one_batch(images):
        features = np.asarray(compiled(on_device, shard(images, mesh)))
        bar.update(min(batch_size, total - bar.n))
        return features

    directory.mkdir(parents=True, exist_ok=True)
    with bar:
        np.asarray(compiled(on_device, shard(first, mesh)))  # warms up
        started = time.perf_counter()
        np.asarray(compiled(on_device, shard(first, mesh)))
        milliseconds = 1e3 * (time.perf_counter() - started) / batch_size
        for name, split in dataset.splits.items():
            path = directory / f"features-{name}-{digest}.npy"
            if not path.exists():
                features = map_batches(one_batch, split.images, batch_size, axis=0)
                write_whole(path, lambda part, x=features: np.save(part, x, allow_pickle=False))
            splits[name] = split._replace(images=np.load(path, allow_pickle=False))
    for path in directory.glob("features-*.npy"):
        if digest not in path.name:  # never read again
            path.unlink()
    return Featured(dataset._replace(**splits, fingerprint=digest), milliseconds)
