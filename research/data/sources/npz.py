"""An `.npz` file of images and labels.

`images` [N, H, W] or [N, H, W, 1 | 3 | 4], uint8 or float in 0..1; `labels` [N], integers or
strings; optional `split` [N] ("train", "valid", "test") and `classes` [K] (names). Nothing is
unpickled.
"""

import zipfile
import zlib
from pathlib import Path

import numpy as np

from research.data.images import from_array
from research.data.sources.source import SPLIT_NAMES, TRAIN, Source, files_fingerprint
from research.runtime.errors import UserError


def matches(spec: str) -> bool:
    """Whether the spec is an `.npz` file."""
    return spec.endswith(".npz") and not Path(spec).is_dir()


def read_arrays(option: str, path: str | Path) -> dict[str, np.ndarray]:
    """The arrays of an `.npz` file, by name.

    Args:
        option: the one that gave the file, for messages.
        path: the file.

    Raises:
        UserError: no such file, not a whole `.npz`, or it holds Python objects.
    """
    broken = option, "not a whole .npz file", "write it again with np.savez"
    try:
        # Opened here, because np.load leaves a broken file open.
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        raise UserError(
            option, "no such file", "give the path of an .npz file", value=path
        ) from None
    except PermissionError:
        raise UserError(option, "no permission to read it", "check its mode", value=path) from None
    except ValueError as error:
        if "Object arrays" not in str(error):
            raise UserError(*broken, value=path) from error
        raise UserError(
            option,
            "an array in it holds Python objects, which are never unpickled",
            "save numbers and strings",
            value=path,
        ) from error
    # A bare .npy array is no context manager, hence the TypeError; zipfile raises RuntimeErrors.
    except (OSError, EOFError, TypeError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(*broken, value=path) from error


def _check_images(spec: str, images: np.ndarray) -> None:
    shaped = images.ndim == 3 or (images.ndim == 4 and images.shape[-1] in (1, 3, 4))
    if not shaped or images.size == 0:
        raise UserError(
            "data",
            f"images have shape {images.shape}",
            "they must be [N, H, W] or [N, H, W, 1, 3 or 4]",
            value=spec,
        )
    is_float = np.issubdtype(images.dtype, np.floating)
    if images.dtype != np.uint8 and not is_float:
        raise UserError(
            "data", f"images are {images.dtype}", "they must be uint8, or float in 0..1", value=spec
        )
    # NaN fails the comparison too.
    if is_float and not (images.min() >= 0 and images.max() <= 1):
        raise UserError(
            "data",
            "float images must lie in 0..1, without NaN",
            "divide them by their largest value, or save uint8",
            value=spec,
        )


def _classes_and_labels(
    spec: str, labels: np.ndarray, classes: np.ndarray | None
) -> tuple[tuple[str, ...], np.ndarray]:
    if classes is not None and (classes.ndim != 1 or len(set(classes.tolist())) != classes.size):
        raise UserError("data", "classes must be one list of different names", value=spec)
    if labels.dtype.kind == "U":
        names = np.unique(labels) if classes is None else classes
        unknown = sorted(set(labels.tolist()) - set(names.tolist()))
        if unknown:
            raise UserError(
                "data", f"label {unknown[0]!r} is not among its classes", "add it", value=spec
            )
        order = np.argsort(names)
        return tuple(map(str, names)), order[np.searchsorted(names, labels, sorter=order)]
    if not np.issubdtype(labels.dtype, np.integer):
        raise UserError(
            "data",
            f"labels are {labels.dtype}",
            "they must be integers 0..K-1 or strings",
            value=spec,
        )
    # Without names the labels themselves say how many classes there are.
    found = np.unique(labels)
    count = len(found) if classes is None else len(classes)
    if found[0] < 0 or found[-1] >= count:
        raise UserError(
            "data",
            f"labels out of range: they run from {found[0]} to {found[-1]}, and there are {count} "
            "classes",
            f"number them 0 to {count - 1}",
            value=spec,
        )
    return tuple(map(str, range(count) if classes is None else classes)), labels.astype(np.int64)


def _given_splits(spec: str, split: np.ndarray | None) -> np.ndarray | None:
    if split is None:
        return None
    names = set(split.tolist())
    if not names <= SPLIT_NAMES.keys() or "train" not in names:
        raise UserError(
            "data",
            f"split holds {sorted(map(str, names))[:5]}",
            "its values must be train, valid and test, with some train",
            value=spec,
        )
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
            raise UserError("data", f"holds no array {name!r}", f"found: {found}", value=spec)
    images, labels = arrays["images"], arrays["labels"]
    _check_images(spec, images)
    for name in ("labels", "split"):
        if name in arrays and arrays[name].shape != (len(images),):
            raise UserError(
                "data",
                f"{name} have shape {arrays[name].shape}, and there are {len(images)} images",
                "give one for each image",
                value=spec,
            )
    classes, labels = _classes_and_labels(spec, labels, arrays.get("classes"))
    if len(classes) < 2:
        raise UserError(
            "data",
            f"only one class, {next(iter(classes))!r}",
            "a classifier needs two",
            value=spec,
        )

    def read(i):
        pixels = images[i]
        return from_array(
            pixels if pixels.dtype == np.uint8 else np.round(pixels * 255).astype(np.uint8)
        )

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
