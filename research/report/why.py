"""The diagnosis in a person's words."""

from research.diagnosis.verdict import ABSENT, PRESENT, UNKNOWN
from research.metrics import format
from research.report.reading import baseline, lowers_nll, share

NO_FAULT = ("well_calibrated",)  # a finding that is no fault
HIDES = ("evaluated_on_training_data", "leakage", "shortcut")  # errors that the test does not show


def named(result: dict) -> list[dict]:
    """The faults that are present, the one that explains most first."""
    causes = result["diagnosis"]
    return [c for c in causes if c["state"] == PRESENT and c["cause"] not in NO_FAULT]


def undecided(result: dict) -> list[dict]:
    """The causes of which the evidence does not tell whether they are present."""
    return [cause for cause in result["diagnosis"] if cause["state"] == UNKNOWN]


def absent(result: dict) -> list[dict]:
    """The faults that were tested for and not found."""
    causes = result["diagnosis"]
    return [c for c in causes if c["state"] == ABSENT and c["cause"] not in NO_FAULT]


def number_text(cause: dict) -> str:
    """The number behind a verdict with its interval: "0.257 [0.201, 0.312]"."""
    return format.with_interval("number", cause["number"])


def effect_text(cause: dict) -> str:
    """What a cause costs, in words; empty where that is not known."""
    effect = cause["effect"]
    if effect is None or effect["nll"]["value"] is None:
        return ""
    nll = format.with_interval("nll", effect["nll"])
    if cause["cause"] in HIDES:
        return f"It hides {nll} nats of NLL."
    more = f", and {format.percent(effect['ece'], 2)} of ECE" if (effect["ece"] or 0) > 0 else ""
    return f"It costs {nll} nats of NLL{more}."


def _without_fault(result: dict) -> str:
    """What remains when no fault was found: training by likelihood itself."""
    text = "No cause that was looked for explains it"
    test = baseline(result)
    if share(test, "mean_confidence") <= share(test, "accuracy"):
        return f"{text}."
    text += (
        ". Networks that are fitted by likelihood tend to be somewhat surer than they are right "
        "(Guo et al. 2017)"
    )
    tempered = result["methods"].get("temperature")
    fit = tempered and tempered["temperature"]
    if fit and fit["value"] > 1 and lowers_nll(tempered["splits"]["test"]):
        text += f"; dividing the logits by {format.number(fit['value'])} mends that"
    return f"{text}."


def because(result: dict) -> str:
    """Why the classifier is as sure as it is, in one sentence."""
    causes = named(result)
    if not causes:
        if any(c["cause"] in NO_FAULT and c["state"] == PRESENT for c in result["diagnosis"]):
            return "No fault was found: it is right as often as it says."
        return _without_fault(result)
    first = causes[0]["title"]
    others = [cause["title"][0].lower() + cause["title"][1:] for cause in causes[1:3]]
    return first + "".join(f"; and {other}" for other in others) + "."
