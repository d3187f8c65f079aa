"""What the seeds tell, in one table.

Every number is the mean over seeds with Student's 95 % interval. The change of the NLL is paired:
the same seed with the remedy and without. A remedy helps where that interval lies below 0; it does
not where it lies above -0.01 nats, for below that nobody need act; else the seeds do not tell.
"""

import numpy as np

from experiments.markdown import markdown
from research.diagnosis.verdict import LEAST_EFFECT
from research.metrics.intervals import student_interval

YES, NO, NOT_TOLD = "yes", "no", "not told"
HEAD = (
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


def estimate(values: np.ndarray, low: float = -np.inf, high: float = np.inf) -> dict:
    """The mean over seeds and its 95 % interval (Student), cut at `low` and `high`.

    Args:
        values: [R]; of one seed there is no interval.
        low: the least possible value.
        high: the largest.
    """
    value, low, high, _ = student_interval(values, low, high)
    return {"value": value, "low": low, "high": high}


def helps(change: dict) -> str:
    """Whether a change of the NLL is a gain: "yes", "no" or "not told"."""
    if change["low"] is None:
        return NOT_TOLD
    if change["low"] > -LEAST_EFFECT:
        return NO
    return YES if change["high"] < 0 else NOT_TOLD


def _told(row: dict | None) -> str:
    if row is None:
        return ""
    digits = DIGITS[row["metric"]]
    numbers = [row["value"], row["low"], row["high"]]
    value, low, high = (None if x is None else f"{x:.{digits}f}" for x in numbers)
    return value if low is None else f"{value} [{low}, {high}]"


def panels(result: dict) -> dict[str, dict[str, dict[str, dict]]]:
    """The rows by what they are judged on, by remedy and by metric, in order."""
    found = {}
    for row in result["rows"]:
        title = f"{row['case']}: {row['judged_on']}"
        found.setdefault(title, {}).setdefault(row["remedy"], {})[row["metric"]] = row
    return found


def of_result(result: dict) -> str:
    """The table of a `result.json`."""
    lines = []
    for title, remedies in panels(result).items():
        for name, by_metric in remedies.items():
            cells = [_told(by_metric.get(metric)) for metric in DIGITS]
            verdict = by_metric.get("nll_change", {}).get("helps", "")
            lines.append([title, name, *cells, verdict])
    return markdown(HEAD, lines)


def sentence(result: dict, case: str) -> str:
    """What the diagnosis named in a case."""
    named = [
        f"{each['cause']} ({each['named']} of {result['seeds']} seeds, first in {each['first']})"
        for each in result["diagnosis"]
        if each["case"] == case
    ]
    return f"The diagnosis of {case!r} names: {', '.join(named) or 'nothing'}."


def of_causes(result: dict) -> str:
    """One line a case of an example and what it is judged on."""
    found: dict[tuple, dict] = {}
    for row in result["rows"]:
        key = row["case"], row["judged_on"]
        found.setdefault(key, {}).setdefault(row["remedy"], {})[row["metric"]] = row
    first = {}
    for each in result["diagnosis"]:
        first.setdefault(each["case"], f"{each['cause']} ({each['first']} of {result['seeds']})")
    lines = []
    for (case, judged_on), remedies in found.items():
        said = remedies["as it is"]
        changes = {
            n: r["nll_change"] for n, r in remedies.items() if "helps" in r.get("nll_change", {})
        }
        best = sorted(changes, key=lambda name: changes[name]["value"])
        helped = [name for name in best if changes[name]["helps"] == "yes"]
        lines.append(
            [
                f"{case}: {judged_on}",
                *(
                    f"{said[metric]['value']:.2f}"
                    for metric in ("mean_confidence", "accuracy", "nll")
                ),
                first.get(case, "nothing"),
                "; ".join(f"{n} ({remedies[n]['nll']['value']:.2f})" for n in helped[:3])
                or "nothing",
                "; ".join(name for name in best if changes[name]["helps"] == "no") or "",
            ]
        )
    titles = [
        "case",
        "it says",
        "it is right",
        "NLL",
        "named first",
        "what helps (NLL)",
        "what does not",
    ]
    return markdown(titles, lines)
