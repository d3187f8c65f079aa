"""What each method changed, in sentences."""

from research.metrics import format
from research.report.reading import (
    baseline,
    best_method,
    chosen_by,
    finding,
    lowers_nll,
    raises_nll,
    value,
    with_interval,
)


def _unfitted(fit: dict) -> str:
    """Why a temperature was left at 1; empty where it was fitted."""
    if fit["separable"]:
        return (
            "The model gets every image right that a temperature could be fitted to (they are "
            "separable), so the best temperature would run to 0. It is left at 1: it takes "
            "mistakes to fit one."
        )
    if not fit["low"] and fit["high"] is None:
        return (
            "On the images that a temperature could be fitted to, the model is no better than "
            "guessing, so the best temperature would run to infinity. It is left at 1."
        )
    return ""


def _fitted(fit: dict) -> str:
    fitted, low, before, after = (
        format.number(fit[key]) for key in ("value", "low", "nll_before", "nll_after")
    )
    high = "no limit" if fit["high"] is None else format.number(fit["high"])
    if fit["low"] <= 1 and (fit["high"] is None or fit["high"] >= 1):
        meaning = ", an interval that holds 1, no change"
    else:
        meaning = ": the model was " + ("too sure" if fit["value"] > 1 else "not sure enough")
    return (
        f"The logits are divided by T = {fitted} [{low}, {high}]{meaning}. On the images it was "
        f"fitted to, NLL goes from {before} to {after}. "
    )


def _change(before: dict, after: dict, metric: str, name: str) -> str:
    old = format.metric_value(metric, value(before, metric))
    new = format.metric_value(metric, value(after, metric))
    if new == old:
        return f"{name} stays {old}"
    return f"{name} goes from {old} to {with_interval(after, metric)}"


def _comparison(test: dict, name: str, method: dict) -> dict:
    fit, after = method["temperature"], method["splits"]["test"]
    if fit and _unfitted(fit):
        return finding(f"{method['title']} could not be fitted", _unfitted(fit), "warn", name)
    text = (
        f"On the test images {_change(test, after, 'nll', 'NLL')}, "
        f"{_change(test, after, 'ece', 'ECE')}, {_change(test, after, 'accuracy', 'accuracy')}."
    )
    if lowers_nll(after):
        tone, effect = "good", "helps"
    elif raises_nll(after):
        tone, effect = "bad", "makes it worse"
    else:
        tone, effect = "info", "makes no clear difference"
    return finding(f"{method['title']} {effect}", (_fitted(fit) if fit else "") + text, tone, name)


def _best(result: dict) -> dict:
    best = result["methods"][best_method(result)]
    test, recommended = baseline(result), best["splits"]["test"]
    images = {"valid": "validation", "test": "test"}[chosen_by(result)]
    if recommended is test:
        text = f"By the NLL on the {images} images, nothing that was tried does better."
        return finding("It is best as it is", text, "info")
    now = with_interval(recommended, "nll")
    text = f"On the test images it is {now}, against {with_interval(test, 'nll')} as it is."
    change = recommended["nll_change"]
    if change["value"] is not None:
        verdict = "more than chance" if lowers_nll(recommended) else "this may be chance"
        text += f" Image by image the change is {format.with_interval('nll', change)}: {verdict}."
    return finding(f"{best['title']} has the lowest NLL on the {images} images", text, "info")


def compared_methods(result: dict) -> list[dict]:
    """A finding for each method that is not the model as it is, then one for the best of all."""
    methods = {name: method for name, method in result["methods"].items() if name != "point"}
    return [
        *(_comparison(baseline(result), name, method) for name, method in methods.items()),
        *([_best(result)] if methods else []),
    ]
