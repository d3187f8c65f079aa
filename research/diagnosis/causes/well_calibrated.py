"""It is as good as it says: 99 % sure and 99 % right is no fault.

The ECE against what noise alone would show on as many images, and the mean confidence against the
interval of the accuracy. Then the question is where it is wrong, not why it is sure.
"""

from research.diagnosis.evidence import Evidence
from research.diagnosis.verdict import ABSENT, PRESENT, Verdict
from research.metrics import format
from research.metrics.calibration import ece, perfectly_calibrated_ece
from research.metrics.intervals import Estimate, proportion

TITLE = "It is right as often as it says"


def examine(evidence: Evidence) -> Verdict:
    """Whether confidence and accuracy agree, as far as the test images tell."""
    said = evidence.scores["test"]
    chance = perfectly_calibrated_ece(said.confidence, seed=evidence.seed)
    value = float(ece(said.confidence, said.correct))
    accuracy = proportion(float(said.correct.mean()), len(said.labels))
    claimed = float(said.confidence.mean())
    measure, test = "ECE", "against the ECE that a perfectly calibrated model shows by chance"
    number = Estimate(value, chance.low, chance.high, chance.interval)
    agree = accuracy.low <= claimed <= accuracy.high and value <= chance.high
    text = (
        f"It says {format.percent(claimed)} on average and is right "
        f"{format.percent(accuracy.value)} of the time. ECE {format.percent(value)}; by chance "
        f"alone up to {format.percent(chance.high)}."
    )
    if not agree:
        return Verdict(ABSENT, text, measure, number, test)
    errors = ~said.correct
    sure = (
        f" On its {format.plural(int(errors.sum()), 'mistake')} it says "
        f"{format.percent(said.confidence[errors].mean())}."
        if errors.any()
        else ""
    )
    return Verdict(
        PRESENT,
        text + sure,
        measure,
        number,
        test,
        advice="Look at its mistakes and at images of other kinds, where this says nothing.",
    )
