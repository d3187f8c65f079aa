"""What do several runs say, side by side? Prints Markdown tables from their result.json files.

    launch/run.sh experiments.table runs/digits runs/fashion
    launch/run.sh experiments.table experiments/results/benchmark

Runs of `diagnose` share one table; those of `benchmark`, `exam`, `fidelity`, `speed`, `tune` and
the causes have one each, shorter than what the command itself prints. The tables of the README are
made with it.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from scipy.stats import t

from experiments import cli
from experiments.tune import result as tune_result
from research.metrics import format
from research.runtime.errors import UserError

METRICS = ("accuracy", "mean_confidence", "nll", "brier", "ece")
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


@dataclass(frozen=True)
class Config:
    """Prints the test results of several runs as Markdown."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """folders of runs"""


def _read(run: Path) -> dict[str, Any]:
    try:
        return json.loads((run / "result.json").read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{run}: no finished run there (no readable result.json)") from error


def markdown(titles: list[str], lines: list[list[str]]) -> str:
    """A Markdown table of cells."""
    rows = ["| " + " | ".join(cells) + " |" for cells in (titles, *lines)]
    return "\n".join([rows[0], "|" + "---|" * len(titles), *rows[1:]])


def of_diagnoses(results: list[dict]) -> str:
    """One line a run and method."""
    lines = [
        [result["data"]["name"], format.count(test["n"]), method["title"]]
        + [format.with_interval(name, test["metrics"][name]) for name in METRICS]
        for result in results
        for method in result["methods"].values()
        for test in (method["splits"]["test"],)
    ]
    names = [format.metric_name(name) for name in METRICS]
    return markdown(["data", "test images", "method", *names], lines)


def paired(row: dict, other: dict) -> str:
    """The mean over seeds of a difference at the same seed, with Student's 95 % interval.

    Args:
        row: of the benchmark's result.
        other: the row to compare with.
    """
    seeds = row["each_seed"].keys() & other["each_seed"].keys()
    change = np.array([row["each_seed"][seed] - other["each_seed"][seed] for seed in seeds])
    told = f"{np.mean(change):+.3f}"
    if len(change) < 2:
        return told
    half = t.ppf(0.975, len(change) - 1) * np.std(change, ddof=1) / len(change) ** 0.5
    return f"{told} [{np.mean(change) - half:+.3f}, {np.mean(change) + half:+.3f}]"


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


def of_fidelity(result: dict) -> str:
    """One line a method."""

    def cell(row, name, digits):
        spread = row[f"{name}_sd"]
        told = f"{row[name]:.{digits}f}"
        return told if spread is None else f"{told} ± {spread:.{digits}f}"

    lines = [
        [f"`{row['method']}`", cell(row, "total_variation", 4), cell(row, "agreement", 3)]
        for row in result["rows"]
    ]
    return markdown(["method", "total variation", "agreement"], lines)


def of_speed(result: dict) -> str:
    """One line a comparison."""
    lines = []
    for row in result["rows"]:
        target = "" if row["target"] is None else f"at most {row['target']:g}"
        missed = " (missed)" if row["met"] is False else ""
        ratio = f"{row['ratio']:.2f}"
        lines.append([row["name"], row["against"].split(": ")[-1], ratio, target + missed])
    return markdown(["what", "against", "ratio", "target"], lines)


def of_exam(result: dict) -> str:
    """One line a planted fault and strength."""

    def cell(share):
        if share["value"] is None:
            return ""
        ends = f"[{100 * share['low']:.0f}, {100 * share['high']:.0f}]"
        return f"{100 * share['value']:.0f} % {ends} of {share['n']}"

    lines = [
        [row["planted"].replace("_", " "), row["strength"]]
        + [cell(row[name]) for name in ("named_first", "named", "false_alarm")]
        for row in result["rows"]
    ]
    titles = ["planted", "strength", "ranked first", "named", "healthy called ill"]
    return markdown(titles, lines)


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


def of_tune(result: dict) -> str:
    """One line an option that was searched, then one a metric of the test split."""
    lines = []
    for name, option in result["options"].items():
        share = option["importance"]
        lines.append(
            [
                name.replace("_", " "),
                f"{option['low']:g} to {option['high']:g}",
                f"{option['default']:g}",
                f"{option['best']:g}",
                "" if share is None else format.percent(share, decimals=0),
            ]
        )
    for metric, (before, *after) in tune_result.test_rows(result):
        best, change = after or (before, "")
        lines.append([f"{metric} on the test images", "", before, best, change])
    titles = ["", "searched", "default", "best", "share of the NLL's variance, or change"]
    return markdown(titles, lines)


FORMS: dict[str, Callable[[dict], str]] = {  # by a key of the first row or trial
    "example": of_causes,
    "metric": of_benchmark,
    "total_variation": of_fidelity,
    "ratio": of_speed,
    "planted": of_exam,
    "valid_nll": of_tune,
}


def main(config: Config) -> None:
    """Prints the tables.

    Raises:
        UserError: a folder holds no finished run that has a table.
    """
    if not config.runs:
        raise UserError("no runs given; name the folders, such as runs/digits")
    results = {run: _read(run) for run in config.runs}
    diagnoses = [result for result in results.values() if "methods" in result]
    tables = [of_diagnoses(diagnoses)] if diagnoses else []
    for run, result in results.items():
        if "methods" in result:
            continue
        first = next(iter(result.get("rows", result.get("trials", ()))), {})
        form = next((form for key, form in FORMS.items() if key in first), None)
        if form is None:
            raise UserError(f"{run}: no table for the result.json there")
        tables.append(form(result))
    print("\n\n".join(tables))


if __name__ == "__main__":
    cli.run(main, Config)
