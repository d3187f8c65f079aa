"""Too few images looked at: nobody can know from these how often it is wrong.

The exact (Clopper-Pearson 1934) 95 % bound on the error rate against the rate that the mean
confidence claims. From n images without a mistake the bound is about 3/n.
"""

from research.diagnosis.evidence import Evidence
from research.diagnosis.verdict import ABSENT, PRESENT, Verdict
from research.metrics import format
from research.metrics.calibration import perfectly_calibrated_ece
from research.metrics.intervals import clopper_pearson

TITLE = "Too few images were looked at"
MARGIN = 0.05  # of error rate, that the images leave open


def examine(evidence: Evidence) -> Verdict:
    """Whether the test images leave open an error rate far above the one claimed."""
    said = evidence.scores["test"]
    n, errors = len(said.labels), int((~said.correct).sum())
    claimed = float(said.doubt.mean())
    error_rate = clopper_pearson(errors, n, certainty=0.95)
    rate, bound = error_rate.value, error_rate.high
    smallest = perfectly_calibrated_ece(said.confidence, seed=evidence.seed).high
    text = (
        f"{format.plural(errors, 'mistake')} in {format.plural(n, 'image')}: the true error rate "
        f"may be as high as {format.percent(bound)} (95 % certainty). An ECE below "
        f"{format.percent(smallest)} cannot be told from none with so many images."
    )
    is_open = bound - rate > MARGIN
    return Verdict(
        PRESENT if is_open else ABSENT,
        text,
        "error rate on the test images",
        error_rate,
        f"the exact bound lies more than {format.percent(MARGIN)} above what was seen",
        advice="Judge it on more images that it has not seen: about "
        f"{format.count(_wanted(rate))} leave less than {format.percent(MARGIN / 2)} open; it "
        f"claims an error rate of {format.percent(claimed)}."
        if is_open
        else "",
    )


def _wanted(rate: float) -> int:
    """Images of which the error rate is known to half the margin, upwards."""
    half = MARGIN / 2
    return int(-(-(1.645**2 * max(rate * (1 - rate), half * (1 - half))) // half**2))
