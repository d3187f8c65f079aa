"""The test images are of another kind than those that the network was trained on.

A classifier two-sample test tells the features of test images from those of validation images of
the same class. Where it can, its AUROC is above one half. Classes are weighted to be equally
frequent, so that class counts, which have a cause of their own, play no part.
"""

import numpy as np

from research.diagnosis.evidence import Evidence
from research.diagnosis.two_sample import LEAST_IMAGES, MOST_IMAGES, TEST, two_sample_test
from research.diagnosis.verdict import (
    LEAST_EFFECT,
    Effect,
    Verdict,
    Verdicts,
    difference_of,
    is_above,
    unknown,
)
from research.metrics import format

TITLE = "The new images are of another kind"
REMEDIES = ("laplace", "sngp", "ensemble(point,num_members=5)")
LEAST_AUROC = 0.6
OBVIOUS_AUROC = 0.9  # no image is like those before: few of them need not prove what it costs
FINDING = Verdicts("AUROC of telling test from validation images", TEST)


def examine(evidence: Evidence) -> Verdict:
    """Whether test images can be told from validation images of the same class."""
    if (probe := evidence.probe) is None:
        return unknown("Needs images that are like those it learnt from (`data` with splits).")
    chosen, inputs, labels = np.random.default_rng(evidence.seed), [], []
    for name in ("valid", "test"):
        index = chosen.permutation(len(probe.labels[name]))[:MOST_IMAGES]
        inputs.append(probe.inputs[name][index])
        labels.append(probe.labels[name][index])
    if min(map(len, labels)) < LEAST_IMAGES or not set(labels[0]) & set(labels[1]):
        return unknown(f"Needs {LEAST_IMAGES} validation and test images of the same classes.")
    comparison = two_sample_test(inputs[0], inputs[1], tuple(labels), seed=evidence.seed)
    apart = comparison.auroc
    valid, test = evidence.scores["valid"], evidence.scores["test"]
    change = difference_of(test.nll, valid.nll, evidence.seed)
    text = (
        f"{comparison.sentence('them from the validation images')} NLL "
        f"{format.number(test.nll.mean())} on them, {format.number(valid.nll.mean())} on the "
        "validation images."
    )
    costs = is_above(apart, LEAST_AUROC) and is_above(change, LEAST_EFFECT)
    seems_to = is_above(apart, OBVIOUS_AUROC) and (change.value or 0) > LEAST_EFFECT
    if not (costs or seems_to):
        return FINDING.absent(text, apart)
    return FINDING.present(
        text,
        apart,
        Effect(change, None),
        "Put images of the new kind into training and validation, or refuse to answer on them: its "
        "confidence was learnt on others.",
    )
