"""The same images, or all but the same, are in training and in the test split.

The distance in feature space of every test image to its nearest training image is compared with
how far training images usually lie from their nearest neighbour. Where features have few dimensions
some lie that near by chance; how many follows from the dimension, which is estimated from the ratio
of the distances to the second and the first neighbour (Facco, d'Errico, Rodriguez & Laio 2017).
Near-duplicates make the test easier than new images are.
"""

import numpy as np
from sklearn.neighbors import NearestNeighbors

from research.diagnosis.evidence import Evidence
from research.diagnosis.verdict import (
    MOST_SUSPECTS,
    NEEDS_TRAINING,
    Effect,
    Verdict,
    Verdicts,
    difference_of,
    scaled,
    unknown,
)
from research.metrics import format
from research.metrics.intervals import proportion

TITLE = "Test images have near-duplicates in training"
NEAR = 0.2  # times the usual distance between neighbours
LEAST_SHARE = 0.02
FINDING = Verdicts(
    "share of test images with a near-duplicate in training",
    f"distance below {NEAR:g} of the usual distance between neighbours",
)


def _share_by_chance(first: np.ndarray, second: np.ndarray) -> float:
    """The share of nearest neighbours within `NEAR` of the median distance, without duplicates.

    In d dimensions a distance below t medians has the probability 1 - 2^(-t^d), and the ratio of
    second to first has the median 2^(1 / d).

    Args:
        first: distances to the nearest neighbour [N].
        second: distances to the next [N].
    """
    is_apart = first > 0
    if not is_apart.any():
        return 0.0
    ratio = float(np.median(second[is_apart] / first[is_apart]))
    dimension = np.log(2) / np.log(max(ratio, 1 + 1e-6))
    return float(1 - 2 ** -(NEAR**dimension))


def examine(evidence: Evidence) -> Verdict:
    """Whether test images lie next to training images."""
    if (probe := evidence.probe) is None:
        return unknown(NEEDS_TRAINING)
    train, test = probe.inputs["train"], probe.inputs["test"]
    if len(train) < 3:
        return unknown("Needs three training images at least.")
    near = NearestNeighbors(n_neighbors=3).fit(train)
    first, second = near.kneighbors(train)[0][:, 1:].T
    usual, by_chance = float(np.median(first)), _share_by_chance(first, second)
    distance = near.kneighbors(test, n_neighbors=1)[0][:, 0]
    is_near = distance <= NEAR * usual
    share = proportion(float(is_near.mean()), len(is_near))
    value, low, _ = share.numbers()
    text = (
        f"{format.plural(int(is_near.sum()), 'test image')} of {format.count(len(test))} "
        f"({format.percent(value)}) have a near-duplicate among the training images."
    )
    if low < LEAST_SHARE + by_chance:
        return FINDING.absent(text, share)
    nll = evidence.scores["test"].nll
    hidden = difference_of(nll[~is_near], nll[is_near], evidence.seed)
    cost = scaled(hidden, value)  # what the whole split would cost more without them
    suspects = np.argsort(distance, kind="stable")[:MOST_SUSPECTS]
    return FINDING.present(
        text,
        share,
        Effect(cost, None),
        "Split by what was photographed (object, session, video), not by image, and judge again.",
        suspects=tuple(("test", int(i)) for i in suspects if is_near[i]),
    )
