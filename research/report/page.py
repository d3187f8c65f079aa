"""report.html: one file that loads nothing from the network, reads on a phone and prints."""

import base64
import io
from pathlib import Path

import jinja2
import numpy as np
from PIL import Image

from research.metrics import format
from research.report import decisions, figures, why
from research.report.findings import headline
from research.report.pictures import Pictures
from research.report.reading import best_method
from research.runtime.files import write_whole

FILE = "report.html"
SMALL = 128  # pixels: smaller pictures are shown with crisp pixels
LARGE = 320  # pixels: larger pictures are sent as small as this
TONES = {"good": "Good", "warn": "Take care", "bad": "Problem", "info": "Note"}
TABLE_METRICS = ("accuracy", "mean_confidence", "nll", "ece")


def data_uri(picture: np.ndarray) -> str:
    """A picture [H, W, 3] uint8 as the PNG that an `<img>` holds in itself."""
    image = Image.fromarray(picture)
    image.thumbnail((LARGE, LARGE))
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _with_picture(entry: dict, pictures: Pictures) -> dict:
    """A mistake or a suspect with its picture; None where there is none."""
    picture = pictures.images.get((entry["split"], entry["index"]))
    if picture is None:
        return entry | {"picture": None}
    return entry | {"picture": data_uri(picture), "is_small": max(picture.shape[:2]) < SMALL}


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
        milliseconds, seconds = method["milliseconds_per_image"], method["training_seconds"]
        cells = [_row(metric, [method["splits"]["test"]])[1][0] for metric in TABLE_METRICS]
        cost = format.NONE if milliseconds is None else f"{milliseconds:.3g} ms"
        cells.append((cost, format.plural(method["draws"], "draw")))
        cells.append((format.duration(seconds) if seconds else format.NONE, ""))
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


def _causes(result: dict, pictures: Pictures) -> list[dict]:
    """The causes that are present, with their numbers in words and their suspects' pictures."""
    return [
        cause
        | {
            "number_text": why.number_text(cause),
            "effect_text": why.effect_text(cause),
            "suspects": [_with_picture(suspect, pictures) for suspect in cause["suspects"]],
        }
        for cause in why.named(result)
    ]


def _figures(result: dict, mean_image: np.ndarray | None) -> dict:
    methods, training = result["methods"], result["model"]["training"]
    splits = methods["point"]["splits"]
    heat = next((cause["heat"] for cause in result["diagnosis"] if cause["heat"]), None)
    diagrams = dict(zip(methods, figures.reliability_diagrams(methods), strict=True))
    shown = dict.fromkeys(("point", best_method(result)))
    return {
        "histogram": figures.confidence_histogram(splits["test"]),
        "gap": figures.gap(splits) if len(splits) > 1 else None,
        "methods": figures.methods_compared(methods) if len(methods) > 1 else None,
        "history": figures.history(training["history"], training["best_step"])
        if training and len(training["history"]) > 1
        else None,
        "heat": figures.heat_map(np.array(heat), mean_image)
        if heat and mean_image is not None
        else None,
        "before_and_after": [diagrams.pop(name) for name in shown],
        "reliability": list(diagrams.values()),
    }


def _split_command(step: str) -> tuple[str, str]:
    """A next step as (sentence, command); the command is empty where there is none."""
    before, mark, command = step.partition("launch/run.sh")
    return before, mark + command


def render(result: dict, pictures: Pictures) -> str:
    """The whole page.

    Args:
        result: the contents of result.json, with its findings and next steps.
        pictures: the images that it refers to.

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
        "percent": format.percent,
    }
    splits, methods = result["methods"]["point"]["splits"], list(result["methods"].values())
    return environment.get_template("page.html").render(
        result=result,
        headline=headline(result),
        because=why.because(result),
        causes=_causes(result, pictures),
        heat_is_open=any(cause["heat"] for cause in why.named(result)),
        undecided=why.undecided(result),
        absent=why.absent(result),
        tones=TONES,
        mistakes=[_with_picture(mistake, pictures) for mistake in result["mistakes"]],
        figures=_figures(result, pictures.mean),
        splits=list(splits),
        split_rows=_split_rows(list(splits.values())),
        methods=methods,
        method_columns=_method_columns(),
        method_rows=_method_rows(methods),
        findings=[finding for finding in result["findings"] if not finding["method"]],
        method_findings=[finding for finding in result["findings"] if finding["method"]],
        decision_rows=decisions.rows(methods),
        number_rows=_number_rows(result),
        steps=[_split_command(step) for step in result["next"]],
    )


def write(directory: Path, html: str) -> None:
    """Writes report.html; file names that are no text are shown with escapes."""
    page = html.encode("utf-8", "backslashreplace")
    write_whole(directory / FILE, lambda part: part.write_bytes(page))
