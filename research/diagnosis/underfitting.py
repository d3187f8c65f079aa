"""What `learning_rate` and `capacity` share: the network has not learnt what its features hold.

A reference head on the same features has a far lower NLL on the training images. The loss curve
tells which of the two causes it is, and the reference head has to be better on new images too.
"""

from typing import NamedTuple

from research.diagnosis.evidence import Evidence
from research.diagnosis.loss_curve import Curve, read_curve
from research.diagnosis.verdict import (
    LEAST_EFFECT,
    Verdict,
    Verdicts,
    effect_between,
    is_above,
    mean_of,
)
from research.metrics.intervals import Estimate

REMEDIES = ("point(weight_decay=0.1)", "ensemble(point,num_members=5)")
LEAST_GAP = 0.03  # nats on the training images
NEEDS = "Needs the training images and the history of the training."
NEEDS_HISTORY = " It has not learnt all it could; the history of its training would tell why."
FINDING = Verdicts(
    measure="NLL on the training images less that of a careful head",
    test="paired bootstrap against a refitted head; the shape of the loss curve",
)


class Underfit(NamedTuple):
    """How far a network stays behind the reference head on its training images."""

    gap: Estimate  # of the mean NLL, in nats
    nll: float  # of the network
    reference_nll: float
    curve: Curve | None  # None: the history is too short to tell


def measure_underfit(evidence: Evidence) -> Underfit | None:
    """The NLL on the training images against the reference head's; None without features."""
    if (probe := evidence.probe) is None:
        return None
    own = evidence.scores["train"].nll
    reference = probe.reference.nll("train", evidence.splits["train"].labels)
    gap = mean_of(own - reference, evidence.seed)
    return Underfit(gap, own.mean(), reference.mean(), read_curve(evidence.history))


def conclude(evidence: Evidence, gap: Estimate, text: str, reason: str, advice: str) -> Verdict:
    """Present where the reference head is better on the test images too.

    Args:
        evidence: of the classifier.
        gap: the NLL that the network stays behind on its training images.
        text: the evidence so far.
        reason: a sentence that is added where the cause is present.
        advice: likewise.
    """
    test = evidence.splits["test"]
    assert evidence.probe is not None  # the gap was measured with it
    better = evidence.probe.reference.log_probs["test"]
    effect = effect_between(test.log_probs, better, test.labels, evidence.seed)
    if not is_above(effect.nll, LEAST_EFFECT):
        return FINDING.absent(text + " New images would not gain by it.", gap)
    return FINDING.present(text + reason, gap, effect, advice)
