"""The features do not tell the classes apart.

The reference head on the same features is compared with always naming the most frequent class. The
text also tells the share of features, and of pixels, that are the same for every image.
"""

import numpy as np

from research.diagnosis.evidence import Evidence
from research.diagnosis.verdict import NEEDS_TRAINING, Verdict, Verdicts, effect_between, unknown
from research.metrics import format
from research.metrics.intervals import proportion

TITLE = "What it sees says nothing of the class"
LEAST_IMAGES = 50
MOST_IMAGES = 200  # whose pixels are compared
FINDING = Verdicts("accuracy of a careful head on the same features", "Wilson interval")


def _dead_pixels(evidence: Evidence) -> str:
    """The share of pixels that never change, in words; empty without images."""
    if (images := evidence.splits["train"].images) is None:
        return ""
    some = np.asarray(images[np.arange(min(MOST_IMAGES, len(evidence.splits["train"].labels)))])
    share = float(np.mean((some == some[:1]).all(axis=(0, 3))))
    return f", and {format.percent(share)} of the pixels,"


def examine(evidence: Evidence) -> Verdict:
    """Whether the reference head is no better than a constant prediction."""
    if (probe := evidence.probe) is None:
        return unknown(NEEDS_TRAINING)
    test = evidence.splits["test"]
    labels, n, k = test.labels, len(test.labels), len(evidence.classes)
    if n < LEAST_IMAGES or len(np.unique(labels)) < 2:
        return unknown(f"Needs {LEAST_IMAGES} test images, and of two classes at least.")
    frequent = np.bincount(labels, minlength=k).max() / n
    right = probe.reference.log_probs["test"].argmax(axis=1) == labels
    accuracy = proportion(float(right.mean()), n)
    value, low, _ = accuracy.numbers()
    dead = float(np.mean(~probe.is_alive))
    text = (
        f"A careful head on the same features is right {format.percent(value)} of the "
        f"time; always naming the most frequent class, {format.percent(frequent)}. "
        f"{format.percent(dead)} of the features{_dead_pixels(evidence)} are the same for every "
        "image."
    )
    if low > frequent or value > frequent + 0.1:
        return FINDING.absent(text, accuracy)
    counts = np.bincount(probe.train_labels, minlength=k) + 1.0
    constant = np.tile(np.log(counts / counts.sum()), (n, 1))
    return FINDING.present(
        text,
        accuracy,
        effect_between(test.log_probs, constant, labels, evidence.seed),
        "Check that the labels belong to the images; then use larger images, or a base that was "
        "trained on images like these. Until then the honest answer is the class frequency.",
    )
