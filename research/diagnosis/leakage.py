"""The same images, or all but the same, are in training and in the test split.

The distance in feature space of every test image to its nearest training image, against how far
training images of that neighbourhood usually lie apart. Near-duplicates make the test look easier
than the world is.
"""

import numpy as np
from sklearn.neighbors import NearestNeighbors

from research import words
from research.evidence import Evidence
from research.metrics.intervals import proportion
from research.verdict import ABSENT, PRESENT, Effect, Verdict, difference_of, scaled, unknown

TITLE = "Test images have near-duplicates in training"
NEAR = 0.2  # times the usual distance between neighbours
LEAST_SHARE = 0.02
MOST_SUSPECTS = 12


def judge(evidence: Evidence) -> Verdict:
    """Whether test images lie next to training images."""
    if (refits := evidence.refits) is None:
        return unknown("Needs the training images beside the test images.")
    train, test = refits.inputs["train"], refits.inputs["test"]
    if len(train) < 3:
        return unknown("Needs three training images at least.")
    near = NearestNeighbors(n_neighbors=2).fit(train)
    usual = float(np.median(near.kneighbors(train)[0][:, 1]))
    distance = near.kneighbors(test, n_neighbors=1)[0][:, 0]
    is_near = distance <= NEAR * usual
    share = proportion(float(is_near.mean()), len(is_near))
    measure = "share of test images with a near-duplicate in training"
    name = f"distance below {NEAR:g} of the usual distance between neighbours"
    text = (
        f"{words.plural(int(is_near.sum()), 'test image')} of {words.count(len(test))} "
        f"({words.percent(share.value)}) have a near-duplicate among the training images."
    )
    if share.low < LEAST_SHARE:
        return Verdict(ABSENT, text, measure, share, name)
    nll = evidence.said["test"].nll
    hidden = difference_of(nll[~is_near], nll[is_near], evidence.seed)
    cost = scaled(hidden, share.value)  # what the whole split would cost more without them
    suspects = np.argsort(distance, kind="stable")[:MOST_SUSPECTS]
    return Verdict(
        PRESENT,
        text,
        measure,
        share,
        name,
        Effect(cost, None),
        "Split by what was photographed (object, session, video), not by image, and judge again.",
        tuple(("test", int(i)) for i in suspects if is_near[i]),
    )
