"""Too simple a network: it has stopped learning, and the features hold more.

A reference head on the same features has a far lower NLL on the training images, although the loss
curve of the classifier was smooth and flat at its end: more training would not have helped, more
units would. (One that is too large learns its images by heart: `overfitting.py`.)
"""

from research.diagnosis import underfitting
from research.diagnosis.evidence import Evidence
from research.diagnosis.loss_curve import FALLING, is_too_fast
from research.diagnosis.underfitting import FINDING, LEAST_GAP, conclude, measure_underfit
from research.diagnosis.verdict import Verdict, is_above, unknown
from research.metrics import format

TITLE = "The network is too simple"
REMEDIES = underfitting.REMEDIES


def examine(evidence: Evidence) -> Verdict:
    """Whether training came to its end above what the features allow."""
    if (found := measure_underfit(evidence)) is None:
        return unknown(underfitting.NEEDS)
    gap, curve = found.gap, found.curve
    text = (
        f"NLL {format.number(found.nll)} on its own training images; a careful head of more units "
        f"reaches {format.number(found.reference_nll)}."
    )
    if not is_above(gap, LEAST_GAP):
        return FINDING.absent(text, gap)
    if curve is None:
        return FINDING.unknown(text + underfitting.NEEDS_HISTORY, gap)
    if is_too_fast(curve, len(evidence.classes)) or curve.late_fall > FALLING:
        return FINDING.absent(text + " But its training went astray.", gap)
    return conclude(
        evidence,
        gap,
        text,
        " Its loss curve is flat: it can learn no more.",
        "Give the head more units, or train more of the network below it.",
    )
