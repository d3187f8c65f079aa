"""A search's result.json as a page and a few lines of text."""

from pathlib import Path

import jinja2

from experiments.tune import pictures
from research.metrics import format
from research.runtime.files import write_json, write_whole

TEMPLATE = Path(__file__).with_name("page.html")


def headline(result: dict) -> str:
    """The outcome in one sentence."""
    best, before = result["best"], result["defaults_valid_nll"]
    trials = format.plural(len(result["trials"]), "trial")
    if best["is_defaults"]:
        return f"The defaults are the best of {trials}"
    lowest = f"{best['valid_nll']:.4f}"
    if before is None:
        return f"The best of {trials} has a validation NLL of {lowest}"
    return f"The best of {trials} brings the validation NLL from {before:.4f} to {lowest}"


def verdict(result: dict) -> str:
    """Whether the test split confirms the outcome; empty where there is nothing to compare."""
    change = result["test"]["change"].get("nll")
    if change is None or change["value"] is None:
        return ""
    measured = (
        f"On the {format.count(result['test']['n'])} test images, which had no say in the search, "
        f"the best has a {'lower' if change['value'] < 0 else 'higher'} NLL than the defaults "
        f"(change {_signed('nll', change)}): "
    )
    if change["high"] < 0:
        return measured + "it is better there too."
    if change["low"] > 0:
        return (
            f"{measured}it is worse there. The search has fitted the validation images; keep to "
            "the defaults, or validate on more images."
        )
    return f"{measured}too few images to tell whether it is better."


def _signed(metric: str, entry: dict) -> str:
    """A change with its interval: "-0.031 [-0.052, -0.008]"; shares in percentage points."""
    if entry["value"] is None:
        return format.NONE
    is_share = format.is_share(metric)
    ends = [(100 if is_share else 1) * entry[key] for key in ("value", "low", "high")]
    value, low, high = (f"{end:+.{2 if is_share else 4}f}" for end in ends)
    return f"{value}{' points' if is_share else ''} [{low}, {high}]".replace("-", "\N{MINUS SIGN}")


def test_rows(result: dict) -> list[tuple[str, list[str]]]:
    """The metrics of the test split, each with its cells under `columns`."""
    test = result["test"]
    rows = []
    for metric in next(iter(test["metrics"].values())):
        cells = [
            format.with_interval(metric, by_metric[metric])
            for by_metric in test["metrics"].values()
        ]
        if test["change"]:
            cells.append(_signed(metric, test["change"][metric]))
        rows.append((format.metric_name(metric), cells))
    return rows


def columns(result: dict) -> list[str]:
    """The titles of the cells of `test_rows`: one alone where the defaults are the best."""
    names = [{"defaults": "Defaults", "best": "Best found"}[n] for n in result["test"]["metrics"]]
    return [*names, "Change"] if result["test"]["change"] else names


def write(directory: Path, result: dict) -> None:
    """Writes result.json, best.json and tune.html."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "together": format.keep_together,
        "count": format.count,
        "duration": format.duration,
        "name": lambda name: name.replace("_", " "),
    }
    has_importance = any(o["importance"] is not None for o in result["options"].values())
    html = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        result=result,
        headline=headline(result),
        verdict=verdict(result),
        columns=columns(result),
        test_rows=test_rows(result),
        history=pictures.history(result),
        importance=pictures.importance(result) if has_importance else None,
    )
    write_json(directory / "result.json", result)
    write_json(directory / "best.json", result["best"])
    write_whole(directory / "tune.html", lambda part: part.write_text(html, encoding="utf-8"))


def summary(result: dict, page: str) -> str:
    """The last lines on the terminal.

    Args:
        result: the contents of result.json.
        page: the path of tune.html, as the person would type it.
    """
    lines = [headline(result) + ".", ""]
    lines += [
        f"  {name.replace('_', ' '):14}{option['best']:<10g} default {option['default']:g}"
        for name, option in result["options"].items()
    ]
    lines += ["", "On the test images: " + ", ".join(columns(result)).lower() + "."]
    lines += [f"  {name:10}" + "   ".join(cells) for name, cells in test_rows(result)]
    if confirmed := verdict(result):
        lines += ["", confirmed]
    lines += ["", "What to do next:", result["best"]["command"], "", f"The whole page: {page}"]
    return "\n".join(lines)
