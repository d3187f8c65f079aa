"""What it sees of the images does not tell the classes apart.

A head trained with care on the same features against always naming the most frequent class; and
the share of features, and of pixels, that are the same for every image.
"""

import numpy as np

from research.diagnosis.evidence import Evidence
from research.diagnosis.verdict import ABSENT, PRESENT, Verdict, effect_between, unknown
from research.metrics import format
from research.metrics.intervals import proportion

TITLE = "What it sees says nothing of the class"
LEAST_IMAGES = 50
LOOKED_AT = 200  # images whose pixels are compared


def _dead_pixels(evidence: Evidence) -> str:
    """The share of pixels that never change, in words; empty without images."""
    if (images := evidence.splits["train"].images) is None:
        return ""
    some = np.asarray(images[np.arange(min(LOOKED_AT, len(evidence.splits["train"].labels)))])
    share = float(np.mean((some == some[:1]).all(axis=(0, 3))))
    return f", and {format.percent(share)} of the pixels,"


def examine(evidence: Evidence) -> Verdict:
    """Whether a careful head on the same features is no better than a constant answer."""
    if (probe := evidence.probe) is None:
        return unknown("Needs the training images beside the test images.")
    part = evidence.splits["test"]
    labels, n, k = part.labels, len(part.labels), len(evidence.classes)
    if n < LEAST_IMAGES or len(np.unique(labels)) < 2:
        return unknown(f"Needs {LEAST_IMAGES} test images, and of two classes at least.")
    frequent = np.bincount(labels, minlength=k).max() / n
    right = probe.reference.log_probs["test"].argmax(axis=1) == labels
    accuracy = proportion(float(right.mean()), n)
    dead = float(np.mean(~probe.is_alive))
    text = (
        f"A careful head on the same features is right {format.percent(accuracy.value)} of the "
        f"time; always naming the most frequent class, {format.percent(frequent)}. "
        f"{format.percent(dead)} of the features{_dead_pixels(evidence)} are the same for every "
        "image."
    )
    measure, test = "accuracy of a careful head on the same features", "Wilson interval"
    if accuracy.low > frequent or accuracy.value > frequent + 0.1:
        return Verdict(ABSENT, text, measure, accuracy, test)
    counts = np.bincount(probe.train_labels, minlength=k) + 1.0
    constant = np.tile(np.log(counts / counts.sum()), (n, 1))
    return Verdict(
        PRESENT,
        text,
        measure,
        accuracy,
        test,
        effect_between(part.log_probs, constant, labels, evidence.seed),
        "Check that the labels belong to the images; then use larger images, or a base that was "
        "trained on images like these. Until then the honest answer is the class frequency.",
    )
