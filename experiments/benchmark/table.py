"""Rows and one table from what methods said at several seeds."""

from typing import Any

import numpy as np

from experiments.benchmark.scorecard import (
    WORSE,
    Predicted,
    bootstrapped,
    over_seeds,
    values,
)
from experiments.markdown import markdown
from research.metrics import format
from research.metrics.intervals import OVER_SEEDS, Estimate, student_interval

TITLES = {  # of the columns that hold one metric, with the name that says how to write it
    "accuracy": ("accuracy", "accuracy"),
    "nll": ("NLL", "nll"),
    "ece": ("ECE", "ece"),
    "brier": ("Brier", "brier"),
    "aurc": ("AURC", "aurc"),
    "ood_auroc": ("OOD AUROC", "error_auroc"),
    "ood_fpr95": ("OOD FPR95", "error_fpr95"),
    **{
        f"corrupted_{name}": (f"corrupted {title}: mean (levels 1 to 5)", name)
        for name, title in zip(WORSE, ("accuracy", "NLL", "ECE"), strict=True)
    },
}
COMPARED = "NLL at T, change from point"
BENCHMARK = (  # title, metric, at T, how to write it
    ("accuracy", "accuracy", False, "accuracy"),
    ("NLL", "nll", False, "nll"),
    ("NLL at T", "nll", True, "nll"),
    (COMPARED, "nll", True, "nll"),
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
    """One half of the arrays of a predictions file."""
    one = int(is_tempered)
    outside = arrays["outside"][one] if "outside" in arrays else None
    return Predicted(
        arrays["test"][one], arrays["labels"], outside, arrays["worse"][one], arrays["worse_labels"]
    )


def _row(method: str, tempered: bool, metric: str, estimate: Estimate, each: dict) -> dict:
    error = None
    if estimate.interval == OVER_SEEDS:
        error = float(np.std(list(each.values()), ddof=1) / np.sqrt(len(each)))
    finite = {seed: value if np.isfinite(value) else None for seed, value in each.items()}
    return {
        "method": method,
        "metric": metric,
        "tempered": tempered,
        **estimate._asdict(),
        "standard_error": error,
        "seeds": len(each),
        "each_seed": finite,
    }


def _number(method: str, tempered: bool, metric: str, each: dict) -> dict:
    """A row of what has no interval over images: over seeds, or none."""
    found = list(each.values())
    alone = Estimate(found[0], None, None, "none")
    estimate = over_seeds(metric, found) if len(found) > 1 else alone
    return _row(method, tempered, metric, estimate, each)


def rows(
    method: str, files: dict[int, dict[str, np.ndarray]], costs: dict[str, Any]
) -> list[dict[str, Any]]:
    """All numbers about one method.

    Args:
        method: its recipe.
        files: by seed, the arrays of its predictions.
        costs: of `experiments.benchmark_run.measure_costs`.

    Returns:
        Rows of method, metric, tempered, value, low, high, interval, standard_error, seeds (how
        many) and each_seed (the number at each of them).
    """
    result = []
    for tempered in (False, True):
        predicted = {seed: read_predicted(file, tempered) for seed, file in files.items()}
        each = {seed: values(one) for seed, one in predicted.items()}
        if len(files) == 1:
            estimates = bootstrapped(*predicted.values())
        else:
            names = next(iter(each.values()))
            estimates = {n: over_seeds(n, [one[n] for one in each.values()]) for n in names}
        result += [
            _row(method, tempered, name, estimate, {seed: one[name] for seed, one in each.items()})
            for name, estimate in estimates.items()
        ]
    temperatures = {seed: float(file["temperature"]) for seed, file in files.items()}
    seconds = {seed: float(file["seconds"]) for seed, file in files.items()}
    relative = {seed: seconds[seed] / float(file["point_seconds"]) for seed, file in files.items()}
    result.append(_number(method, True, "temperature", temperatures))
    result.append(_number(method, False, "training_seconds", seconds))
    result.append(_number(method, False, "training_time", relative))
    for name, value in costs.items():
        estimate = Estimate(value, None, None, "none")
        result.append(_row(method, False, name, estimate, {}) | {"seeds": len(files)})
    return result


def _cell(found: dict[str, dict], metric: str) -> str:
    if metric not in found:
        return format.NONE
    kind = TITLES[metric][1]
    text = format.with_interval(kind, found[metric])
    levels = [found.get(f"{metric}_{level}") for level in range(1, 6)]
    if None in levels:
        return text
    told = [format.metric_value(kind, level["value"]).removesuffix(" %") for level in levels]
    return f"{text} ({', '.join(told)})"


def _cost_cells(found: dict[str, dict]) -> list[str]:
    value = {name: row["value"] for name, row in found.items()}
    step, asked = value["step_megabytes"], value["predict_megabytes"]
    return [
        format.count(value["parameters"]),
        f"{format.number(value['training_time'])} x",
        str(value["draws"]),
        format.number(value["forward_passes"]),
        f"{format.NONE if step is None else round(step)} / {asked:.0f}",
    ]


def _title(data: dict[str, Any]) -> str:
    counts = {name: format.count(data[name]) for name in ("train", "valid", "test", "corrupted")}
    other = f"; {format.count(data['ood'])} of {data['ood_name']} as OOD" if data["ood"] else ""
    return (
        f"{data['name']}: {counts['train']} training, {counts['valid']} validation and "
        f"{counts['test']} test images, {counts['corrupted']} of them corrupted{other}. "
        f"VGG16 with the {data['head']} head, {data['width']:g} of its width; point trained for "
        f"{data['epochs']:g} epochs."
    )


def table(all_rows: list[dict[str, Any]], data: dict[str, Any]) -> str:
    """The Markdown table, under what it is of, above what its numbers mean.

    Args:
        all_rows: from `rows`, of all methods.
        data: `data.json` of the run.
    """
    titles = ["method", "T", *(title for title, _ in TITLES.values()), *COSTS]
    lines = []
    for method in dict.fromkeys(row["method"] for row in all_rows):
        for tempered in (False, True):
            mine = [r for r in all_rows if (r["method"], r["tempered"]) == (method, tempered)]
            found = {row["metric"]: row for row in mine}
            divided = format.number(found["temperature"]["value"]) if tempered else "1"
            costs = [""] * len(COSTS) if tempered else _cost_cells(found)
            cells = (_cell(found, metric) for metric in TITLES)
            lines.append([f"`{method}`", divided, *cells, *costs])
    counts = {row["seeds"] for row in all_rows}
    n = " to ".join(str(count) for count in sorted({min(counts), max(counts)}))
    own = "validation images" if data["given_splits"] else "splits"
    rule = ONE_SEED if counts == {1} else SEEDS.format(n=n, own=own)
    return "\n".join([_title(data), "", markdown(titles, lines), "", rule, "", LEGEND, ""])


def paired(row: dict, other: dict) -> str:
    """The mean over seeds of a difference at the same seed, with Student's 95 % interval.

    Args:
        row: of the benchmark's result.
        other: the row to compare with.
    """
    seeds = row["each_seed"].keys() & other["each_seed"].keys()
    changes = np.array([row["each_seed"][seed] - other["each_seed"][seed] for seed in seeds])
    mean, low, high, _ = student_interval(changes)
    return f"{mean:+.3f}" if low is None else f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]"


def of_benchmark(result: dict) -> str:
    """One line a method: what it is worth, and what it costs."""
    found = {(row["method"], row["metric"], row["tempered"]): row for row in result["rows"]}
    lines = []
    for method in dict.fromkeys(row["method"] for row in result["rows"]):
        cells = [f"`{method}`"]
        for title, metric, tempered, kind in BENCHMARK:
            row = found.get((method, metric, tempered))
            if row is None:
                cells.append(format.NONE)
            elif title == COMPARED:
                cells.append("" if method == "point" else paired(row, found["point", metric, True]))
            else:
                cells.append(format.metric_value(kind, row["value"]))
        for metric in ("training_time", "forward_passes"):
            cells.append(format.number(found[method, metric, False]["value"]))
        lines.append(cells)
    costs = ["training time", "forward passes"]
    return markdown(["method", *(title for title, *_ in BENCHMARK), *costs], lines)
