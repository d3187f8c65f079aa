"""A kind of images was rare in training, and is not now: it has hardly learnt that kind.

A simple classifier learns to tell the training images from the validation and test images of the
same class (a two-sample test). Where it can, the images that it says are at least twice as frequent
now as in training are a kind by themselves. Where they cost more than the others, and cost a
careful head more too, that is the fault. Rare classes have a cause of their own
(`class_imbalance.py`), and so have kinds that the validation images lack too
(`covariate_shift.py`).

Clusters of features (k-means) see such a kind only where it fills a cluster by itself: of six
examinations with negatives among photographs they found two, this finds all.
"""

import numpy as np

from research.diagnosis.evidence import Evidence
from research.diagnosis.two_sample import two_sample_test
from research.diagnosis.verdict import (
    ABSENT,
    LEAST_EFFECT,
    PRESENT,
    Effect,
    Verdict,
    difference_of,
    is_above,
    scaled,
    unknown,
)
from research.metrics import format

TITLE = "A kind of images was too rare in training"
REMEDIES = ("point(weight_decay=0.1)", "ensemble(point,num_members=5)")
COMPONENTS = 32
LEAST_IMAGES = 200
LEAST_AUROC = 0.55
LEAST_RATIO = 2.0  # of what the classifier says of an image: now to in training
LEAST_IN_VALID = 0.5  # of what the test images have more of the kind than the training images
MOST_OFTEN = 20  # an image is learnt, of the rarest kind
MOST_SUSPECTS = 12
SPLITS = ("train", "valid", "test")


def examine(evidence: Evidence) -> Verdict:
    """Whether kinds of images that are frequent now were rare in training."""
    if (probe := evidence.probe) is None:
        return unknown("Needs the training images beside the test images.")
    sizes = {name: len(labels) for name, labels in probe.labels.items()}
    if min(sizes["train"], sizes["test"]) < LEAST_IMAGES:
        return unknown(f"Needs {LEAST_IMAGES} training images and as many test images.")
    inputs, labels = (
        np.concatenate([of[n] for n in SPLITS]) for of in (probe.inputs, probe.labels)
    )
    is_now = np.arange(len(labels)) >= sizes["train"]
    apart, score = two_sample_test(inputs[:, :COMPONENTS], is_now, labels, seed=evidence.seed)
    ends = np.cumsum([sizes[name] for name in SPLITS])[:-1]
    of_kind = dict(zip(SPLITS, np.split(score >= np.log(LEAST_RATIO), ends), strict=True))
    in_train, in_valid, in_test = (of_kind[name].mean() for name in SPLITS)
    measure = "AUROC of telling the images of now from training images"
    name = "classifier two-sample test; bootstrap of the NLL of the kind"
    text = (
        "A simple classifier tells the validation and test images from the training images with "
        f"AUROC {format.number(apart.value)} (0.5: not at all)."
    )
    now = of_kind["test"]
    is_known = in_valid - in_train >= LEAST_IN_VALID * (in_test - in_train)
    if not (is_above(apart, LEAST_AUROC) and is_known and now.any() and not now.all()):
        return Verdict(ABSENT, text, measure, apart, name)
    text += (
        f" Images of the kind that training lacks are {format.percent(in_train)} of the training "
        f"and {format.percent(in_test)} of the test images."
    )
    as_it_is = evidence.scores["test"].nll
    careful = probe.reference.nll("test", evidence.splits["test"].labels)
    worse, still_worse = (
        difference_of(nll[now], nll[~now], evidence.seed) for nll in (as_it_is, careful)
    )
    cost = scaled(worse, float(in_test))
    if not (is_above(cost, LEAST_EFFECT) and is_above(still_worse, LEAST_EFFECT)):
        return Verdict(ABSENT, text + " It does as well on those.", measure, apart, name)
    times = (now.sum() + 1) * sizes["train"] / ((of_kind["train"].sum() + 1) * sizes["test"])
    often = np.where(of_kind["train"], min(MOST_OFTEN, round(times)), 1)
    shown = np.argsort(-score[ends[1] :], kind="stable")[: min(MOST_SUSPECTS, now.sum())]
    return Verdict(
        PRESENT,
        f"{text} NLL {format.number(as_it_is[now].mean())} on those, "
        f"{format.number(as_it_is[~now].mean())} on the others.",
        measure,
        apart,
        name,
        Effect(cost, None),
        "Add images of the kinds shown to the training images.",
        tuple(("test", int(i)) for i in shown),
        counts=often,
    )
