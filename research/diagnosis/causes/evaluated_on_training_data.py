"""The test images were training images: the number that was believed is no test.

A reference head that was not trained on the test images is fitted to the same features. A
classifier that was not trained on them either can hardly do much better; one that was does, and
does as well on them as on the training images.
"""

from research.diagnosis.evidence import Evidence
from research.diagnosis.verdict import (
    ABSENT,
    Effect,
    Verdict,
    Verdicts,
    difference_of,
    is_above,
    mean_of,
    unknown,
)
from research.metrics import format
from research.metrics.scores import Scores

TITLE = "It is judged on images that it was trained on"
LEAST_GAIN = 0.01  # nats that it does better than the reference head
MOST_SHARE = 0.5  # of the reference head's NLL
MOST_GAP = 0.05  # of that gain, by which it may do worse than on training images
LEAST_ROWS = 200
FINDING = Verdicts(
    "NLL of a head that has not seen the test images, less its own",
    "paired bootstrap against a refitted head",
)


def examine(evidence: Evidence) -> Verdict:
    """Whether the predictions on the test images look like those on training images."""
    test = evidence.scores["test"]
    if evidence.knows_training:
        return Verdict(ABSENT, "It was trained here, and the test images were kept apart.")
    if (probe := evidence.probe) is None:
        return _from_predictions(test)
    reference = probe.reference.nll("test", test.labels)
    hidden = mean_of(reference - test.nll, evidence.seed)
    gap = difference_of(test.nll, evidence.scores["train"].nll, evidence.seed)
    better = is_above(hidden, LEAST_GAIN) and test.nll.mean() < MOST_SHARE * reference.mean()
    # Where a training image's NLL is infinite the gap is undefined, and no worse than on training.
    worse = is_above(gap, 0.0) and gap.numbers()[0] >= MOST_GAP * hidden.numbers()[0]
    text = (
        f"On the test images its NLL is {format.number(test.nll.mean())}; a head that has not seen "
        f"them reaches {format.number(reference.mean())} with the same features."
    )
    if worse or not better:
        return FINDING.absent(text, hidden)
    return FINDING.present(
        text + " It has seen them before, or ones just like them.",
        hidden,
        Effect(hidden, None),
        "Judge it on images that were kept apart from training: the accuracy and the confidence "
        "seen so far say nothing about new images.",
    )


def _from_predictions(test: Scores) -> Verdict:
    """From the predictions alone there is no more than a suspicion."""
    if len(test.labels) >= LEAST_ROWS and test.correct.all() and test.uncertainty.mean() < 1e-3:
        return unknown(
            f"All {format.count(len(test.labels))} rows are right, at "
            f"{format.percent(test.confidence.mean())} confidence: that is how training images "
            "look. If these are new images, it is as good as it says; add rows of the split "
            "'train' to tell."
        )
    return unknown("Needs the images, or rows of the split 'train' to compare with.")
