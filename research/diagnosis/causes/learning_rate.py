"""A learning rate that is too high or too low: it has not learnt what its features hold.

The rate was too high where the loss curve began with a jump or diverged. Otherwise a reference head
on the same features has a far lower NLL on the training images, and the curve tells why: the rate
was too high where it is rough, and too low where it is still falling; where it is flat, the size of
the network is to blame and not the rate (`capacity.py`). In every case the reference head has to be
better on new images too.
"""

from research.diagnosis import underfitting
from research.diagnosis.evidence import Evidence
from research.diagnosis.loss_curve import FALLING, has_jumped, is_too_fast
from research.diagnosis.underfitting import FINDING, LEAST_GAP, conclude, measure_underfit
from research.diagnosis.verdict import Verdict, is_above, unknown
from research.metrics import format

TITLE = "The learning rate, or the length of training, did not fit"
REMEDIES = underfitting.REMEDIES


def examine(evidence: Evidence) -> Verdict:
    """Whether training was rough, or stopped half way."""
    if (found := measure_underfit(evidence)) is None:
        return unknown(underfitting.NEEDS)
    gap, curve, classes = found.gap, found.curve, len(evidence.classes)
    text = (
        f"NLL {format.number(found.nll)} on its own training images; a careful head reaches "
        f"{format.number(found.reference_nll)}."
    )
    is_fast = curve is not None and is_too_fast(curve, classes)
    # Steps that are too long leave a few images of enormous NLL: the mean's interval is wide then.
    is_apart = is_above(gap, LEAST_GAP) or (is_fast and (gap.value or 0.0) > LEAST_GAP)
    # They may even get every training image right, by enormous margins; then the jump tells.
    if not (is_apart or (curve is not None and has_jumped(curve, classes))):
        return FINDING.absent(text, gap)
    if curve is None:
        return FINDING.unknown(text + underfitting.NEEDS_HISTORY, gap)
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
        return FINDING.absent(text + " Its loss curve is smooth and flat.", gap)
    return conclude(evidence, gap, text, "", advice)
