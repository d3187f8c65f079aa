"""What the experiments of the paper leave behind: rows beside the paper's, and arrays to draw.

Each part of an experiment (a cell of Table 1, the pruning curve, the bandits) writes NAME.json and
NAME.npz into the run's folder. They are small, so that a run's results can be committed, and the
report is made from them alone.
"""

import json
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from experiments.markdown import markdown
from research.runtime.errors import UserError
from research.runtime.files import write_json, write_whole
from research.runtime.run_folder import commit, versions

MET, MISSED, NOT_RUN = "met", "missed", "not run"


class Part(NamedTuple):
    """One part, read back."""

    name: str
    found: dict
    arrays: dict[str, np.ndarray]


def row(
    table: str,
    name: str,
    column: str,
    ours: float | None,
    low: float | None = None,
    high: float | None = None,
    paper: float | None = None,
    within: float | None = None,
    as_paper: bool = True,
) -> dict:
    """A line of `result.json`.

    Args:
        table: of the paper: "1", "2", "figure 5", "figure 6".
        name: the row's title.
        column: the column's.
        ours: the value; None: it was never reached.
        low: of its 95 % interval.
        high: of its 95 % interval.
        paper: the paper's value; None: the paper has none, and there is no verdict.
        within: how far above the paper's value is still met.
        as_paper: whether this was the paper's protocol; a shorter run has no verdict.
    """
    verdict = None
    if paper is not None and as_paper:
        verdict = MET if ours <= paper + within else MISSED
    told = {"table": table, "row": name, "column": column}
    numbers = {"ours": ours, "low": low, "high": high, "paper": paper}
    return told | numbers | {"verdict": verdict}


def not_run(table: str, name: str, column: str, paper: float) -> dict:
    """A line for a cell of the paper that has not been run."""
    return row(table, name, column, np.inf, None, None, paper, 0.0) | {
        "ours": None,
        "verdict": NOT_RUN,
    }


def hardware() -> str:
    """The devices, in words."""
    return f"{jax.device_count()} x {jax.devices()[0].device_kind}"


def write(directory: Path, name: str, found: dict, arrays: dict[str, np.ndarray]) -> None:
    """Writes a part, with where it was made.

    Args:
        directory: the run's folder.
        name: of the part.
        found: JSON-able; has `rows`.
        arrays: to draw; floats are kept in single precision.
    """
    small = {
        key: np.asarray(value, np.float32) if np.asarray(value).dtype.kind == "f" else value
        for key, value in arrays.items()
    }
    write_whole(directory / f"{name}.npz", lambda path: np.savez_compressed(path, **small))
    made = {"hardware": hardware(), "commit": commit(), "versions": versions()}
    write_json(directory / f"{name}.json", found | made)


def read(directory: Path, prefix: str) -> list[Part]:
    """The parts in a folder whose names start so, in alphabetical order.

    Raises:
        UserError: one cannot be read.
    """
    parts = []
    for path in sorted(directory.glob(f"{prefix}*.json"), key=lambda path: path.stem):
        arrays = path.with_suffix(".npz")
        if not arrays.exists():
            continue
        try:
            with np.load(arrays, allow_pickle=False) as file:
                parts.append(Part(path.stem, json.loads(path.read_text()), dict(file)))
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: cannot be read; remove it and run its command") from error
    return parts


def told(value: float | None, low: float | None = None, high: float | None = None) -> str:
    """A number with its interval, as the tables show it."""
    if value is None:
        return ""
    digits = 2 if abs(value) < 100 else 0
    text = f"{value:,.{digits}f}"
    return text if low is None else f"{text} [{low:,.{digits}f}, {high:,.{digits}f}]"


def comparison(rows: list[dict]) -> str:
    """A Markdown table of our numbers beside the paper's."""
    lines = [
        [
            row["table"],
            row["row"],
            row["column"],
            told(row["ours"], row["low"], row["high"]),
            told(row["paper"]),
            row["verdict"] or "",
        ]
        for row in rows
    ]
    return markdown(["table", "row", "column", "ours", "paper", "verdict"], lines)
