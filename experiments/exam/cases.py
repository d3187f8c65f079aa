"""The cases of `experiments.exam`: images and labels of a data set, and how a head is trained.

Real images (digits, Fashion-MNIST, CIFAR-10) and generated surfaces. A case that is drawn is sound;
`faults.py` plants a fault in it and `classifier.py` trains the classifier.
"""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np

from experiments.exam import surfaces
from research.diagnosis.head import HeadOptions

SIDE = 32
SIZES = {"train": 600, "valid": 300, "test": 400}
HEAD = HeadOptions(hidden=256, epochs=40, learning_rate=1e-3, weight_decay=1e-2, dropout=0.5)
TRAINED_WITH = "torch"  # the preprocessing of the training


class Case(NamedTuple):
    """Images and labels of a data set, split; and how the head is trained on them."""

    classes: tuple[str, ...]
    images: dict[str, np.ndarray]  # by split: [N, SIDE, SIDE, 3] uint8
    labels: dict[str, np.ndarray]
    head: HeadOptions = HEAD
    keeps_last: bool = False  # the weights after the last epoch, not those of lowest NLL
    knows_training: bool = True
    also_trained_on: tuple[str, ...] = ()  # splits
    form: str = TRAINED_WITH  # the preprocessing when it is evaluated
    change: Callable[[np.ndarray], np.ndarray] = lambda log_probs: log_probs  # of predictions
    new: np.ndarray | None = None  # images to compare with, without labels


@cache
def _all_of(name: str, data_dir: str | None) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Every image that a case may be drawn from, its label, and the classes' names."""
    from research.data.load import load  # TFDS is slow to import

    if name == "inspection":
        return (*surfaces.generate(4_000, seed=1), surfaces.CLASSES)
    spec = name if name == "digits" else f"tfds:{name}"
    dataset = load(spec, image_size=SIDE, limit=6_000, seed=0, data_dir=data_dir, progress=False)
    parts = [dataset.train] if name != "digits" else [dataset.train, dataset.valid, dataset.test]
    images = np.concatenate([np.asarray(p.images[np.arange(len(p.labels))]) for p in parts])
    labels = np.concatenate([part.labels for part in parts])
    if name == "cifar10":  # the base of random filters tells these apart
        chosen = [dataset.classes.index(name) for name in ("airplane", "frog", "truck")]
        kept = np.isin(labels, chosen)
        images, labels = images[kept], np.searchsorted(np.sort(chosen), labels[kept])
        return images, labels.astype(np.int32), tuple(dataset.classes[c] for c in sorted(chosen))
    return images, labels, dataset.classes


def draw(name: str, generator: np.random.Generator, data_dir: str | None) -> Case:
    """A sound case from a data set.

    Args:
        name: "digits", "fashion_mnist", "cifar10" or "inspection".
        generator: decides which images.
        data_dir: where TFDS sets lie.
    """
    images, labels, classes = _all_of(name, data_dir)
    order = generator.permutation(len(labels))
    ends = np.cumsum(list(SIZES.values()))
    index = dict(zip(SIZES, np.split(order[: ends[-1]], ends[:-1]), strict=True))
    return Case(
        classes,
        {split: images[i] for split, i in index.items()},
        {split: labels[i].astype(np.int32) for split, i in index.items()},
    )
