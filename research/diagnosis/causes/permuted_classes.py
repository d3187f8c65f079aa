"""The classes are in another order than the labels: right answers under wrong names.

The renaming of the predicted classes that agrees with most labels (an assignment problem; Kuhn
1955) against the names as they are. A classifier that has learnt anything at all agrees best with
its own names.
"""

import numpy as np
from scipy.optimize import linear_sum_assignment

from research.diagnosis.evidence import Evidence
from research.diagnosis.verdict import ABSENT, PRESENT, Verdict, effect_between, is_above, mean_of
from research.metrics import format

TITLE = "Classes have changed places"
FAULT_OF = "output"
LEAST_GAIN = 0.05  # of accuracy
LEAST_IMAGES = 20


def best_order(predicted: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """The name [K] that each predicted class agrees best with; ties go to its own."""
    counts = np.zeros((classes, classes))
    np.add.at(counts, (predicted, labels), 1)
    return linear_sum_assignment(counts + 0.5 * np.eye(classes), maximize=True)[1]


def examine(evidence: Evidence) -> Verdict:
    """Whether another order of the classes is right more often on the test images."""
    said, log_probs = evidence.scores["test"], evidence.splits["test"].log_probs
    k, labels = log_probs.shape[1], said.labels
    predicted = said.probs.argmax(axis=1)
    renamed = best_order(predicted, labels, k)
    gain = (renamed[predicted] == labels).astype(float) - said.correct
    estimate = mean_of(gain, evidence.seed)
    moved = np.flatnonzero(renamed != np.arange(k))
    is_there = len(labels) >= LEAST_IMAGES and len(moved) and is_above(estimate, LEAST_GAIN)
    measure, test = "accuracy gained by renaming", "best assignment of classes, paired bootstrap"
    if not is_there:
        text = "No other order of the classes agrees better with the labels."
        return Verdict(ABSENT, text, measure, estimate, test)
    pairs = ", ".join(f"{evidence.classes[a]} as {evidence.classes[renamed[a]]}" for a in moved[:6])

    def rename(answers):
        better = np.empty_like(answers)
        better[:, renamed] = answers
        return better

    return Verdict(
        PRESENT,
        f"Read under other names ({pairs}) it would be right {format.percent(estimate.value)} more "
        "often.",
        measure,
        estimate,
        test,
        effect_between(log_probs, rename(log_probs), labels, evidence.seed),
        "Compare the order of the class names in training and here: folders are read in "
        "alphabetical order.",
        corrected=evidence.transformed(rename),
    )
