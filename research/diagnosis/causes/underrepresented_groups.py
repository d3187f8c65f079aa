"""A kind of images that is frequent now was rare in training, and was hardly learnt.

A classifier two-sample test tells the training images from the validation and test images of the
same class. Where it can, the images whose odds of being from now are 2 or more are a kind by
themselves. Where they cost more than the others, and cost the reference head more too, that is the
fault. Rare classes have a cause of their own (`class_imbalance.py`), and so have kinds that the
validation images lack too (`covariate_shift.py`).

Clusters of features (k-means) show such a kind only where it fills a cluster by itself: of six
examinations with negatives among photographs they found two, this finds all.
"""

import numpy as np

from research.diagnosis.evidence import Evidence
from research.diagnosis.two_sample import TEST, two_sample_test
from research.diagnosis.verdict import (
    LEAST_EFFECT,
    MOST_OFTEN,
    MOST_SUSPECTS,
    NEEDS_TRAINING,
    Effect,
    Verdict,
    Verdicts,
    difference_of,
    is_above,
    scaled,
    unknown,
)
from research.metrics import format

TITLE = "A kind of images was too rare in training"
REMEDIES = ("point(weight_decay=0.1)", "ensemble(point,num_members=5)")
LEAST_IMAGES = 200
LEAST_AUROC = 0.55
LEAST_RATIO = 2.0  # the odds that an image of the kind is from now
LEAST_IN_VALID = 0.5  # the kind's excess over training: that of validation over that of the test
FINDING = Verdicts(
    "AUROC of telling the images of now from training images",
    f"{TEST}; bootstrap of the NLL of the kind",
)


def examine(evidence: Evidence) -> Verdict:
    """Whether kinds of images that are frequent now were rare in training."""
    if (probe := evidence.probe) is None:
        return unknown(NEEDS_TRAINING)
    sizes = {name: len(labels) for name, labels in probe.labels.items()}
    if min(sizes["train"], sizes["test"]) < LEAST_IMAGES:
        return unknown(f"Needs {LEAST_IMAGES} training images and as many test images.")
    inputs, labels = (
        (values["train"], np.concatenate([values["valid"], values["test"]]))
        for values in (probe.inputs, probe.labels)
    )
    comparison = two_sample_test(*inputs, labels, seed=evidence.seed)
    apart, now_score = comparison.auroc, np.split(comparison.second, [sizes["valid"]])
    in_train, in_valid, in_test = (
        score >= np.log(LEAST_RATIO) for score in (comparison.first, *now_score)
    )
    text = comparison.sentence("the validation and test images from the training images")
    excess_valid, excess_test = (each.mean() - in_train.mean() for each in (in_valid, in_test))
    is_known = excess_valid >= LEAST_IN_VALID * excess_test
    if not (is_above(apart, LEAST_AUROC) and is_known and in_test.any() and not in_test.all()):
        return FINDING.absent(text, apart)
    text += (
        f" Images of the kind that training lacks are {format.percent(in_train.mean())} of the "
        f"training and {format.percent(in_test.mean())} of the test images."
    )
    nll = evidence.scores["test"].nll
    reference = probe.reference.nll("test", evidence.splits["test"].labels)
    extra, reference_extra = (
        difference_of(of[in_test], of[~in_test], evidence.seed) for of in (nll, reference)
    )
    cost = scaled(extra, float(in_test.mean()))
    if not (is_above(cost, LEAST_EFFECT) and is_above(reference_extra, LEAST_EFFECT)):
        return FINDING.absent(text + " It does as well on those.", apart)
    times = (in_test.sum() + 1) * sizes["train"] / ((in_train.sum() + 1) * sizes["test"])
    shown = np.argsort(-now_score[1], kind="stable")[: min(MOST_SUSPECTS, in_test.sum())]
    return FINDING.present(
        f"{text} NLL {format.number(nll[in_test].mean())} on those, "
        f"{format.number(nll[~in_test].mean())} on the others.",
        apart,
        Effect(cost, None),
        "Add images of the kinds shown to the training images.",
        suspects=tuple(("test", int(i)) for i in shown),
        counts=np.where(in_train, min(MOST_OFTEN, round(times)), 1),
    )
