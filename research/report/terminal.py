"""The report in at most 100 columns of plain text."""

import textwrap
from itertools import zip_longest

from research.metrics import format
from research.report import why
from research.report.findings import headline

WIDTH = 100
NAME_WIDTH = 16  # longer names go on over the next lines
COLUMNS = ("accuracy", "mean_confidence", "nll", "ece")
MARKS = {"good": "+", "warn": "!", "bad": "!!", "info": "-"}


def _table(head: list[str], rows: list[tuple[str, list[tuple[str, str]]]]) -> list[str]:
    """A heading, then named rows of (value, interval), every interval below its value."""
    lines = [head]
    for name, cells in rows:
        values, intervals = zip(*cells, strict=True)
        names = textwrap.wrap(name, NAME_WIDTH)
        for label, numbers in zip_longest(names, (values, intervals), fillvalue=""):
            lines.append([label, *(numbers or [""] * len(values))])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines = [
        [line[0].ljust(widths[0])]
        + [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        for line in lines
    ]
    return ["  ".join(line).rstrip() for line in lines]


def _cells(split: dict) -> list[tuple[str, str]]:
    return [
        (
            format.metric_value(name, split["metrics"][name]["value"]),
            format.metric_interval(name, split["metrics"][name]),
        )
        for name in COLUMNS
    ]


def _cost(method: dict) -> str:
    milliseconds = method["milliseconds_per_image"]
    return format.NONE if milliseconds is None else f"{milliseconds:.3g} ms"


def _wrapped(text: str, mark: str = "") -> str:
    """A paragraph beside its mark, with every number kept together with its unit."""
    indent = " " * 3 if mark else ""
    lines = textwrap.fill(
        format.keep_together(text),
        WIDTH,
        initial_indent=mark.ljust(len(indent)),
        subsequent_indent=indent,
        break_on_hyphens=False,
        break_long_words=False,
    )
    return lines.replace("\N{NO-BREAK SPACE}", " ")


def _subject(result: dict) -> list[str]:
    """What was judged, on what, and how far it can be trusted to be the person's own network."""
    data, model = result["data"], result["model"]
    size = "" if data["image_size"] is None else f", {data['image_size']} pixels"
    lines = [
        f"Data: {data['name']}, {len(data['classes'])} classes{size}. {' '.join(data['notes'])}"
    ]
    count = "" if model["parameters"] is None else f", {format.count(model['parameters'])} weights"
    lines.append(f"Model: {model['description']}{count}.")
    if model["preprocess"]:
        lines.append(f"Pixels: {model['preprocess']['name']} ({model['preprocess']['reason']}).")
    if model["parity"] is not None:
        lines.append(
            f"Parity: our outputs differ from Keras' own by {model['parity']:.1g} of the largest "
            "(limit 1e-04)."
        )
    return [_wrapped(line.strip()) for line in lines]


def summary(result: dict, page: str = "report.html") -> str:
    """What the terminal shows at the end.

    Args:
        result: the contents of result.json, with its findings and next steps.
        page: the path of report.html, as the person would type it.
    """
    metrics = [format.metric_name(name) for name in COLUMNS]
    methods = result["methods"]
    splits = _table(
        ["As it is", "Images", *metrics],
        [
            (name, [(format.count(split["n"]), ""), *_cells(split)])
            for name, split in methods["point"]["splits"].items()
        ],
    )
    compared = _table(
        ["Test images", *metrics, "Per image"],
        [
            (method["title"], [*_cells(method["splits"]["test"]), (_cost(method), "")])
            for method in methods.values()
        ],
    )
    findings = [_wrapped(found["title"], MARKS[found["tone"]]) for found in result["findings"]]
    steps = [_wrapped(step, f"{i}.") for i, step in enumerate(result["next"], start=1)]
    causes = [
        _wrapped(f"{cause['title']}. {cause['text']} {why.effect_text(cause)}".strip(), "!!")
        for cause in why.named(result)
    ]
    reasons = causes or [_wrapped(why.because(result))]
    parts = [[_wrapped(headline(result))], ["Why:", *reasons], _subject(result), splits, compared]
    parts.append(findings)
    if steps:
        parts.append(["What to do next:", *steps])
    parts.append([f"The whole report: {page}"])
    return "\n\n".join("\n".join(part) for part in parts)
