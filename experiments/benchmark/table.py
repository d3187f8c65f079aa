"""The rows of result.json and two tables, from the predictions of each method at each seed."""

from typing import Any

import numpy as np

from experiments.benchmark.scorecard import (
    CORRUPTED,
    Predicted,
    bootstrapped,
    over_seeds,
    values,
)
from experiments.markdown import markdown
from research.metrics import format
from research.metrics.intervals import NO_INTERVAL, OVER_SEEDS, Estimate, student_interval

TITLES = {  # by metric: the column's title, and the metric whose way of writing it shares
    "accuracy": ("accuracy", "accuracy"),
    "nll": ("NLL", "nll"),
    "ece": ("ECE", "ece"),
    "brier": ("Brier", "brier"),
    "aurc": ("AURC", "aurc"),
    "ood_auroc": ("OOD AUROC", "error_auroc"),
    "ood_fpr95": ("OOD FPR95", "error_fpr95"),
    **{
        f"corrupted_{name}": (f"corrupted {title}: mean (levels 1 to 5)", name)
        for name, title in zip(CORRUPTED, ("accuracy", "NLL", "ECE"), strict=True)
    },
}
CHANGE = "NLL at T, change from point"
SHORT = (  # the columns of the short table: title, metric, at T, written like which metric
    ("accuracy", "accuracy", False, "accuracy"),
    ("NLL", "nll", False, "nll"),
    ("NLL at T", "nll", True, "nll"),
    (CHANGE, "nll", True, "nll"),
    ("ECE at T", "ece", True, "ece"),
    ("OOD AUROC", "ood_auroc", False, "error_auroc"),
    ("corrupted NLL", "corrupted_nll", False, "nll"),
)
COSTS = ("parameters", "training time", "draws", "forward passes", "memory, MB")
ONE_SEED = (
    "One seed: in brackets, 95 % intervals over the test images (bootstrap; of the accuracy "
    "Wilson's). They do not say how far another training would be off: for that give --seeds 3."
)
SEEDS = (
    "Means over {n} seeds, each with its own {own}, initial weights and order; in brackets, "
    "Student's 95 % interval of the mean over the seeds, which holds the spread from training to "
    "training, and not that the test images are a sample."
)
LEGEND = (
    "T: each method also with its draws tempered by one T, fitted on the validation split of the "
    "same training. ECE: 15 bins of equal width. OOD: told by the entropy of the prediction; the "
    "images of another kind are the positives. Corrupted: the mean over 8 corruptions. Parameters: "
    "numbers that a prediction reads. Training time: of all that the method needs, in trainings of "
    "point. Forward passes: arithmetic of a prediction, in those of point. Memory: of a compiled "
    "training step / of predicting a batch of 256, in 10^6 bytes."
)


def read_predicted(arrays: dict[str, np.ndarray], is_tempered: bool) -> Predicted:
    """The predictive distributions of a predictions file, before or after temperature scaling."""
    index = int(is_tempered)
    ood = arrays["outside"][index] if "outside" in arrays else None
    corrupted, labels = arrays["worse"][index], arrays["worse_labels"]
    return Predicted(arrays["test"][index], arrays["labels"], ood, corrupted, labels)


def _row(
    method: str, tempered: bool, metric: str, estimate: Estimate, by_seed: dict[int, float]
) -> dict[str, Any]:
    error = None
    if estimate.interval == OVER_SEEDS:
        error = float(np.std(list(by_seed.values()), ddof=1) / np.sqrt(len(by_seed)))
    finite = {seed: value if np.isfinite(value) else None for seed, value in by_seed.items()}
    return {
        "method": method,
        "metric": metric,
        "tempered": tempered,
        **estimate._asdict(),
        "standard_error": error,
        "seeds": len(by_seed),
        "each_seed": finite,
    }


def rows(
    method: str, files: dict[int, dict[str, np.ndarray]], costs: dict[str, Any]
) -> list[dict[str, Any]]:
    """All numbers about one method.

    Args:
        method: its recipe.
        files: the arrays of its predictions files, by seed.
        costs: what `experiments.benchmark.costs.measure_costs` returned.

    Returns:
        Rows of method, metric, tempered, value, low, high, interval, standard_error, seeds (how
        many) and each_seed (the number at each of them).
    """
    result = []
    for tempered in (False, True):
        predicted = {seed: read_predicted(file, tempered) for seed, file in files.items()}
        cards = {seed: values(of_seed) for seed, of_seed in predicted.items()}
        by_metric = {
            name: {seed: card[name] for seed, card in cards.items()}
            for name in next(iter(cards.values()))
        }
        if len(files) == 1:
            estimates = bootstrapped(*predicted.values())
        else:
            estimates = {n: over_seeds(n, list(v.values())) for n, v in by_metric.items()}
        result += [_row(method, tempered, n, e, by_metric[n]) for n, e in estimates.items()]
    seconds = {seed: float(file["seconds"]) for seed, file in files.items()}
    for name, tempered, by_seed in (
        ("temperature", True, {seed: float(file["temperature"]) for seed, file in files.items()}),
        ("training_seconds", False, seconds),
        (
            "training_time",
            False,
            {seed: seconds[seed] / float(file["point_seconds"]) for seed, file in files.items()},
        ),
    ):
        estimate = over_seeds(name, list(by_seed.values()))
        result.append(_row(method, tempered, name, estimate, by_seed))
    for name, value in costs.items():
        estimate = Estimate(value, None, None, NO_INTERVAL)
        result.append(_row(method, False, name, estimate, {}) | {"seeds": len(files)})
    return result


def _cell(by_metric: dict[str, dict], metric: str) -> str:
    if metric not in by_metric:
        return format.NONE
    kind = TITLES[metric][1]
    text = format.with_interval(kind, by_metric[metric])
    levels = [f"{metric}_{level}" for level in range(1, 6)]
    if any(level not in by_metric for level in levels):
        return text
    values = [by_metric[level]["value"] for level in levels]
    numbers = [format.metric_value(kind, value).removesuffix(" %") for value in values]
    return f"{text} ({', '.join(numbers)})"


def _cost_cells(by_metric: dict[str, dict]) -> list[str]:
    value = {name: row["value"] for name, row in by_metric.items()}
    step, prediction = value["step_megabytes"], value["predict_megabytes"]
    return [
        format.count(value["parameters"]),
        f"{format.number(value['training_time'])} x",
        str(value["draws"]),
        format.number(value["forward_passes"]),
        f"{format.NONE if step is None else round(step)} / {prediction:.0f}",
    ]


def _title(data: dict[str, Any]) -> str:
    counts = {name: format.count(data[name]) for name in ("train", "valid", "test", "corrupted")}
    ood = f"; {format.count(data['ood'])} of {data['ood_name']} as OOD" if data["ood"] else ""
    return (
        f"{data['name']}: {counts['train']} training, {counts['valid']} validation and "
        f"{counts['test']} test images, {counts['corrupted']} of them corrupted{ood}. "
        f"VGG16 with the {data['head']} head, {data['width']:g} of its width; point trained for "
        f"{data['epochs']:g} epochs."
    )


def table(all_rows: list[dict[str, Any]], data: dict[str, Any]) -> str:
    """The whole table in Markdown, with the data above it and the meaning of its numbers below.

    Args:
        all_rows: from `rows`, of all methods.
        data: `data.json` of the run.
    """
    lines = []
    for method in dict.fromkeys(row["method"] for row in all_rows):
        for tempered in (False, True):
            by_metric = {
                row["metric"]: row
                for row in all_rows
                if (row["method"], row["tempered"]) == (method, tempered)
            }
            divisor = format.number(by_metric["temperature"]["value"]) if tempered else "1"
            costs = [""] * len(COSTS) if tempered else _cost_cells(by_metric)
            metrics = [_cell(by_metric, metric) for metric in TITLES]
            lines.append([f"`{method}`", divisor, *metrics, *costs])
    counts = {row["seeds"] for row in all_rows}
    n = " to ".join(str(count) for count in sorted({min(counts), max(counts)}))
    own = "validation images" if data["given_splits"] else "splits"
    rule = ONE_SEED if counts == {1} else SEEDS.format(n=n, own=own)
    titles = ["method", "T", *(title for title, _ in TITLES.values()), *COSTS]
    return "\n".join([_title(data), "", markdown(titles, lines), "", rule, "", LEGEND, ""])


def paired(row: dict[str, Any], other: dict[str, Any]) -> str:
    """The mean over seeds of a difference at the same seed, with Student's 95 % interval.

    Args:
        row: a row of the result.
        other: the row that is subtracted.
    """
    seeds = row["each_seed"].keys() & other["each_seed"].keys()
    changes = np.array([row["each_seed"][s] - other["each_seed"][s] for s in seeds])
    change = student_interval(changes)
    ends = "" if change.low is None else f" [{change.low:+.3f}, {change.high:+.3f}]"
    return f"{change.value:+.3f}{ends}"


def of_benchmark(result: dict[str, Any]) -> str:
    """A short table in Markdown: the worth and the cost of each method, a line each."""
    by_metric = {(row["method"], row["metric"], row["tempered"]): row for row in result["rows"]}
    lines = []
    for method in dict.fromkeys(row["method"] for row in result["rows"]):
        cells = [f"`{method}`"]
        for title, metric, tempered, kind in SHORT:
            row = by_metric.get((method, metric, tempered))
            if row is None:
                cells.append(format.NONE)
            elif title == CHANGE:
                point = by_metric["point", metric, True]
                cells.append("" if method == "point" else paired(row, point))
            else:
                cells.append(format.metric_value(kind, row["value"]))
        for metric in ("training_time", "forward_passes"):
            cells.append(format.number(by_metric[method, metric, False]["value"]))
        lines.append(cells)
    costs = ["training time", "forward passes"]
    return markdown(["method", *(title for title, *_ in SHORT), *costs], lines)
