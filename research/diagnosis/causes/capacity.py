"""Too simple a network: it has stopped learning, and the features hold more.

A head trained with care on the same features has a far lower NLL on the training images, although
the loss curve of the classifier was smooth and flat at its end: more training would not have
helped, more units would. (One that is too large learns its images by heart: `overfitting.py`.)
"""

from research.diagnosis.evidence import Evidence
from research.diagnosis.loss_curve import FALLING, is_too_fast, read_curve
from research.diagnosis.verdict import (
    ABSENT,
    LEAST_EFFECT,
    PRESENT,
    UNKNOWN,
    Verdict,
    effect_between,
    is_above,
    mean_of,
    unknown,
)
from research.metrics import format

TITLE = "The network is too simple"
REMEDIES = ("point(weight_decay=0.1)", "ensemble(point,num_members=5)")
LEAST_GAP = 0.03  # nats on the training images
TEST = "paired bootstrap against a refitted head; the shape of the loss curve"
MEASURE = "NLL on the training images less that of a careful head"


def examine(evidence: Evidence) -> Verdict:
    """Whether training came to its end above what the features allow."""
    if (probe := evidence.probe) is None:
        return unknown("Needs the training images and the history of the training.")
    labels = evidence.splits["train"].labels
    careful = probe.reference.nll("train", labels)
    gap = mean_of(evidence.scores["train"].nll - careful, evidence.seed)
    text = (
        f"NLL {format.number(evidence.scores['train'].nll.mean())} on its own training images; a "
        f"careful head of more units reaches {format.number(careful.mean())}."
    )
    if not is_above(gap, LEAST_GAP):
        return Verdict(ABSENT, text, MEASURE, gap, TEST)
    if (curve := read_curve(evidence.history)) is None:
        needs = " It has not learnt all it could; the history of its training would tell why."
        return Verdict(UNKNOWN, text + needs, MEASURE, gap, TEST)
    if is_too_fast(curve, len(evidence.classes)) or curve.late_fall > FALLING:
        return Verdict(ABSENT, text + " But its training went astray.", MEASURE, gap, TEST)
    part = evidence.splits["test"]
    effect = effect_between(
        part.log_probs, probe.reference.log_probs["test"], part.labels, evidence.seed
    )
    if not is_above(effect.nll, LEAST_EFFECT):
        return Verdict(ABSENT, text + " New images would not gain by it.", MEASURE, gap, TEST)
    return Verdict(
        PRESENT,
        text + " Its loss curve is flat: it can learn no more.",
        MEASURE,
        gap,
        TEST,
        effect,
        "Give the head more units, or train more of the network below it.",
    )
