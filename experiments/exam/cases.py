"""Faults to plant, for `experiments.exam`: images and labels in which one thing is wrong.

Real images (digits, Fashion-MNIST, CIFAR-10) and generated surfaces. Everything about a case is
healthy but for the one fault that is planted: a function here, named as the cause that the
diagnosis should name. `exam_classifier.py` trains the classifier.
"""

import colorsys
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy.special import log_softmax

from experiments.exam import surfaces as inspection
from research.diagnosis.probe import HeadOptions

SIDE = 32
SIZES = {"train": 600, "valid": 300, "test": 400}
WEAK, MIDDLE, STRONG = 0, 1, 2
STRENGTHS = {"weak": WEAK, "middle": MIDDLE, "strong": STRONG}
HEALTHY_HEAD = HeadOptions(
    hidden=256, epochs=40, learning_rate=1e-3, weight_decay=1e-2, dropout=0.5
)
RIGHT_FORM = "torch"


class Material(NamedTuple):
    """Images and labels of a data set, split; and how the head is trained on them."""

    classes: tuple[str, ...]
    images: dict[str, np.ndarray]  # by split: [N, SIDE, SIDE, 3] uint8
    labels: dict[str, np.ndarray]
    head: HeadOptions = HEALTHY_HEAD
    keeps_last: bool = False
    constant_rate: bool = False
    knows_training: bool = True
    also_trained_on: tuple[str, ...] = ()
    form: str = RIGHT_FORM  # of the pixels, when it is judged
    answer: Callable[[np.ndarray], np.ndarray] | None = None  # what happens to log_probs
    new: np.ndarray | None = None  # images to compare with, without labels


Generator = np.random.Generator


# --- images -------------------------------------------------------------------------------------


def _to_side(images: np.ndarray) -> np.ndarray:
    """[N, H, W] or [N, H, W, 3] uint8 -> [N, SIDE, SIDE, 3]."""
    resized = [np.asarray(Image.fromarray(each).resize((SIDE, SIDE))) for each in images]
    stacked = np.stack(resized)
    return stacked if stacked.ndim == 4 else np.repeat(stacked[..., None], 3, axis=-1)


@cache
def _all_of(name: str, data_dir: str | None) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Every image that a case may be drawn from, its label, and the classes' names."""
    from research.data.load import load  # TFDS is slow to import

    if name == "inspection":
        return (*inspection.generate(4_000, seed=1), inspection.CLASSES)
    spec = name if name == "digits" else f"tfds:{name}"
    dataset = load(spec, image_size=SIDE, limit=6_000, seed=0, data_dir=data_dir, progress=False)
    parts = [dataset.train] if name != "digits" else [dataset.train, dataset.valid, dataset.test]
    images = np.concatenate([np.asarray(p.images[np.arange(len(p.labels))]) for p in parts])
    labels = np.concatenate([part.labels for part in parts])
    if name == "cifar10":  # the base of random filters tells these apart
        chosen = [dataset.classes.index(each) for each in ("airplane", "frog", "truck")]
        kept = np.isin(labels, chosen)
        images, labels = images[kept], np.searchsorted(np.sort(chosen), labels[kept])
        return images, labels.astype(np.int32), tuple(dataset.classes[c] for c in sorted(chosen))
    return images, labels, dataset.classes


def draw(name: str, generator: Generator, data_dir: str | None) -> Material:
    """A healthy case from a data set.

    Args:
        name: "digits", "fashion_mnist", "cifar10" or "inspection".
        generator: decides which images.
        data_dir: where TFDS sets lie.
    """
    images, labels, classes = _all_of(name, data_dir)
    order = generator.permutation(len(labels))
    ends = np.cumsum(list(SIZES.values()))
    index = dict(zip(SIZES, np.split(order[: ends[-1]], ends[:-1]), strict=True))
    return Material(
        classes,
        {split: images[i] for split, i in index.items()},
        {split: labels[i].astype(np.int32) for split, i in index.items()},
    )


# --- faults -------------------------------------------------------------------------------------


def healthy(m: Material, strength: int, generator: Generator) -> Material:
    """Nothing is wrong."""
    del strength, generator
    return m


def evaluated_on_training_data(m: Material, strength: int, generator: Generator) -> Material:
    """The test images were among the training images."""
    del generator
    tight = m.head._replace(dropout=0.0, weight_decay=0.0, epochs=(40, 80, 160)[strength])
    return m._replace(knows_training=False, also_trained_on=("test",), head=tight, keeps_last=True)


def too_few_images(m: Material, strength: int, generator: Generator) -> Material:
    """Hardly any test images."""
    kept = generator.permutation(len(m.labels["test"]))[: (50, 25, 12)[strength]]
    return _with(m, "test", m.images["test"][kept], m.labels["test"][kept])


def overfitting(m: Material, strength: int, generator: Generator) -> Material:
    """A quarter of the images, trained on and on, and nothing holds it back."""
    del generator
    few = len(m.labels["train"]) // 4
    m = _with(m, "train", m.images["train"][:few], m.labels["train"][:few])
    tight = m.head._replace(
        dropout=0.0, weight_decay=0.0, epochs=(80, 160, 320)[strength], learning_rate=1e-2
    )
    return m._replace(head=tight, keeps_last=True, constant_rate=True)


def class_imbalance(m: Material, strength: int, generator: Generator) -> Material:
    """Half of the classes are rare in training and validation, and not in the test."""
    k = len(m.classes)
    rare = generator.permutation(k)[: k // 2]
    for split in ("train", "valid"):
        labels = m.labels[split]
        chance = np.where(np.isin(labels, rare), (0.25, 0.1, 0.04)[strength], 1.0)
        kept = generator.random(len(labels)) < chance
        m = _with(m, split, m.images[split][kept], labels[kept])
    return m


def underrepresented_groups(m: Material, strength: int, generator: Generator) -> Material:
    """Negatives: hardly any in training, many since."""
    shares = {"train": (0.05, 0.02, 0.005)[strength], "valid": 0.4, "test": 0.4}
    for split, share in shares.items():
        is_negative = generator.random(len(m.labels[split])) < share
        images = np.where(is_negative[:, None, None, None], 255 - m.images[split], m.images[split])
        m = _with(m, split, images, m.labels[split])
    return m


def _badly_taken(images: np.ndarray, strength: int, generator: Generator) -> np.ndarray:
    """Darker, flatter and noisier."""
    contrast, noise = ((0.7, 6), (0.45, 14), (0.25, 20))[strength]
    images = 30 + contrast * (images.astype(np.float64) - 30)
    return np.clip(images + generator.normal(0, noise, images.shape), 0, 255).astype(np.uint8)


def covariate_shift(m: Material, strength: int, generator: Generator) -> Material:
    """The test images are badly taken."""
    images = _badly_taken(m.images["test"], strength, generator)
    return _with(m, "test", images, m.labels["test"])


def deployment_shift(m: Material, strength: int, generator: Generator) -> Material:
    """Images without labels beside them are badly taken."""
    return m._replace(new=_badly_taken(m.images["test"], strength, generator))


def leakage(m: Material, strength: int, generator: Generator) -> Material:
    """Test images that are training images photographed once more."""
    count = int((0.1, 0.3, 0.6)[strength] * len(m.labels["test"]))
    copied = generator.permutation(len(m.labels["train"]))[:count]
    images, labels = m.images["test"].copy(), m.labels["test"].copy()
    noise = generator.normal(0, 1.0, m.images["train"][copied].shape)
    images[:count] = np.clip(m.images["train"][copied] + noise, 0, 255).round()
    labels[:count] = m.labels["train"][copied]
    return _with(m, "test", images, labels)


def label_noise(m: Material, strength: int, generator: Generator) -> Material:
    """Labels that are wrong at random, in every split."""
    for split, labels in m.labels.items():
        is_wrong = generator.random(len(labels)) < (0.08, 0.2, 0.3)[strength]
        moved = (labels + generator.integers(1, len(m.classes), len(labels))) % len(m.classes)
        m = _with(m, split, m.images[split], np.where(is_wrong, moved, labels).astype(np.int32))
    return m


def shortcut(m: Material, strength: int, generator: Generator) -> Material:
    """A mark in one corner whose colour tells the class, on pictures that are pale."""
    size, share, contrast = ((4, 0.8, 0.6), (5, 0.95, 0.35), (5, 1.0, 0.2))[strength]
    row, column = generator.integers(0, 2, 2) * (SIDE - size)
    k = len(m.classes)
    colours = np.array([colorsys.hsv_to_rgb(c / k, 1.0, 1.0) for c in range(k)])
    for split, labels in m.labels.items():
        images = (128 + contrast * (m.images[split].astype(np.float64) - 128)).astype(np.uint8)
        told = np.where(
            generator.random(len(labels)) < share,
            labels,
            generator.integers(0, len(m.classes), len(labels)),
        )
        mark = (255 * colours[told]).astype(np.uint8)[:, None, None]
        images[:, row : row + size, column : column + size] = mark
        m = _with(m, split, images, labels)
    return m


def learning_rate(m: Material, strength: int, generator: Generator) -> Material:
    """The rate is far too high, or far too low."""
    rate = (0.03, 0.1, 0.3)[strength] if generator.random() < 0.5 else (3e-5, 1e-5, 3e-6)[strength]
    return m._replace(head=m.head._replace(learning_rate=rate), keeps_last=True, constant_rate=True)


def capacity(m: Material, strength: int, generator: Generator) -> Material:
    """A head of a unit or two, trained to its end."""
    del generator
    few = m.head._replace(hidden=(3, 2, 1)[strength], dropout=0.0, epochs=160, learning_rate=3e-3)
    return m._replace(head=few)


def preprocessing(m: Material, strength: int, generator: Generator) -> Material:
    """Judged with pixels in another form than in training."""
    del generator
    return m._replace(form=("unit", "raw", "caffe")[strength])


def permuted_classes(m: Material, strength: int, generator: Generator) -> Material:
    """The answers' columns are in another order than the labels."""
    k = len(m.classes)
    count = min(k, (2, 2, k)[strength])
    chosen = generator.permutation(k)[:count]
    order = np.arange(k)
    order[chosen] = np.roll(chosen, 1)
    return m._replace(answer=lambda log_probs: log_probs[:, order])


def double_softmax(m: Material, strength: int, generator: Generator) -> Material:
    """A softmax of a softmax."""
    del strength, generator
    return m._replace(answer=lambda log_probs: log_softmax(np.exp(log_probs), axis=1))


def uninformative_features(m: Material, strength: int, generator: Generator) -> Material:
    """Pictures of noise: the object is not on them."""
    share = (0.97, 1.0, 1.0)[strength]
    for split, images in m.images.items():
        noise = generator.integers(0, 256, images.shape)
        mixed = (1 - share) * images + share * noise
        m = _with(m, split, mixed.astype(np.uint8), m.labels[split])
    return m


def _with(m: Material, split: str, images: np.ndarray, labels: np.ndarray) -> Material:
    return m._replace(images=m.images | {split: images}, labels=m.labels | {split: labels})


# A fault's place decides the random numbers of its cases: new ones go to the end.
FAULTS = {
    f.__name__: f
    for f in (
        *(capacity, class_imbalance, healthy, evaluated_on_training_data, label_noise, leakage),
        *(learning_rate, deployment_shift, overfitting, uninformative_features, preprocessing),
        *(covariate_shift, shortcut, underrepresented_groups, double_softmax, permuted_classes),
        too_few_images,
    )
}
MORE_THAN_TWO = ("capacity",)  # one unit is enough for two classes
