"""The classes are in another order than the labels: right answers under wrong names.

The order of the predicted classes that agrees with most labels is compared with the order as it is.
A classifier that has learnt anything at all agrees best with its own order.
"""

import numpy as np

from research.diagnosis.class_order import best_order
from research.diagnosis.evidence import Evidence
from research.diagnosis.verdict import Verdict, Verdicts, effect_between, is_above, mean_of
from research.metrics import format

TITLE = "Classes have changed places"
FAULT_OF = "output"
LEAST_GAIN = 0.05  # of accuracy
LEAST_IMAGES = 20
FINDING = Verdicts("accuracy gained by renaming", "best assignment of classes, paired bootstrap")


def examine(evidence: Evidence) -> Verdict:
    """Whether another order of the classes is right more often on the test images."""
    scores, log_probs = evidence.scores["test"], evidence.splits["test"].log_probs
    k, labels = log_probs.shape[1], scores.labels
    predicted = scores.probs.argmax(axis=1)
    renamed = best_order(predicted, labels, k)
    gain = (renamed[predicted] == labels).astype(float) - scores.correct
    estimate = mean_of(gain, evidence.seed)
    moved = np.flatnonzero(renamed != np.arange(k))
    is_there = len(labels) >= LEAST_IMAGES and len(moved) and is_above(estimate, LEAST_GAIN)
    if not is_there:
        text = "No other order of the classes agrees better with the labels."
        return FINDING.absent(text, estimate)
    pairs = ", ".join(f"{evidence.classes[a]} as {evidence.classes[renamed[a]]}" for a in moved[:6])

    def rename(log_probs):
        better = np.empty_like(log_probs)
        better[:, renamed] = log_probs
        return better

    more = format.percent(estimate.numbers()[0])
    return FINDING.present(
        f"Read under other names ({pairs}) it would be right {more} more often.",
        estimate,
        effect_between(log_probs, rename(log_probs), labels, evidence.seed),
        "Compare the order of the class names in training and here: folders are read in "
        "alphabetical order.",
        corrected=evidence.transformed(rename),
    )
