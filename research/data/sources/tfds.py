"""A TensorFlow Datasets image classification set, read from disk without TensorFlow.

`tfds:NAME`, `tfds:NAME/CONFIG` or `tfds:NAME:VERSION`, prepared as array_record (what
`tfds.data_source` does). Only the disk is looked at: TFDS itself, asked for a set that is not
there, tries the network for minutes.
"""

import difflib
import os
from pathlib import Path
from typing import Any

import numpy as np

from research.data.images import decode
from research.data.sources.source import SPLIT_NAMES, Source, bad_data, files_fingerprint

_BLOCK = 10_000  # records whose labels are read at once


def matches(spec: str) -> bool:
    """Whether the spec names a TFDS set."""
    return spec.startswith("tfds:")


def _open_builder(spec: str, name: str, data_dir: str):
    """The builder of a prepared set.

    Raises:
        UserError: there is no such set, or it is not prepared in `data_dir`.
    """
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.read_only_builder import builder_from_files
    from tensorflow_datasets.core.registered import DatasetNotFoundError

    way_out = (
        "prepare it once, on a machine with network: pip install tensorflow && python -c "
        f"\"import tensorflow_datasets as tfds; tfds.data_source('{name}', data_dir='{data_dir}')\""
    )
    try:
        builder = builder_from_files(name, data_dir=data_dir)
    except DatasetNotFoundError as error:
        known = tfds.list_builders(with_community_datasets=False)
        base = name.split("/")[0].split(":")[0]
        if base in known:
            raise bad_data(spec, f"not prepared in {data_dir}", way_out) from error
        close = difflib.get_close_matches(base, known, n=3)
        hint = f"did you mean {' or '.join(close)}? " if close else ""
        what = f"TensorFlow Datasets {tfds.__version__} has no set {base!r}, nor has {data_dir}"
        raise bad_data(spec, what, f"{hint}If the name is right, {way_out}") from error
    except ValueError as error:
        way_out = "give tfds:NAME, such as tfds:mnist"
        raise bad_data(spec, "not a TFDS name", way_out) from error
    if builder.info.file_format != tfds.core.FileFormat.ARRAY_RECORD:
        what = f"prepared in {data_dir} in a format that only TensorFlow reads"
        raise bad_data(spec, what, f"remove it from there, then {way_out}")
    for path in _files(builder):
        if not path.is_file():
            what = f"{data_dir} lacks its file {path.name}"
            raise bad_data(spec, what, f"remove the rest, then {way_out}")
    return builder


def _files(builder) -> list[Path]:
    return [Path(path) for split in builder.info.splits.values() for path in split.filepaths]


def _feature_names(spec: str, builder) -> tuple[str, str]:
    """The names of the image and of the label.

    Raises:
        UserError: a record is not one image of 8 or 16 bits with one class label.
    """
    import tensorflow_datasets as tfds

    features = dict(builder.info.features.items())
    keys = builder.info.supervised_keys
    image, label = keys if keys and len(keys) == 2 else ("image", "label")
    if (
        not isinstance(features.get(image), tfds.features.Image)
        or not isinstance(features.get(label), tfds.features.ClassLabel)
        or features[image].np_dtype not in (np.uint8, np.uint16)
    ):
        what = f"not an image classification set (it holds {', '.join(sorted(features))})"
        raise bad_data(spec, what, "choose one with an image and a class label")
    return image, label


def _decoder(features, name: str, **decoders):
    """A function from a raw record to one of its features; the others are not decoded."""
    import tensorflow_datasets as tfds

    # tfds.decode.PartialDecoding would do it, but it imports TensorFlow.
    part: Any = tfds.features.FeaturesDict({name: features[name]})
    return lambda record: part.deserialize_example_np(record, decoders=decoders)[name]


def _read_labels(records, label_of) -> np.ndarray:
    blocks = (
        range(start, min(start + _BLOCK, len(records))) for start in range(0, len(records), _BLOCK)
    )
    return np.array([label_of(r) for block in blocks for r in records.__getitems__(list(block))])


def open_source(spec: str, data_dir: str | None = None) -> Source:
    """Opens a prepared TFDS set: its official splits, without the records that have no label.

    Args:
        spec: `tfds:NAME`.
        data_dir: where sets are prepared; None: `TFDS_DATA_DIR`, or TFDS' own default.

    Raises:
        UserError: there is no such set, it is not prepared here, or it holds no images. Nothing is
            downloaded, so the error comes at once.
    """
    import tensorflow_datasets as tfds

    name = spec.removeprefix("tfds:")
    data_dir = str(data_dir or os.environ.get("TFDS_DATA_DIR", Path.home() / "tensorflow_datasets"))
    builder = _open_builder(spec, name, data_dir)
    features: Any = builder.info.features
    image, label = _feature_names(spec, builder)
    label_of = _decoder(features, label)
    bytes_of = _decoder(features, image, **{image: tfds.decode.SkipDecoding()})
    sources: Any = builder.as_data_source(
        deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
    )

    # "extra", "unlabelled" and the like are no part of the official train and test. A set with no
    # train at all (a new test set for an old one) is split like a folder.
    used = {n: records for n, records in sources.items() if n in SPLIT_NAMES}
    official = "train" in used
    used = used if official else sources
    labels = {n: _read_labels(records, label_of) for n, records in used.items()}
    rows = {n: np.flatnonzero(found >= 0) for n, found in labels.items()}  # -1: no label
    rows = {n: index for n, index in rows.items() if len(index)}
    places = [(n, int(i)) for n, index in rows.items() for i in index]
    ids = [f"{n}/{i}" for n, i in places]

    def read(i):
        split, row = places[i]
        return decode(bytes_of(used[split][row]), ids[i])

    shape = features[image].shape
    left_out = [n for n in sources if n not in rows]
    return Source(
        name=spec,
        classes=tuple(features[label].names),
        labels=np.concatenate([labels[n][index] for n, index in rows.items()]),
        ids=np.array(ids),
        read=read,
        fingerprint=files_fingerprint(_files(builder)),
        given=np.array([SPLIT_NAMES[n] for n, _ in places]) if official and len(rows) > 1 else None,
        native_size=None if None in shape[:2] else max(shape[:2]),
        notes=(f"Not used of {spec}: {', '.join(left_out)}.",) if left_out else (),
    )
