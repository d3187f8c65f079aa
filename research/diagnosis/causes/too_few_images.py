"""Too few test images: nobody can know from these how often it is wrong.

The exact 95 % bound on the error rate (Clopper & Pearson 1934) is compared with the rate that was
measured. From n images without a mistake the bound is about 3/n.
"""

from research.diagnosis.evidence import Evidence
from research.diagnosis.verdict import Verdict, Verdicts
from research.metrics import format
from research.metrics.calibration import perfectly_calibrated_ece
from research.metrics.intervals import clopper_pearson

TITLE = "Too few images were looked at"
MARGIN = 0.05  # of error rate, that the images leave open
FINDING = Verdicts(
    "error rate on the test images",
    f"the exact bound lies more than {format.percent(MARGIN)} above what was seen",
)


def examine(evidence: Evidence) -> Verdict:
    """Whether the test images leave open an error rate far above the one claimed."""
    scores = evidence.scores["test"]
    n, errors = len(scores.labels), int((~scores.correct).sum())
    claimed = float(scores.uncertainty.mean())
    error_rate = clopper_pearson(errors, n, certainty=0.95)
    rate, _, bound = error_rate.numbers()
    _, _, smallest = perfectly_calibrated_ece(scores.confidence, seed=evidence.seed).numbers()
    text = (
        f"{format.plural(errors, 'mistake')} in {format.plural(n, 'image')}: the true error rate "
        f"may be as high as {format.percent(bound)} (95 % certainty). An ECE below "
        f"{format.percent(smallest)} cannot be told from none with so many images."
    )
    if bound - rate <= MARGIN:
        return FINDING.absent(text, error_rate)
    return FINDING.present(
        text,
        error_rate,
        None,
        "Judge it on more images that it has not seen: about "
        f"{format.count(_wanted(rate))} leave less than {format.percent(MARGIN / 2)} open; it "
        f"claims an error rate of {format.percent(claimed)}.",
    )


def _wanted(rate: float) -> int:
    """How many images leave open an error rate of half the margin above the one measured."""
    half = MARGIN / 2
    return int(-(-(1.645**2 * max(rate * (1 - rate), half * (1 - half))) // half**2))
