"""The paper's data: MNIST as 50,000 / 10,000 / 10,000, pixels divided by 126 (section 5.1)."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from research.data.sources import tfds
from research.data.sources.source import TEST, TRAIN, Source
from research.method import Batch, Model
from research.models import chain
from research.models.layers import Dense, Dropout
from research.training.sweep import Data

NUM_CLASSES = 10
NUM_VALID = 10_000  # of the official training images
SCALE = 126.0


class Digits(NamedTuple):
    """The splits, and images that are out of distribution."""

    data: Data
    ood: np.ndarray  # [M, 28, 28] uint8: Fashion-MNIST's test split


def _read(source: Source, rows: np.ndarray) -> Batch:
    title = f"reading {source.name}"
    bar = tqdm(rows, desc=title, unit="image", disable=None, leave=False)
    images = [np.asarray(source.read(int(row)))[..., 0] for row in bar]  # grey: R = G = B
    return Batch(np.stack(images), source.labels[rows].astype(np.int32))


def load(data_dir: str | None, train: int | None, other: int | None) -> Digits:
    """Reads MNIST and Fashion-MNIST as TensorFlow Datasets prepared them.

    The validation images are a random part of the official training images, the same for all seeds.

    Args:
        data_dir: where TFDS sets lie; None: `TFDS_DATA_DIR`.
        train: at most so many training images; None: 50,000.
        other: at most so many validation, test and Fashion-MNIST images each; None: 10,000.

    Raises:
        UserError: a set is not prepared there.
    """
    digits = tfds.open_source("tfds:mnist", data_dir)
    clothes = tfds.open_source("tfds:fashion_mnist", data_dir)
    order = np.random.default_rng(0).permutation(np.flatnonzero(digits.given == TRAIN))
    tests = [np.flatnonzero(source.given == TEST)[:other] for source in (digits, clothes)]
    data = Data(
        _read(digits, order[NUM_VALID:][:train]),
        _read(digits, order[:NUM_VALID][:other]),
        _read(digits, tests[0]),
    )
    return Digits(data, _read(clothes, tests[1]).images)


def network(units: int, dropout: float = 0.0) -> Model:
    """784-units-units-10 with rectified linear units.

    Args:
        units: of each hidden layer.
        dropout: rate after each hidden layer.
    """
    layers = []
    for name in ("hidden1", "hidden2"):
        layers += [Dense(name, units, "relu")] + [Dropout(dropout)] * (dropout > 0)
    layers = (*layers, Dense("predictions", NUM_CLASSES))

    def scale(images):
        return images.reshape(len(images), -1).astype(jnp.float32) / SCALE

    return chain.as_model(chain.Chain(layers), scale)
