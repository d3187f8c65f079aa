"""report.html: one file that asks nothing of the network, reads on a phone and prints."""

import base64
import io
from pathlib import Path

import jinja2
import numpy as np
from markupsafe import Markup
from PIL import Image

from research.metrics import format
from research.report import decisions, figures, why
from research.report.findings import headline
from research.report.reading import best_method

SMALL, LARGE = (
    128,
    320,
)  # pixels: pictures below are shown with crisp pixels, above are sent smaller
TONES = {"good": "Good", "warn": "Take care", "bad": "Problem", "info": "Note"}
TABLE_METRICS = ("accuracy", "mean_confidence", "nll", "ece")


def data_uri(picture: np.ndarray) -> str:
    """A picture [H, W, 3] uint8 as the PNG that an `<img>` holds in itself."""
    image = Image.fromarray(picture)
    image.thumbnail((LARGE, LARGE))
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _shown_mistakes(result: dict, pictures: list[np.ndarray | None]) -> list[dict]:
    return [
        mistake
        | {
            "picture": None if picture is None else data_uri(picture),
            "is_small": picture is not None and max(picture.shape[:2]) < SMALL,
            "says": format.percent(mistake["confidence"]),
        }
        for mistake, picture in zip(result["mistakes"], pictures, strict=True)
    ]


def _row(metric: str, splits: list[dict]) -> tuple[str, list[tuple[str, str]]]:
    """A metric's name, and its (value, interval) as text for every column."""
    return format.metric_name(metric), [
        (
            format.metric_value(metric, split["metrics"][metric]["value"]),
            format.metric_interval(metric, split["metrics"][metric]),
        )
        for split in splits
    ]


def _split_rows(splits: list[dict]) -> list[tuple[str, list[tuple[str, str]]]]:
    counts = [
        (name, [(format.count(split[key]), "") for split in splits])
        for name, key in (("Images", "n"), ("Mistakes", "errors"))
    ]
    return counts + [_row(metric, splits) for metric in TABLE_METRICS]


def _method_columns() -> list[str]:
    return [*map(format.metric_name, TABLE_METRICS), "Time per image", "Training"]


def _method_rows(methods: list[dict]) -> list[tuple[str, list[tuple[str, str]]]]:
    """A method's title; the main metrics of its test split, then what it costs."""
    rows = []
    for method in methods:
        each, trained = method["milliseconds_per_image"], method["training_seconds"]
        cells = [_row(metric, [method["splits"]["test"]])[1][0] for metric in TABLE_METRICS]
        cells.append(
            (
                format.NONE if each is None else f"{each:.3g} ms",
                format.plural(method["draws"], "draw"),
            )
        )
        cells.append((format.duration(trained) if trained else format.NONE, ""))
        rows.append((method["title"], cells))
    return rows


def _number_rows(result: dict) -> list[tuple[str, str, list[tuple[str, str]]]]:
    """Every metric of the test split: its name, its meaning, and a cell for every method."""
    tests = [method["splits"]["test"] for method in result["methods"].values()]
    rows = []
    for metric in tests[0]["metrics"]:
        name, cells = _row(metric, tests)
        rows.append((name, result["descriptions"].get(metric, ""), cells))
    return rows


def _causes(found: list[dict], suspects: dict[tuple[str, int], np.ndarray]) -> list[dict]:
    """What the page shows of each cause: its number and its suspects besides."""
    return [
        cause
        | {
            "told_number": why.told_number(cause),
            "told_effect": why.told_effect(cause),
            "pictures": [
                each
                | {
                    "picture": data_uri(suspects[each["split"], each["index"]]),
                    "is_small": max(suspects[each["split"], each["index"]].shape[:2]) < SMALL,
                }
                for each in cause["suspects"]
                if (each["split"], each["index"]) in suspects
            ],
        }
        for cause in found
    ]


def _figures(result: dict, mean_image: np.ndarray | None) -> dict:
    methods = result["methods"]
    splits = methods["point"]["splits"]
    drawn = {
        "histogram": figures.confidence_histogram(splits["test"]),
        "gap": figures.gap(splits) if len(splits) > 1 else None,
        "methods": figures.methods_compared(methods) if len(methods) > 1 else None,
        "heat": None,
        "history": None,
    }
    training = result["model"]["training"]
    if training and len(training["history"]) > 1:
        drawn["history"] = figures.history(training["history"], training["best_step"])
    heat = next((c["heat"] for c in result["diagnosis"] if c["heat"]), None)
    if heat and mean_image is not None:
        drawn["heat"] = figures.heat_map(np.array(heat), mean_image)
    safe = {name: Markup(svg) if svg else None for name, svg in drawn.items()}
    diagrams = dict(zip(methods, map(Markup, figures.reliability_diagrams(methods)), strict=True))
    shown = dict.fromkeys(("point", best_method(result)))
    return safe | {
        "before_and_after": [diagrams.pop(name) for name in shown],
        "reliability": list(diagrams.values()),
    }


def _split_command(step: str) -> tuple[str, str]:
    """A next step as (sentence, command); the command is empty where there is none."""
    before, mark, command = step.partition("launch/run.sh")
    return before, mark + command


def render(
    result: dict,
    pictures: list[np.ndarray | None],
    suspects: dict[tuple[str, int], np.ndarray] | None = None,
    mean_image: np.ndarray | None = None,
) -> str:
    """The whole page.

    Args:
        result: the contents of result.json, with its findings and next steps.
        pictures: aligned with `result["mistakes"]`: [H, W, 3] uint8, or None where there is none.
        suspects: by (split, index), the images that a cause points at: [H, W, 3] uint8.
        mean_image: of the test images: [H, W, 3] uint8.

    Returns:
        HTML. Names that come from the user's files are escaped; nothing is loaded from elsewhere.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "together": format.keep_together,
        "count": format.count,
        "duration": format.duration,
    }
    splits, methods = result["methods"]["point"]["splits"], list(result["methods"].values())
    return environment.get_template("page.html").render(
        result=result,
        headline=headline(result),
        because=why.because(result),
        causes=_causes(why.named(result), suspects or {}),
        heat_is_open=any(cause["heat"] for cause in why.named(result)),
        untold=why.untold(result),
        absent=why.absent(result),
        tones=TONES,
        mistakes=_shown_mistakes(result, pictures),
        figures=_figures(result, mean_image),
        splits=list(splits),
        split_rows=_split_rows(list(splits.values())),
        methods=methods,
        method_columns=_method_columns(),
        method_rows=_method_rows(methods),
        findings=[found for found in result["findings"] if not found["method"]],
        cures=[found for found in result["findings"] if found["method"]],
        decision_rows=decisions.rows(methods),
        max_error=format.percent(result["max_error"]),
        number_rows=_number_rows(result),
        steps=[_split_command(step) for step in result["next"]],
    )
