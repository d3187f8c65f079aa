"""Prints Markdown tables from the result.json files of several runs, side by side.

    launch/run.sh experiments.table runs/digits runs/fashion
    launch/run.sh experiments.table experiments/results/benchmark

Runs of `diagnose` share one table; those of `benchmark`, `exam`, `fidelity`, `speed`, `tune` and
the toy problems have one each, shorter than what the command itself prints. The tables of the
README are made with it.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from experiments import cli
from experiments.benchmark.table import of_benchmark
from experiments.exam.table import of_exam
from experiments.fidelity.table import of_fidelity
from experiments.markdown import markdown
from experiments.speed import of_speed
from experiments.toy_problems.table import of_toy_problem
from experiments.tune.table import of_tune
from research.metrics import format
from research.runtime.errors import UserError

METRICS = ("accuracy", "mean_confidence", "nll", "brier", "ece")
TABLES: dict[str, Callable[[dict], str]] = {  # by a key of the first row or trial
    "example": of_toy_problem,
    "metric": of_benchmark,
    "total_variation": of_fidelity,
    "ratio": of_speed,
    "planted": of_exam,
    "valid_nll": of_tune,
}


@dataclass(frozen=True)
class Config:
    """Prints the test results of several runs as Markdown."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """folders of runs"""


def _read(run: Path) -> dict[str, Any]:
    try:
        return json.loads((run / "result.json").read_text())
    except (OSError, ValueError) as error:
        problem = "no finished run there (no readable result.json)"
        raise UserError(None, problem, value=run) from error


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


def main(config: Config) -> None:
    """Prints the tables.

    Raises:
        UserError: a folder holds no finished run that has a table.
    """
    if not config.runs:
        raise UserError(None, "no runs given", "name the folders, such as runs/digits")
    results = {run: _read(run) for run in config.runs}
    diagnoses = [result for result in results.values() if "methods" in result]
    tables = [of_diagnoses(diagnoses)] if diagnoses else []
    for run, result in results.items():
        if "methods" in result:
            continue
        first = next(iter(result.get("rows", result.get("trials", ()))), {})
        of_run = next((table for key, table in TABLES.items() if key in first), None)
        if of_run is None:
            raise UserError(None, "no table for the result.json there", value=run)
        tables.append(of_run(result))
    print("\n\n".join(tables))


if __name__ == "__main__":
    cli.run(main, Config)
