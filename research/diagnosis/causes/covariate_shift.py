"""The images it is judged on are of another kind than those it learnt from (covariate shift).

A classifier two-sample test tells the features of test images from those of validation images of
the same class. Where it can, its AUROC is above one half. Classes are weighted to be equally
frequent, so that class counts, which have a cause of their own, play no part.
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
    unknown,
)
from research.metrics import format

TITLE = "The new images are of another kind"
REMEDIES = ("laplace", "sngp", "ensemble(point,num_members=5)")
LEAST_AUROC = 0.6
OBVIOUS_AUROC = 0.9  # no image is like those before: few of them need not prove what it costs
LEAST_IMAGES = 20
MOST_IMAGES = 1_000  # of each split
COMPONENTS = 32


def examine(evidence: Evidence) -> Verdict:
    """Whether test images can be told from validation images of the same class."""
    if (probe := evidence.probe) is None:
        return unknown("Needs images that are like those it learnt from (--data with splits).")
    chosen, inputs, labels = np.random.default_rng(evidence.seed), [], []
    for name in ("valid", "test"):
        index = chosen.permutation(len(probe.labels[name]))[:MOST_IMAGES]
        inputs.append(probe.inputs[name][index, :COMPONENTS])
        labels.append(probe.labels[name][index])
    if min(map(len, labels)) < LEAST_IMAGES or not set(labels[0]) & set(labels[1]):
        return unknown(f"Needs {LEAST_IMAGES} validation and test images of the same classes.")
    is_test = np.repeat([False, True], [len(each) for each in labels])
    apart, _ = two_sample_test(
        np.concatenate(inputs), is_test, np.concatenate(labels), seed=evidence.seed
    )
    measure, test = "AUROC of telling test from validation images", "classifier two-sample test"
    valid, judged = evidence.scores["valid"], evidence.scores["test"]
    change = difference_of(judged.nll, valid.nll, evidence.seed)
    text = (
        f"A simple classifier tells them from the validation images with AUROC "
        f"{format.number(apart.value)} (0.5: not at all). NLL {format.number(judged.nll.mean())} "
        f"on them, {format.number(valid.nll.mean())} on the validation images."
    )
    costs = is_above(apart, LEAST_AUROC) and is_above(change, LEAST_EFFECT)
    seems_to = is_above(apart, OBVIOUS_AUROC) and (change.value or 0) > LEAST_EFFECT
    if not (costs or seems_to):
        return Verdict(ABSENT, text, measure, apart, test)
    return Verdict(
        PRESENT,
        text,
        measure,
        apart,
        test,
        Effect(change, None),
        "Put images of the new kind into training and validation, or refuse to answer on them: its "
        "confidence was learnt on others.",
    )
