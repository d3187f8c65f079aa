"""The tables of the toy problems, and when a remedy counts as one that helps.

Every number is the mean over seeds with Student's 95 % interval. The change of the NLL is paired:
the same seed with the remedy and without. A remedy helps where that interval lies below 0; it does
not help where the interval lies above -0.01 nats, for a smaller gain is not worth acting on;
otherwise the seeds cannot tell.
"""

import numpy as np

from experiments.markdown import markdown
from experiments.toy_problems.remedies import BASELINE
from research.diagnosis.verdict import LEAST_EFFECT
from research.metrics.intervals import student_interval

YES, NO, UNCLEAR = "yes", "no", "not told"
TITLES = (
    "judged on",
    "remedy",
    "accuracy",
    "mean confidence",
    "NLL",
    "ECE",
    "change of NLL",
    "helps",
)
DIGITS = {"accuracy": 2, "mean_confidence": 2, "nll": 2, "ece": 2, "nll_change": 3}
SHORT_TITLES = (
    "case",
    "it says",
    "it is right",
    "NLL",
    "named first",
    "what helps (NLL)",
    "what does not",
)
ByMetric = dict[str, dict]  # rows of result.json


def estimate(values: np.ndarray, lowest: float = -np.inf, highest: float = np.inf) -> dict:
    """The mean over seeds and its 95 % interval, as result.json holds it.

    Args:
        values: numbers [R], one a seed; a single one has no interval.
        lowest: the least possible value, where the interval stops.
        highest: the largest possible value.
    """
    value, low, high, _ = student_interval(values, lowest, highest)
    return {"value": value, "low": low, "high": high}


def helps(change: dict) -> str:
    """Whether a change of the NLL is a gain: "yes", "no" or "not told"."""
    if change["low"] is None:
        return UNCLEAR
    if change["low"] > -LEAST_EFFECT:
        return NO
    return YES if change["high"] < 0 else UNCLEAR


def _cell(row: dict | None) -> str:
    if row is None:
        return ""
    digits = DIGITS[row["metric"]]
    numbers = [row["value"], row["low"], row["high"]]
    value, low, high = ("" if x is None else f"{x:.{digits}f}" for x in numbers)
    return f"{value} [{low}, {high}]" if low else value


def panels(result: dict) -> dict[tuple[str, str], dict[str, ByMetric]]:
    """The rows by case and what it is judged on, by remedy and by metric, in order."""
    found: dict[tuple[str, str], dict[str, ByMetric]] = {}
    for row in result["rows"]:
        remedies = found.setdefault((row["case"], row["judged_on"]), {})
        remedies.setdefault(row["remedy"], {})[row["metric"]] = row
    return found


def of_result(result: dict) -> str:
    """The whole table of a result.json: one line a remedy."""
    lines = []
    for panel, remedies in panels(result).items():
        for name, by_metric in remedies.items():
            cells = [_cell(by_metric.get(metric)) for metric in DIGITS]
            verdict = by_metric.get("nll_change", {}).get("helps", "")
            lines.append([": ".join(panel), name, *cells, verdict])
    return markdown(TITLES, lines)


def sentence(result: dict, case: str) -> str:
    """The causes that the diagnosis named in a case."""
    named = [
        f"{found['cause']} ({found['named']} of {result['seeds']} seeds, first in {found['first']})"
        for found in result["diagnosis"]
        if found["case"] == case
    ]
    return f"The diagnosis of {case!r} names: {', '.join(named) or 'nothing'}."


def of_toy_problem(result: dict) -> str:
    """The shorter table of a result.json: one line a case and what it is judged on."""
    first: dict[str, str] = {}
    for found in result["diagnosis"]:
        cause = f"{found['cause']} ({found['first']} of {result['seeds']})"
        first.setdefault(found["case"], cause)

    lines = []
    for (case, evaluated_on), remedies in panels(result).items():
        numbers = [
            remedies[BASELINE.title][name] for name in ("mean_confidence", "accuracy", "nll")
        ]
        changes = {name: by_metric.get("nll_change", {}) for name, by_metric in remedies.items()}
        tried = sorted(
            (name for name, change in changes.items() if "helps" in change),
            key=lambda name: changes[name]["value"],
        )
        by_verdict = {v: [n for n in tried if changes[n]["helps"] == v] for v in (YES, NO)}
        best = [f"{name} ({remedies[name]['nll']['value']:.2f})" for name in by_verdict[YES][:3]]
        lines.append(
            [
                f"{case}: {evaluated_on}",
                *(f"{row['value']:.2f}" for row in numbers),
                first.get(case, "nothing"),
                "; ".join(best) or "nothing",
                "; ".join(by_verdict[NO]),
            ]
        )
    return markdown(SHORT_TITLES, lines)
