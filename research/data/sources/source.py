"""What every kind of source gives `load`: labels at once, images one by one.

A kind of source is a module of this package with two functions:

    matches(spec) -> bool                    is this what the person named?
    open_source(spec, data_dir) -> Source    UserError where it cannot be read

Opening reads labels only, so that a limit or a split is chosen before any image is decoded.
"""

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from research.runtime.errors import UserError

TRAIN, VALID, TEST = range(3)
SPLIT_NAMES = {  # what people call them
    "train": TRAIN,
    "valid": VALID,
    "val": VALID,
    "validation": VALID,
    "test": TEST,
}


class Source(NamedTuple):
    """A set of labelled images, not yet decoded. The arrays are aligned."""

    name: str
    classes: tuple[str, ...]  # K names, in the order of the labels
    labels: np.ndarray  # [N] int, 0..K-1
    ids: np.ndarray  # [N] str
    read: Callable[[int], Image.Image]  # decodes image i to RGB at its own size; UnreadableImage
    fingerprint: str  # changes when the files behind the source do
    given: np.ndarray | None = None  # [N] TRAIN, VALID or TEST; None: the source has no splits
    native_size: int | None = None  # the side of every image; None: they differ
    notes: tuple[str, ...] = ()


def bad_data(spec: object, problem: str, way_out: str = "") -> UserError:
    """The error about what the option `data` names."""
    return UserError("data", problem, way_out, value=spec)


def only(source: Source, classes: tuple[str, ...]) -> Source:
    """The images of some classes, which are then all there are.

    Raises:
        UserError: there is no such class, or only one is named.
    """
    unknown = [name for name in classes if name not in source.classes]
    if unknown or len(set(classes)) < 2:
        wrong = f"no class {unknown[0]!r}" if unknown else "one class tells nothing apart"
        way_out = f"give two or more of {', '.join(source.classes[:20])}"
        raise UserError("classes", wrong, way_out, value=",".join(classes))
    chosen = [source.classes.index(name) for name in classes]
    rows = np.flatnonzero(np.isin(source.labels, chosen))
    renamed = {old: new for new, old in enumerate(chosen)}
    return source._replace(
        name=f"{source.name}: {', '.join(classes)}",
        classes=classes,
        labels=np.array([renamed[int(old)] for old in source.labels[rows]]),
        ids=source.ids[rows],
        read=lambda i: source.read(int(rows[i])),
        fingerprint=f"{source.fingerprint} {classes}",
        given=None if source.given is None else source.given[rows],
    )


def files_fingerprint(paths: Iterable[Path]) -> str:
    """A digest of the paths, sizes and modification times of files."""
    digest = hashlib.blake2b(digest_size=16)
    for path in paths:
        status = path.stat() if path.exists() else None  # a link to nothing is not readable either
        stamp = status and (status.st_size, status.st_mtime_ns)
        digest.update(f"{path}\0{stamp}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()
