"""The diagnosis as the part `diagnosis` of result.json, and in a person's words."""

from research.data.dataset import Split
from research.diagnosis.collect import Observed
from research.diagnosis.diagnose import Found
from research.diagnosis.verdict import ABSENT, PRESENT, UNKNOWN, Effect
from research.metrics import format
from research.metrics.intervals import Estimate
from research.metrics.scores import scores
from research.report.reading import as_is, lowers_nll, value

NEW = "new"  # the split of images that nobody has labelled
NO_FAULT = ("well_calibrated",)  # a finding that is no illness


def _estimate(estimate: Estimate) -> dict:
    return estimate._asdict()


def _effect(effect: Effect | None) -> dict | None:
    if effect is None:
        return None
    return {"nll": _estimate(effect.nll), "ece": effect.ece}


def describe(
    found: list[Found], observed: Observed, splits: dict[str, Split], classes: tuple[str, ...]
) -> list[dict]:
    """The `diagnosis` of a result, in the order of `diagnose`.

    Args:
        found: verdicts.
        observed: what they are about.
        splits: labels and ids of all images.
        classes: names.

    Returns:
        A dict a cause: `cause`, `title`, `state`, `text`, `measure`, `number`, `test`, `effect`,
        `advice`, and `suspects` (dicts with `id`, `label`, `prediction`, `split`, `index`; new
        images have no label).
    """
    said = {
        name: scores(part.log_probs[None], part.labels).probs.argmax(axis=1)
        for name, part in observed.evidence.parts.items()
    }
    new = observed.evidence.new

    def suspect(split, index):
        if split == NEW:
            told = {"id": str(new.ids[index]), "label": None, "index": index}
            return told | {"prediction": classes[int(new.log_probs[index].argmax())], "split": NEW}
        row = int(observed.rows[split][index])
        return {
            "id": str(splits[split].ids[row]),
            "label": classes[splits[split].labels[row]],
            "prediction": classes[int(said[split][index])],
            "split": split,
            "index": row,
        }

    described = []
    for each in found:
        verdict = each.verdict
        suspects = [suspect(*each) for each in verdict.suspects]
        described.append(
            {
                "cause": each.cause,
                "title": each.title,
                "state": verdict.state,
                "text": verdict.text,
                "measure": verdict.measure,
                "number": _estimate(verdict.number),
                "test": verdict.test,
                "effect": _effect(verdict.effect),
                "advice": verdict.advice,
                "suspects": suspects,
                "heat": None if verdict.heat is None else verdict.heat.tolist(),
            }
        )
    return described


def named(result: dict) -> list[dict]:
    """The causes that are present, the weightiest first; that it is well calibrated is none."""
    causes = result["diagnosis"]
    return [c for c in causes if c["state"] == PRESENT and c["cause"] not in NO_FAULT]


def untold(result: dict) -> list[dict]:
    """What could not be told."""
    return [cause for cause in result["diagnosis"] if cause["state"] == UNKNOWN]


def absent(result: dict) -> list[dict]:
    """What was looked for and not found; that it is not well calibrated is said elsewhere."""
    causes = result["diagnosis"]
    return [c for c in causes if c["state"] == ABSENT and c["cause"] not in NO_FAULT]


def told_number(cause: dict) -> str:
    """The number behind a verdict with its interval: "0.257 [0.201, 0.312]"."""
    return format.with_interval("number", cause["number"])


def told_effect(cause: dict) -> str:
    """What a cause costs, in words; empty where that is not known."""
    effect = cause["effect"]
    if effect is None or effect["nll"]["value"] is None:
        return ""
    nll = format.with_interval("nll", effect["nll"])
    if cause["cause"] in ("evaluated_on_training_data", "leakage", "shortcut"):
        return f"It hides {nll} nats of NLL."
    more = f", and {format.percent(effect['ece'], 2)} of ECE" if (effect["ece"] or 0) > 0 else ""
    return f"It costs {nll} nats of NLL{more}."


def _by_nature(result: dict) -> str:
    """What is left when no cause was found: training by likelihood itself."""
    told = "No cause that was looked for explains it"
    this = as_is(result)
    if value(this, "mean_confidence") <= value(this, "accuracy"):
        return f"{told}."
    told += (
        ". Networks that are fitted by likelihood tend to be somewhat surer than they are right "
        "(Guo et al. 2017)"
    )
    cured = result["methods"].get("temperature")
    fit = cured and cured["temperature"]
    if fit and fit["value"] > 1 and lowers_nll(cured["splits"]["test"]):
        told += f"; dividing the logits by {format.number(fit['value'])} mends that"
    return f"{told}."


def because(result: dict) -> str:
    """Why it is as sure as it is, in one sentence."""
    found = named(result)
    if not found:
        if any(c["cause"] in NO_FAULT and c["state"] == PRESENT for c in result["diagnosis"]):
            return "No fault was found: it is right as often as it says."
        return _by_nature(result)
    first = found[0]["title"]
    others = [each["title"][0].lower() + each["title"][1:] for each in found[1:3]]
    return first + "".join(f"; and {other}" for other in others) + "."
