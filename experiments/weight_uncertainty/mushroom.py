"""The UCI mushroom data (Schlimmer 1987): 8,124 of them, 22 attributes, edible or not.

A CSV with a header: the column `class` (edible or poisonous, or e and p) and one per attribute.
"""

import csv
from pathlib import Path
from typing import NamedTuple

import numpy as np

from research.runtime.errors import UserError

NUM_ATTRIBUTES = 22
CLASSES = {"edible": True, "e": True, "poisonous": False, "p": False}


class Mushrooms(NamedTuple):
    """Contexts, and whether each mushroom can be eaten; the arrays are aligned."""

    contexts: np.ndarray  # [N, D] float32: each attribute one-hot
    is_edible: np.ndarray  # [N] bool


def _error(path: Path, problem: str) -> UserError:
    way_out = (
        f"give the UCI mushroom file as CSV, with a header of class and its {NUM_ATTRIBUTES} "
        "attributes"
    )
    return UserError("mushrooms", problem, way_out, value=path)


def load(path: Path) -> Mushrooms:
    """Reads the file; every value that an attribute takes in it becomes one input.

    Raises:
        UserError: no such file; other columns; a row cut short; a class that is neither.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            header, *rows = list(csv.reader(file))
    except (OSError, ValueError, csv.Error) as error:
        raise _error(path, f"cannot be read ({error})") from error
    if "class" not in header:
        raise _error(path, f"its columns are {', '.join(header[:5])} ...")
    if len(header) != NUM_ATTRIBUTES + 1:
        raise _error(path, f"it has {len(header) - 1} columns beside class")
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise _error(path, f"line {number} has {len(row)} values")
    if not rows:
        raise _error(path, "it has no rows")
    table = np.array(rows)
    place = header.index("class")
    unknown = sorted(set(table[:, place]) - CLASSES.keys())
    if unknown:
        raise _error(path, f"class {str(unknown[0])!r} is neither edible nor poisonous")
    columns = [
        table[:, [column]] == np.unique(table[:, column])
        for column in range(len(header))
        if column != place
    ]
    is_edible = np.array([CLASSES[name] for name in table[:, place]])
    return Mushrooms(np.concatenate(columns, axis=1).astype(np.float32), is_edible)
