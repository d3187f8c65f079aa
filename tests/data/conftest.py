"""Small data sets on disk, made for the tests."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def _noise(n: int, seed: int = 0, size: int = 4) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


@pytest.fixture(scope="session")
def noise():
    """noise(n, seed=0, size=4): [n, size, size, 3] uint8, all different."""
    return _noise


@pytest.fixture
def make_folder(tmp_path):
    """make_folder({"good": 20, ...}): a folder of class folders of different PNGs, 20x20."""

    def make(counts: dict[str, int], name: str = "photos") -> Path:
        root = tmp_path / name
        for c, (folder, count) in enumerate(counts.items()):
            (root / folder).mkdir(parents=True, exist_ok=True)
            for i, pixels in enumerate(_noise(count, seed=c, size=20)):
                Image.fromarray(pixels).save(root / folder / f"{i:03}.png")
        return root

    return make


@pytest.fixture
def save_npz(tmp_path):
    """save_npz(images=..., labels=...): the path of an .npz file of these arrays, as a spec."""

    def save(**arrays) -> str:
        np.savez(tmp_path / "set.npz", **arrays)
        return str(tmp_path / "set.npz")

    return save
