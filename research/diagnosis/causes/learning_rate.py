"""A learning rate that is too high or too low: it has not learnt what its features hold.

A loss curve that began with a jump or went away: too high. Otherwise a head trained with care on
the same features has a far lower NLL on the training images, and the curve tells which it is:
rough, too high; still falling, too low; flat, it is the size of the network and not the rate
(`capacity.py`). Either way that head has to be better on new images too.
"""

from research.diagnosis.evidence import Evidence
from research.diagnosis.loss_curve import FALLING, has_jumped, is_too_fast, read_curve
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

TITLE = "The learning rate, or the length of training, did not fit"
REMEDIES = ("point(weight_decay=0.1)", "ensemble(point,num_members=5)")
LEAST_GAP = 0.03  # nats on the training images
TEST = "paired bootstrap against a refitted head; the shape of the loss curve"
MEASURE = "NLL on the training images less that of a careful head"


def examine(evidence: Evidence) -> Verdict:
    """Whether training was rough, or stopped half way."""
    if (probe := evidence.probe) is None:
        return unknown("Needs the training images and the history of the training.")
    labels = evidence.splits["train"].labels
    gap = mean_of(
        evidence.scores["train"].nll - probe.reference.nll("train", labels), evidence.seed
    )
    text = (
        f"NLL {format.number(evidence.scores['train'].nll.mean())} on its own training images; a "
        f"careful head reaches {format.number(probe.reference.nll('train', labels).mean())}."
    )
    curve = read_curve(evidence.history)
    is_fast = curve is not None and is_too_fast(curve, len(evidence.classes))
    # Steps that are too long leave a few images of enormous NLL: the mean's interval is wide then.
    is_apart = is_above(gap, LEAST_GAP) or (is_fast and (gap.value or 0.0) > LEAST_GAP)
    # They may even get every training image right, by enormous margins; then the jump tells.
    if not (is_apart or (curve is not None and has_jumped(curve, len(evidence.classes)))):
        return Verdict(ABSENT, text, MEASURE, gap, TEST)
    if curve is None:
        needs = " It has not learnt all it could; the history of its training would tell why."
        return Verdict(UNKNOWN, text + needs, MEASURE, gap, TEST)
    if is_fast:
        text += " Its loss jumped, went up and down, or away: the rate was too high."
        advice = "Lower the learning rate, three to ten times."
    elif curve.late_fall > FALLING:
        text += (
            " Its loss was still falling at the end, "
            f"{format.percent(curve.late_fall)} as fast as at the beginning: it was stopped half "
            "way, or the rate was too low."
        )
        advice = "Train longer, or raise the learning rate, three to ten times."
    else:
        return Verdict(ABSENT, text + " Its loss curve is smooth and flat.", MEASURE, gap, TEST)
    part = evidence.splits["test"]
    better = probe.reference.log_probs["test"]
    effect = effect_between(part.log_probs, better, part.labels, evidence.seed)
    if not is_above(effect.nll, LEAST_EFFECT):
        return Verdict(ABSENT, text + " New images would not gain by it.", MEASURE, gap, TEST)
    return Verdict(PRESENT, text, MEASURE, gap, TEST, effect, advice)
