"""Faults to plant, for `experiments.exam`: one thing is wrong, and everything else is sound.

Each fault is a function, named after the cause that the diagnosis should name.
"""

import colorsys

import numpy as np
from scipy.special import log_softmax

from experiments.exam.cases import SIDE, Case

WEAK, MIDDLE, STRONG = 0, 1, 2
STRENGTHS = {"weak": WEAK, "middle": MIDDLE, "strong": STRONG}
NO_FAULT = "healthy"  # the name of a case in which nothing is wrong

Generator = np.random.Generator


def no_fault(case: Case, strength: int, generator: Generator) -> Case:
    """Nothing is wrong."""
    del strength, generator
    return case


def evaluated_on_training_data(case: Case, strength: int, generator: Generator) -> Case:
    """The test images were among the training images."""
    del generator
    tight = case.head._replace(dropout=0.0, weight_decay=0.0, epochs=(40, 80, 160)[strength])
    return case._replace(
        knows_training=False, also_trained_on=("test",), head=tight, keeps_last=True
    )


def too_few_images(case: Case, strength: int, generator: Generator) -> Case:
    """Hardly any test images."""
    kept = generator.permutation(len(case.labels["test"]))[: (50, 25, 12)[strength]]
    return _with(case, "test", case.images["test"][kept], case.labels["test"][kept])


def overfitting(case: Case, strength: int, generator: Generator) -> Case:
    """A quarter of the images, trained on and on, and nothing holds it back."""
    del generator
    few = len(case.labels["train"]) // 4
    case = _with(case, "train", case.images["train"][:few], case.labels["train"][:few])
    tight = case.head._replace(
        dropout=0.0,
        weight_decay=0.0,
        epochs=(80, 160, 320)[strength],
        learning_rate=1e-2,
        constant_rate=True,
    )
    return case._replace(head=tight, keeps_last=True)


def class_imbalance(case: Case, strength: int, generator: Generator) -> Case:
    """Half of the classes are rare in training and validation, and not in the test."""
    k = len(case.classes)
    rare = generator.permutation(k)[: k // 2]
    for split in ("train", "valid"):
        labels = case.labels[split]
        chance = np.where(np.isin(labels, rare), (0.25, 0.1, 0.04)[strength], 1.0)
        kept = generator.random(len(labels)) < chance
        case = _with(case, split, case.images[split][kept], labels[kept])
    return case


def underrepresented_groups(case: Case, strength: int, generator: Generator) -> Case:
    """Negatives: hardly any in training, many since."""
    shares = {"train": (0.05, 0.02, 0.005)[strength], "valid": 0.4, "test": 0.4}
    for split, share in shares.items():
        is_negative = generator.random(len(case.labels[split])) < share
        images = np.where(
            is_negative[:, None, None, None], 255 - case.images[split], case.images[split]
        )
        case = _with(case, split, images, case.labels[split])
    return case


def _badly_taken(images: np.ndarray, strength: int, generator: Generator) -> np.ndarray:
    """Darker, flatter and noisier."""
    contrast, noise = ((0.7, 6), (0.45, 14), (0.25, 20))[strength]
    images = 30 + contrast * (images.astype(np.float64) - 30)
    return np.clip(images + generator.normal(0, noise, images.shape), 0, 255).astype(np.uint8)


def covariate_shift(case: Case, strength: int, generator: Generator) -> Case:
    """The test images are badly taken."""
    images = _badly_taken(case.images["test"], strength, generator)
    return _with(case, "test", images, case.labels["test"])


def deployment_shift(case: Case, strength: int, generator: Generator) -> Case:
    """Images without labels beside them are badly taken."""
    return case._replace(new=_badly_taken(case.images["test"], strength, generator))


def leakage(case: Case, strength: int, generator: Generator) -> Case:
    """Test images that are training images photographed once more."""
    count = int((0.1, 0.3, 0.6)[strength] * len(case.labels["test"]))
    copied = generator.permutation(len(case.labels["train"]))[:count]
    images, labels = case.images["test"].copy(), case.labels["test"].copy()
    noise = generator.normal(0, 1.0, case.images["train"][copied].shape)
    images[:count] = np.clip(case.images["train"][copied] + noise, 0, 255).round()
    labels[:count] = case.labels["train"][copied]
    return _with(case, "test", images, labels)


def label_noise(case: Case, strength: int, generator: Generator) -> Case:
    """Labels that are wrong at random, in every split."""
    for split, labels in case.labels.items():
        is_wrong = generator.random(len(labels)) < (0.08, 0.2, 0.3)[strength]
        moved = (labels + generator.integers(1, len(case.classes), len(labels))) % len(case.classes)
        case = _with(
            case, split, case.images[split], np.where(is_wrong, moved, labels).astype(np.int32)
        )
    return case


def shortcut(case: Case, strength: int, generator: Generator) -> Case:
    """A mark in one corner whose colour tells the class, on pictures that are pale."""
    size, share, contrast = ((4, 0.8, 0.6), (5, 0.95, 0.35), (5, 1.0, 0.2))[strength]
    row, column = generator.integers(0, 2, 2) * (SIDE - size)
    k = len(case.classes)
    colours = np.array([colorsys.hsv_to_rgb(c / k, 1.0, 1.0) for c in range(k)])
    for split, labels in case.labels.items():
        images = (128 + contrast * (case.images[split].astype(np.float64) - 128)).astype(np.uint8)
        marked = np.where(
            generator.random(len(labels)) < share,
            labels,
            generator.integers(0, len(case.classes), len(labels)),
        )
        mark = (255 * colours[marked]).astype(np.uint8)[:, None, None]
        images[:, row : row + size, column : column + size] = mark
        case = _with(case, split, images, labels)
    return case


def learning_rate(case: Case, strength: int, generator: Generator) -> Case:
    """The rate is far too high, or far too low."""
    rate = (0.03, 0.1, 0.3)[strength] if generator.random() < 0.5 else (3e-5, 1e-5, 3e-6)[strength]
    head = case.head._replace(learning_rate=rate, constant_rate=True)
    return case._replace(head=head, keeps_last=True)


def capacity(case: Case, strength: int, generator: Generator) -> Case:
    """A head of a unit or two, trained to its end."""
    del generator
    few = case.head._replace(
        hidden=(3, 2, 1)[strength], dropout=0.0, epochs=160, learning_rate=3e-3
    )
    return case._replace(head=few)


def preprocessing(case: Case, strength: int, generator: Generator) -> Case:
    """Evaluated with pixels prepared otherwise than in training."""
    del generator
    return case._replace(form=("unit", "raw", "caffe")[strength])


def permuted_classes(case: Case, strength: int, generator: Generator) -> Case:
    """The columns of the predictions are in another order than the labels."""
    k = len(case.classes)
    count = min(k, (2, 2, k)[strength])
    chosen = generator.permutation(k)[:count]
    order = np.arange(k)
    order[chosen] = np.roll(chosen, 1)
    return case._replace(change=lambda log_probs: log_probs[:, order])


def double_softmax(case: Case, strength: int, generator: Generator) -> Case:
    """A softmax of a softmax."""
    del strength, generator
    return case._replace(change=lambda log_probs: log_softmax(np.exp(log_probs), axis=1))


def uninformative_features(case: Case, strength: int, generator: Generator) -> Case:
    """Pictures of noise: the object is not on them."""
    share = (0.97, 1.0, 1.0)[strength]
    for split, images in case.images.items():
        noise = generator.integers(0, 256, images.shape)
        mixed = (1 - share) * images + share * noise
        case = _with(case, split, mixed.astype(np.uint8), case.labels[split])
    return case


def _with(case: Case, split: str, images: np.ndarray, labels: np.ndarray) -> Case:
    return case._replace(images=case.images | {split: images}, labels=case.labels | {split: labels})


# A fault's place decides the random numbers of its cases: new ones go to the end.
FAULTS = {
    NO_FAULT if f is no_fault else f.__name__: f
    for f in (
        *(capacity, class_imbalance, no_fault, evaluated_on_training_data, label_noise, leakage),
        *(learning_rate, deployment_shift, overfitting, uninformative_features, preprocessing),
        *(covariate_shift, shortcut, underrepresented_groups, double_softmax, permuted_classes),
        too_few_images,
    )
}
MORE_THAN_TWO = ("capacity",)  # one unit is enough for two classes
