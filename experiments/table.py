"""What do several runs say, side by side? Prints a Markdown table from their result.json files.

    launch/run.sh experiments.table runs/digits runs/fashion

The tables of the README are made with it.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import tyro

from experiments import cli
from research.errors import UserError
from research.report import words

METRICS = ("accuracy", "mean_confidence", "nll", "brier", "ece")


@dataclass(frozen=True)
class Config:
    """Prints the test results of several runs as one Markdown table."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """folders of runs"""


def rows(run: Path) -> list[str]:
    """One line a method.

    Args:
        run: the folder of a finished run.

    Raises:
        UserError: it is none.
    """
    try:
        result = json.loads((run / "result.json").read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{run}: no finished run there (no readable result.json)") from error
    lines = []
    for method in result["methods"].values():
        test = method["splits"]["test"]
        cells = [words.with_interval(name, test["metrics"][name]) for name in METRICS]
        lines.append(
            f"| {result['data']['name']} | {words.count(test['n'])} | {method['title']} | "
            + " | ".join(cells)
            + " |"
        )
    return lines


def main(config: Config) -> None:
    """Prints the table."""
    if not config.runs:
        raise UserError("no runs given; name the folders, such as runs/digits")
    lines = [line for run in config.runs for line in rows(run)]
    names = [words.metric_name(name) for name in METRICS]
    print("| data | test images | method | " + " | ".join(names) + " |")
    print("|" + "---|" * (3 + len(names)))
    print("\n".join(lines))


if __name__ == "__main__":
    cli.run(main, Config)
