"""The images that a page shows beside its numbers, kept in the run's folder."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from research.runtime.files import write_whole

FILE = "pictures.npz"
MEAN = "mean"


class Pictures(NamedTuple):
    """Images that result.json refers to; none where a run had predictions only."""

    images: Mapping[tuple[str, int], np.ndarray] = MappingProxyType({})
    # [H, W, 3] uint8, by split and index in it
    mean: np.ndarray | None = None  # [H, W, 3] uint8, of the test images


def save(directory: Path, pictures: Pictures) -> None:
    """Writes the pictures into a run's folder; without any, no file is written."""
    arrays = {f"{split}-{index}": image for (split, index), image in pictures.images.items()}
    if pictures.mean is not None:
        arrays[MEAN] = pictures.mean
    if arrays:
        write_whole(
            directory / FILE, lambda part: np.savez_compressed(part, allow_pickle=False, **arrays)
        )


def load(directory: Path) -> Pictures:
    """Reads the pictures of a run.

    Raises:
        OSError, ValueError: there is a file, but it cannot be read.
    """
    if not (directory / FILE).exists():
        return Pictures()
    with np.load(directory / FILE, allow_pickle=False) as file:
        arrays = dict(file)
    mean = arrays.pop(MEAN, None)
    keys = {name: name.rpartition("-") for name in arrays}
    return Pictures({(k[0], int(k[2])): arrays[name] for name, k in keys.items()}, mean)
