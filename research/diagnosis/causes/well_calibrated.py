"""It is right as often as it claims: 99 % confident and 99 % right is no fault.

The ECE is compared with what noise alone would show on as many images, and the mean confidence with
the interval of the accuracy. Where both agree, the question is where it is wrong, not why it is
confident.
"""

from research.diagnosis.evidence import Evidence
from research.diagnosis.verdict import Verdict, Verdicts
from research.metrics import format
from research.metrics.calibration import ece, perfectly_calibrated_ece
from research.metrics.intervals import Estimate, proportion

TITLE = "It is right as often as it says"
FINDING = Verdicts("ECE", "against the ECE that a perfectly calibrated model shows by chance")


def examine(evidence: Evidence) -> Verdict:
    """Whether confidence and accuracy agree, as far as the test images tell."""
    scores = evidence.scores["test"]
    chance = perfectly_calibrated_ece(scores.confidence, seed=evidence.seed)
    value = float(ece(scores.confidence, scores.correct))
    accuracy = proportion(float(scores.correct.mean()), len(scores.labels))
    claimed = float(scores.confidence.mean())
    number = Estimate(value, chance.low, chance.high, chance.interval)
    delivered, low, high = accuracy.numbers()
    _, _, most = chance.numbers()
    agree = low <= claimed <= high and value <= most
    text = (
        f"It says {format.percent(claimed)} on average and is right "
        f"{format.percent(delivered)} of the time. ECE {format.percent(value)}; by chance "
        f"alone up to {format.percent(most)}."
    )
    if not agree:
        return FINDING.absent(text, number)
    errors = ~scores.correct
    on_errors = (
        f" On its {format.plural(int(errors.sum()), 'mistake')} it says "
        f"{format.percent(scores.confidence[errors].mean())}."
        if errors.any()
        else ""
    )
    return FINDING.present(
        text + on_errors,
        number,
        None,
        "Look at its mistakes and at images of other kinds, where this says nothing.",
    )
