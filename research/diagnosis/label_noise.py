"""Wrong labels: nobody can be right about those, and whoever learns them is wrong with zeal.

Heads that have not seen an image say what it is (confident learning; Northcutt, Jiang & Chuang
2021). Where images are merely hard, the answers that those heads are surest of are right; where
labels are wrong, even the surest answers disagree with them, and more often than the heads admit:
wrong labels strike sure and unsure images alike. So the error rate among the surest fifth estimates
the share of wrong labels. A label is suspect where the head gives another class at least the
probability that it gives that class on average where it is the label.
"""

import numpy as np
from scipy.special import log_softmax

from research import words
from research.evidence import Evidence
from research.methods.temperature import fit_temperature
from research.metrics.intervals import proportion
from research.verdict import ABSENT, PRESENT, Effect, Verdict, mean_of, unknown

TITLE = "Some labels are wrong"
REMEDIES = ("point(weight_decay=0.1)", "point(label_smoothing=0.1)")
SUREST = 0.2
LEAST_SHARE = 0.03
MOST_SHARE = 0.4  # above, images that cannot be told apart look the same
LEAST_RATIO = 0.35  # of the error rate among all
MORE_THAN_ADMITTED = 1.2  # errors among the surest tenth, times what the heads themselves expect
LEAST_IMAGES = 300
MOST_SUSPECTS = 12


def suspects(log_probs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Whether a label is contradicted with the certainty usual for the other class: [N] bool.

    Args:
        log_probs: [N, K] of heads that have not seen the examples.
        labels: [N].
    """
    probs, k = np.exp(log_probs), log_probs.shape[1]
    usual = np.array(
        [probs[labels == c, c].mean() if (labels == c).any() else 2.0 for c in range(k)]
    )
    others = np.where(probs >= usual, probs, 0.0)
    others[np.arange(len(labels)), labels] = 0.0
    return others.max(axis=1) > probs[np.arange(len(labels)), labels]


def judge(evidence: Evidence) -> Verdict:
    """Whether even the surest answers of heads that have not seen an image are often wrong."""
    if (refits := evidence.refits) is None:
        return unknown("Needs the training images beside the test images.")
    labels, said = refits.train_labels, refits.out_of_fold
    if len(labels) < LEAST_IMAGES:
        return unknown(f"Needs {LEAST_IMAGES} training images at least.")
    # What the heads admit is only worth something where they are calibrated.
    said = log_softmax(said / fit_temperature(said[None], labels).temperature, axis=1)
    predicted, confidence = said.argmax(axis=1), said.max(axis=1)
    wrong = predicted != labels
    surest = np.argsort(-confidence, kind="stable")[: max(20, int(SUREST * len(labels)))]
    floor = proportion(float(wrong[surest].mean()), len(surest))
    is_suspect = suspects(said, labels)
    measure = "share of wrong labels, estimated from the surest fifth of the answers"
    test = "out-of-fold heads; Wilson interval"
    text = (
        f"Heads that have not seen an image contradict {words.percent(floor.value)} of the labels "
        f"where they are surest, and {words.percent(wrong.mean())} of all."
    )
    explains = floor.value >= LEAST_RATIO * wrong.mean()  # else: hard images, not wrong labels
    if floor.low < LEAST_SHARE or not explains:
        return Verdict(ABSENT, text, measure, floor, test)
    top = surest[: max(20, len(surest) // 2)]
    admits = float(np.mean(-np.expm1(confidence[top])))
    if floor.value > MOST_SHARE or wrong[top].mean() < MORE_THAN_ADMITTED * admits:
        return unknown(
            text + " Wrong labels and images that cannot be told apart look the same here; look at "
            "some by eye."
        )
    cleaned = refits.fit(weights=(~is_suspect).astype(float))
    test_labels = evidence.parts["test"].labels
    is_wrong = suspects(cleaned.log_probs["test"], test_labels)
    as_it_is, healthy = evidence.said["test"].nll, refits.healthy.nll("test", test_labels)
    cost = np.where(is_wrong, as_it_is, healthy - cleaned.nll("test", test_labels))
    counts = np.ones(len(evidence.parts["train"].labels), int)
    counts[refits.kept[is_suspect]] = 0
    order = np.argsort(said[np.arange(len(labels)), labels], kind="stable")
    shown = [("train", int(refits.kept[i])) for i in order if is_suspect[i]][:MOST_SUSPECTS]
    return Verdict(
        PRESENT,
        text,
        measure,
        floor,
        test,
        Effect(mean_of(cost, evidence.seed), None),
        f"Look at the {words.count(int(is_suspect.sum()))} suspect labels, correct them, and train "
        "again; label smoothing or early stopping makes the others do less harm.",
        tuple(shown),
        counts=counts,
    )
