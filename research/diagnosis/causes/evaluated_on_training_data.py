"""It is judged on images that it was trained on: the number that was believed is no test.

A head that has never seen the test images is fitted to the same features. A classifier that knows
nothing of them either can hardly do much better; one that was trained on them does, and does as
well on them as on the others.
"""

from research.diagnosis.evidence import Evidence
from research.diagnosis.verdict import (
    ABSENT,
    PRESENT,
    UNKNOWN,
    Effect,
    Verdict,
    difference_of,
    is_above,
    mean_of,
    unknown,
)
from research.metrics import format

TITLE = "It is judged on images that it was trained on"
LEAST_GAIN = 0.01  # nats that it does better than a head that has not seen them
MOST_SHARE = 0.5  # of that head's NLL
MOST_GAP = 0.05  # of that gain, by which it may do worse than on training images
LEAST_ROWS = 200


def examine(evidence: Evidence) -> Verdict:
    """Whether the test images look like ones it has seen."""
    said = evidence.scores["test"]
    if evidence.knows_training:
        return Verdict(ABSENT, "It was trained here, and the test images were kept apart.")
    if (probe := evidence.probe) is None:
        return _from_answers(said)
    labels = evidence.splits["test"].labels
    fresh = probe.reference.nll("test", labels)
    hidden = mean_of(fresh - said.nll, evidence.seed)
    gap = difference_of(said.nll, evidence.scores["train"].nll, evidence.seed)
    measure = "NLL of a head that has not seen the test images, less its own"
    test = "paired bootstrap against a refitted head"
    as_well = (gap.low is not None and gap.low <= 0) or gap.value < MOST_GAP * hidden.value
    better = is_above(hidden, LEAST_GAIN) and said.nll.mean() < MOST_SHARE * fresh.mean()
    text = (
        f"On the test images its NLL is {format.number(said.nll.mean())}; a head that has not seen "
        f"them reaches {format.number(fresh.mean())} with the same features."
    )
    if not (better and as_well):
        return Verdict(ABSENT, text, measure, hidden, test)
    return Verdict(
        PRESENT,
        text + " It has seen them before, or ones just like them.",
        measure,
        hidden,
        test,
        Effect(hidden, None),
        "Judge it on images that were kept apart from training: the accuracy and the confidence "
        "seen so far say nothing about new images.",
    )


def _from_answers(said) -> Verdict:
    """From the answers alone: no more than a suspicion."""
    if len(said.labels) >= LEAST_ROWS and said.correct.all() and said.doubt.mean() < 1e-3:
        return Verdict(
            UNKNOWN,
            f"All {format.count(len(said.labels))} rows are right, at "
            f"{format.percent(said.confidence.mean())} confidence: that is how training images "
            "look. If these are new images, it is as good as it says; add rows of the split "
            "'train' to tell.",
        )
    return unknown("Needs the images, or rows of the split 'train' to compare with.")
