"""`load(spec)`: what a person names, as three splits of images ready for the network."""

import hashlib
import importlib
import pkgutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import research.data.sources
from research.data.dataset import SPLITS, Dataset, Split, first_five
from research.data.decode import decode_once
from research.data.sources.source import TEST, TRAIN, Source, bad_data, only
from research.data.splits import DROPPED, assign, choose, missing_splits, trim
from research.data.streamed import StreamedImages
from research.runtime.errors import UserError
from research.runtime.files import write_json
from research.runtime.options import check_ranges

SMALLEST = 32  # VGG16's five pools halve 32 down to 1
SIZE_OF_MIXED = 64  # where the images have sizes of their own


@dataclass(frozen=True)
class DataOptions:
    """Which images are loaded."""

    data: str = "digits"
    """digits, tfds:NAME, a folder of class folders (or of train/valid/test folders), or an .npz"""
    image_size: int | None = None
    """side in pixels; default: the data's"""
    classes: str | None = None
    """only images of these classes, separated by commas; default: all"""
    limit: int | None = None
    """at most so many images in each split"""
    data_dir: str | None = None
    """where TFDS sets lie; default: TFDS_DATA_DIR"""
    skip_bad_images: bool = False
    """go on without images that cannot be read"""
    memory_gb: float = 4.0
    """decoded images beyond this are streamed"""

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names in `classes`; empty: all classes are wanted."""
        return tuple(name.strip() for name in (self.classes or "").split(",") if name.strip())

    def check(self) -> None:
        """Refuses numbers out of range.

        Raises:
            UserError: an option is out of range.
        """
        check_ranges(self, from_0=("memory_gb",))
        for name in ("image_size", "limit"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(name, "too small", "give 1 or more", value=value)


def _open(spec: str, data_dir: str | None) -> Source:
    for module in pkgutil.iter_modules(research.data.sources.__path__, "research.data.sources."):
        kind = importlib.import_module(module.name)
        if hasattr(kind, "open_source") and kind.matches(spec):
            return kind.open_source(spec, data_dir)
    way_out = "give a folder of class folders, an .npz file, tfds:NAME or digits"
    raise bad_data(spec, "no such folder", way_out)


def _skip_unreadable(spec: str, ids: np.ndarray, skip: bool) -> tuple[str, ...]:
    """The note on the images that cannot be read.

    Raises:
        UserError: there are some, and they are not to be skipped.
    """
    if not len(ids):
        return ()
    listed = first_five(ids.tolist())
    unreadable = f"{len(ids)} unreadable {'image' if len(ids) == 1 else 'images'}"
    if not skip:
        way_out = "mend or remove what is listed, or go on without with `skip_bad_images`"
        raise bad_data(spec, f"{unreadable}: {listed}", way_out)
    return (f"{unreadable} left out: {listed}.",)


def _check_splits(
    spec: str, classes: tuple[str, ...], labels: np.ndarray, split: np.ndarray, is_own: bool
) -> None:
    """Every class must be in train, and every split must hold images.

    Raises:
        UserError: too few images for that.
    """
    for code, name in enumerate(SPLITS):
        if code != TRAIN and not is_own:
            if not np.any(split == code):
                why = "there are too few, or each is also in a later split"
                raise bad_data(spec, f"no image is left for {name}: {why}", "add images to it")
            continue
        absent = np.flatnonzero(np.bincount(labels[split == code], minlength=len(classes)) == 0)
        if len(absent):
            why = "has no readable image in train that is not also in a later split"
            if is_own:
                why = (
                    "has fewer than 3 different readable images (under `limit`, of those chosen), "
                    "and train, valid and test need one each"
                )
            what = f"class {classes[absent[0]]!r} {why}"
            raise bad_data(spec, what, "add images or remove the class")


def _count_copies(
    labels: np.ndarray, groups: np.ndarray, split: np.ndarray
) -> tuple[dict[str, int], list[str]]:
    """How many exact copies there are, as facts and as notes. `split` is that of `assign`."""
    num_groups = groups.max() + 1
    low, high = np.full(num_groups, labels.max()), np.zeros(num_groups, int)
    np.minimum.at(low, groups, labels)
    np.maximum.at(high, groups, labels)
    facts = {
        "duplicates": len(groups) - int(num_groups),
        "duplicates_across_splits": int(np.sum(split == DROPPED)),
        "duplicates_with_different_labels": int(np.sum((low != high)[groups])),
    }
    notes = []
    if facts["duplicates"]:
        notes.append(
            f"Exact copies of another image: {facts['duplicates']}. "
            "All copies of an image are in one split."
        )
    if facts["duplicates_across_splits"]:
        notes.append(
            "Left out of train or valid, because the same image is in a later split: "
            f"{facts['duplicates_across_splits']}."
        )
    if facts["duplicates_with_different_labels"]:
        notes.append(
            "Images with an exact copy of another class (one of the two labels must be wrong): "
            f"{facts['duplicates_with_different_labels']}."
        )
    return facts, notes


def load(
    data: DataOptions | str,
    *,
    seed: int = 0,
    cache_dir: Path | str | None = None,
    progress: bool = True,
    **options,
) -> Dataset:
    """Loads images with labels and splits them once.

    Where `image_size` is left open it is the data's own, but at least 32, and 64 where the images
    differ in size. A `limit` keeps the shares of the classes.

    Args:
        data: all options, or the option `data` alone.
        seed: decides the splits, and which images a limit keeps.
        cache_dir: gets the decoded images and `splits.json`; None: nothing is written.
        progress: show a bar on a terminal.
        **options: the other options, where `data` is the option alone.

    Raises:
        UserError: the data or an option cannot be used; the message is one line.
    """
    if isinstance(data, str):
        data = DataOptions(data, **options)
    data.check()
    if seed < 0:
        raise UserError("seed", "too small", "give 0 or more", value=seed)
    cache_dir = None if cache_dir is None else Path(cache_dir)
    spec = data.data
    source = _open(spec, data.data_dir)
    source = only(source, data.class_names) if data.class_names else source
    size = data.image_size or max(SMALLEST, source.native_size or SIZE_OF_MIXED)
    generator = np.random.default_rng(seed)

    is_own = source.given is None
    given = np.full(len(source.labels), TRAIN) if source.given is None else source.given
    rows = choose(source.labels, given, data.limit, generator)
    images, digests = decode_once(source, rows, size, data.memory_gb, cache_dir, progress)
    readable = digests.any(axis=1)
    bad = source.ids[rows[~readable]]
    notes = [*source.notes, *_skip_unreadable(spec, bad, data.skip_bad_images)]
    if not is_own:
        notes += [
            f"The source has no {SPLITS[code]} split: it is cut from train, 15 % of it."
            for code in missing_splits(given)
        ]

    rows, places = rows[readable], np.flatnonzero(readable)
    labels = source.labels[rows].astype(np.int32)
    groups = np.unique(digests[readable], axis=0, return_inverse=True)[1].reshape(-1)
    split = assign(labels, given[rows], groups, generator)
    facts, copies = _count_copies(labels, groups, split)
    _check_splits(spec, source.classes, labels, split, is_own)
    split = trim(labels, split, data.limit, generator)

    def part(code):
        index = np.flatnonzero(split == code)
        if images is None:
            pixels = StreamedImages(source.read, rows[index], size)
        else:
            pixels = images[places[index]]
        return Split(pixels, labels[index], source.ids[rows[index]])

    parts = {name: part(code) for code, name in enumerate(SPLITS)}
    fingerprint = hashlib.blake2b(digest_size=16)
    for code in range(len(SPLITS)):
        found = digests[places[split == code]]
        fingerprint.update(f"{len(found)} images".encode() + found.tobytes())
    if cache_dir is not None:
        ids = {name: part.ids.tolist() for name, part in parts.items()}
        write_json(cache_dir / "splits.json", ids)
    return Dataset(
        name=source.name,
        classes=source.classes,
        **parts,
        given_splits=not is_own and TEST in given,
        notes=(*notes, *copies),
        facts={"unreadable": len(bad), **facts},
        fingerprint=fingerprint.hexdigest(),
    )
