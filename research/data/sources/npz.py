"""An `.npz` file of images and labels.

`images` [N, H, W] or [N, H, W, 1 | 3 | 4], uint8 or float in 0..1; `labels` [N], integers or
strings; optional `split` [N] ("train", "valid", "test") and `classes` [K] (names). Nothing is
unpickled.
"""

import zipfile
import zlib
from functools import partial
from pathlib import Path

import numpy as np

from research.data.images import from_array
from research.data.sources.source import SPLIT_NAMES, TRAIN, Source, bad_data, files_fingerprint
from research.runtime.errors import UserError


def matches(spec: str) -> bool:
    """Whether the spec is an `.npz` file."""
    return spec.endswith(".npz") and not Path(spec).is_dir()


def read_arrays(option: str, path: str | Path) -> dict[str, np.ndarray]:
    """The arrays of an `.npz` file, by name.

    Args:
        option: the option that gave the file, for messages.
        path: the file.

    Raises:
        UserError: there is no such file, it is not a whole `.npz`, or it holds Python objects.
    """
    bad = partial(UserError, option, value=path)
    broken = bad("not a whole .npz file", "write it again with np.savez")
    try:
        # Opened here, because np.load leaves a broken file open.
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        raise bad("no such file", "give the path of an .npz file") from None
    except PermissionError:
        raise bad("no permission to read it", "check its mode") from None
    except ValueError as error:
        if "Object arrays" not in str(error):
            raise broken from error
        what = "an array in it holds Python objects, which are never unpickled"
        raise bad(what, "save numbers and strings") from error
    # A bare .npy array is no context manager, hence the TypeError; zipfile raises RuntimeErrors.
    except (OSError, EOFError, TypeError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise broken from error


def _check_images(spec: str, images: np.ndarray) -> None:
    shaped = images.ndim == 3 or (images.ndim == 4 and images.shape[-1] in (1, 3, 4))
    if not shaped or images.size == 0:
        way_out = "they must be [N, H, W] or [N, H, W, 1, 3 or 4]"
        raise bad_data(spec, f"images have shape {images.shape}", way_out)
    is_float = np.issubdtype(images.dtype, np.floating)
    if images.dtype != np.uint8 and not is_float:
        way_out = "they must be uint8, or float in 0..1"
        raise bad_data(spec, f"images are {images.dtype}", way_out)
    # NaN fails the comparison too.
    if is_float and not (images.min() >= 0 and images.max() <= 1):
        way_out = "divide them by their largest value, or save uint8"
        raise bad_data(spec, "float images must lie in 0..1, without NaN", way_out)


def _classes_and_labels(
    spec: str, labels: np.ndarray, classes: np.ndarray | None
) -> tuple[tuple[str, ...], np.ndarray]:
    if classes is not None and (classes.ndim != 1 or len(set(classes.tolist())) != classes.size):
        raise bad_data(spec, "classes must be one list of different names")
    if labels.dtype.kind == "U":
        names = np.unique(labels) if classes is None else classes
        unknown = sorted(set(labels.tolist()) - set(names.tolist()))
        if unknown:
            raise bad_data(spec, f"label {unknown[0]!r} is not among its classes", "add it")
        order = np.argsort(names)
        return tuple(map(str, names)), order[np.searchsorted(names, labels, sorter=order)]
    if not np.issubdtype(labels.dtype, np.integer):
        way_out = "they must be integers 0..K-1 or strings"
        raise bad_data(spec, f"labels are {labels.dtype}", way_out)
    # Without names the labels themselves say how many classes there are.
    found = np.unique(labels)
    count = len(found) if classes is None else len(classes)
    if found[0] < 0 or found[-1] >= count:
        what = f"they run from {found[0]} to {found[-1]}, and there are {count} classes"
        raise bad_data(spec, f"labels out of range: {what}", f"number them 0 to {count - 1}")
    return tuple(map(str, range(count) if classes is None else classes)), labels.astype(np.int64)


def _given_splits(spec: str, split: np.ndarray | None) -> np.ndarray | None:
    if split is None:
        return None
    names = set(split.tolist())
    if not names <= SPLIT_NAMES.keys() or "train" not in names:
        way_out = "its values must be train, valid and test, with some train"
        raise bad_data(spec, f"split holds {sorted(map(str, names))[:5]}", way_out)
    given = np.array([SPLIT_NAMES[name] for name in split.tolist()])
    return None if (given == TRAIN).all() else given


def open_source(spec: str, data_dir: str | None = None) -> Source:
    """Opens an `.npz` file.

    Raises:
        UserError: the file or one of its arrays is not as the module says.
    """
    del data_dir
    arrays = read_arrays("data", spec)
    for name in ("images", "labels"):
        if name not in arrays:
            found = ", ".join(arrays) or "nothing"
            raise bad_data(spec, f"holds no array {name!r}", f"found: {found}")
    images, labels = arrays["images"], arrays["labels"]
    _check_images(spec, images)
    for name in ("labels", "split"):
        if name in arrays and arrays[name].shape != (len(images),):
            what = f"{name} have shape {arrays[name].shape}, and there are {len(images)} images"
            raise bad_data(spec, what, "give one for each image")
    classes, labels = _classes_and_labels(spec, labels, arrays.get("classes"))
    if len(classes) < 2:
        raise bad_data(spec, f"only one class, {next(iter(classes))!r}", "a classifier needs two")

    def read(i):
        if images.dtype == np.uint8:
            return from_array(images[i])
        return from_array(np.round(images[i] * 255).astype(np.uint8))

    return Source(
        name=Path(spec).stem,
        classes=classes,
        labels=labels,
        ids=np.arange(len(images)).astype(str),
        read=read,
        fingerprint=files_fingerprint([Path(spec)]),
        given=_given_splits(spec, arrays.get("split")),
        native_size=max(images.shape[1:3]),
    )
