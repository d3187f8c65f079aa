"""What the rest of Candor knows of data: three splits of indexable images."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import numpy as np

SPLITS = ("train", "valid", "test")


class Images(Protocol):
    """Indexable images: a numpy array (in memory, or memory-mapped), or decoded on demand."""

    @property
    def shape(self) -> tuple[int, ...]:
        """[N, H, W, 3]."""
        ...

    def __getitem__(self, index: Any, /) -> np.ndarray:
        """Images [n, H, W, 3] uint8 at `index` [n]."""
        ...

    def __len__(self) -> int:
        """N."""
        ...


class Split(NamedTuple):
    """One part of a data set. The three fields are aligned."""

    images: Images  # [N, H, W, 3] uint8; a data set of cached features: [N, ...] float32
    labels: np.ndarray  # [N] int32, 0..K-1
    ids: np.ndarray  # [N] str: a file's path below the folder, "train/17" of TFDS, else "17"

    @property
    def example(self) -> np.ndarray:
        """The first image as a batch of one, from which a network takes its shapes."""
        return self.images[np.arange(1)]


class Dataset(NamedTuple):
    """Images with labels, split once.

    `given_splits` is true where the source itself says what is train and what is test; false where
    Candor split at random. `notes` are plain sentences for the report: duplicates, skipped files.
    `facts` are the same as numbers. `fingerprint` changes when a pixel or the order of the images
    does; "" where nobody asked.
    """

    name: str
    classes: tuple[str, ...]  # K names, in the order of the labels
    train: Split
    valid: Split
    test: Split
    given_splits: bool = False
    notes: tuple[str, ...] = ()
    facts: Mapping[str, int] = MappingProxyType({})
    fingerprint: str = ""

    @property
    def num_train(self) -> int:
        """N of the training split: the N of every KL/N."""
        return len(self.train.labels)

    @property
    def splits(self) -> dict[str, Split]:
        """The splits by name, in the order train, valid, test."""
        return {name: getattr(self, name) for name in SPLITS}


def first_five(names: Sequence[str]) -> str:
    """The first five of some names, and how many more there are, for a message."""
    shown = ", ".join(name if name.isprintable() else repr(name) for name in names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"


def spread(n: int, most: int | None) -> np.ndarray:
    """At most `most` indices below n (None: all), evenly spaced, so that every class is there."""
    return np.unique(np.linspace(0, n - 1, min(n, most or n)).astype(int))
