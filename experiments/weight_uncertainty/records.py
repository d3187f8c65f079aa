"""Records of the paper's experiments: rows beside the paper's own, and arrays to draw.

Each part of an experiment (a cell of Table 1, the pruning curve, an agent) writes a record of
NAME.json and NAME.npz into the run's folder. Records are small, so that a run's results can be
committed, and the report is made from them alone.
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


class Record(NamedTuple):
    """The record of one part of an experiment, read back."""

    name: str
    found: dict  # the JSON file; has `rows`
    arrays: dict[str, np.ndarray]


class Target(NamedTuple):
    """A number of the paper, to compare ours with."""

    paper: float
    within: float  # how far above the paper's number ours may lie
    is_as_paper: bool = True  # whether ours follows the paper's protocol; if not, no verdict


def row(
    table: str,
    name: str,
    column: str,
    ours: float | None,
    low: float | None = None,
    high: float | None = None,
    target: Target | None = None,
) -> dict:
    """A row of result.json.

    Args:
        table: where it is in the paper: "1", "2", "figure 5", "figure 6".
        name: title of the row.
        column: title of the column.
        ours: the value; None where it was never reached.
        low: lower end of its 95 % interval.
        high: upper end of its 95 % interval.
        target: the paper's value; None where the paper has none, and there is no verdict.
    """
    verdict = None
    if target is not None and target.is_as_paper:
        is_met = ours is not None and ours <= target.paper + target.within
        verdict = MET if is_met else MISSED
    cell = {"table": table, "row": name, "column": column}
    numbers = {"ours": ours, "low": low, "high": high, "paper": target and target.paper}
    return cell | numbers | {"verdict": verdict}


def not_run(table: str, name: str, column: str, paper: float) -> dict:
    """The row of a cell of the paper that has not been run."""
    return row(table, name, column, None) | {"paper": paper, "verdict": NOT_RUN}


def hardware() -> str:
    """The number of devices and their kind."""
    return f"{jax.device_count()} x {jax.devices()[0].device_kind}"


def write(directory: Path, name: str, found: dict, arrays: dict[str, np.ndarray]) -> None:
    """Writes a record, with the hardware, the commit and the versions that made it.

    Args:
        directory: folder of the run.
        name: of the record.
        found: what goes into the JSON file; has `rows`.
        arrays: to draw; floats are kept in single precision.
    """
    small = {
        key: np.asarray(value, np.float32) if np.asarray(value).dtype.kind == "f" else value
        for key, value in arrays.items()
    }
    write_whole(
        directory / f"{name}.npz",
        lambda path: np.savez_compressed(path, allow_pickle=False, **small),
    )
    made = {"hardware": hardware(), "commit": commit(), "versions": versions()}
    write_json(directory / f"{name}.json", found | made)


def read(directory: Path, prefix: str) -> list[Record]:
    """The records in a folder whose names start with `prefix`, in alphabetical order.

    Raises:
        UserError: one cannot be read.
    """
    records = []
    for path in sorted(directory.glob(f"{prefix}*.json"), key=lambda path: path.stem):
        arrays = path.with_suffix(".npz")
        if not arrays.exists():
            continue
        try:
            with np.load(arrays, allow_pickle=False) as file:
                records.append(Record(path.stem, json.loads(path.read_text()), dict(file)))
        except (OSError, ValueError) as error:
            way_out = "remove it and run its command"
            raise UserError(None, "cannot be read", way_out, value=path) from error
    return records


def number(value: float | None, low: float | None = None, high: float | None = None) -> str:
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
            number(row["ours"], row["low"], row["high"]),
            number(row["paper"]),
            row["verdict"] or "",
        ]
        for row in rows
    ]
    return markdown(["table", "row", "column", "ours", "paper", "verdict"], lines)
