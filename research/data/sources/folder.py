"""A folder of image files: one folder a class, or train/valid/test folders of such.

Classes are the sorted names of the folders, the order that Keras' `image_dataset_from_directory`
gives them. Images may lie in nested folders; files without an image's extension and hidden ones are
ignored.
"""

import os
from pathlib import Path

import numpy as np

from research.data.images import EXTENSIONS, decode
from research.data.sources.source import SPLIT_NAMES, TRAIN, Source, bad_data, files_fingerprint


def matches(spec: str) -> bool:
    """Whether the spec is a folder."""
    return Path(spec).is_dir()


def _subfolders(folder: Path) -> list[Path]:
    try:
        return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    except PermissionError:
        raise bad_data(folder, "no permission to read it", "check its mode") from None


def _image_files(folder: Path) -> list[Path]:
    found = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            Path(parent, name)
            for name in files
            if not name.startswith(".") and Path(name).suffix.lower() in EXTENSIONS
        ]
    return sorted(found)


def _split_folders(root: Path) -> dict[int, Path]:
    """The folders of the splits; it is empty where the folder's own folders are the classes."""
    folders = _subfolders(root)
    names = [folder.name.lower() for folder in folders]
    if "train" not in names or not set(names) <= SPLIT_NAMES.keys():
        return {}
    codes = [SPLIT_NAMES[name] for name in names]
    if len(set(codes)) < len(codes):
        raise bad_data(root, f"two folders for one split ({', '.join(names)})", "keep one of each")
    return dict(sorted(zip(codes, folders, strict=True)))


def _class_folders(folder: Path) -> dict[str, list[Path]]:
    """The image files of each class.

    Raises:
        UserError: there are no class folders, or one is without images.
    """
    classes = {sub.name: _image_files(sub) for sub in _subfolders(folder)}
    if not classes:
        way_out = "put the images of each class into a folder of their own, such as good/ and bad/"
        raise bad_data(folder, "no class folders in it", way_out)
    for name, files in classes.items():
        if not files:
            what = f"class folder {name!r} holds no images (JPEG, PNG, BMP, WebP, GIF or TIFF)"
            raise bad_data(folder, what, "add some, or remove it")
    return classes


def open_source(spec: str, data_dir: str | None = None) -> Source:
    """Opens a folder of class folders, or of train/valid/test folders of class folders.

    Raises:
        UserError: there are no class folders or only one, a class is empty, or train lacks a class.
    """
    del data_dir
    root = Path(spec)
    splits = _split_folders(root)
    folders = splits or {TRAIN: root}
    files, labels, given = [], [], []
    for code, folder in folders.items():  # train comes first
        found = _class_folders(folder)
        if code == TRAIN:
            classes = tuple(found)
        unknown = sorted(set(found) - set(classes))
        if unknown:
            what = f"class {unknown[0]!r} is not in {folders[TRAIN]}"
            raise bad_data(folder, what, "add it there, or remove it here")
        for name, paths in found.items():
            files += paths
            labels += [classes.index(name)] * len(paths)
            given += [code] * len(paths)
    if len(classes) < 2:
        what = f"only one class folder, {next(iter(classes))!r}"
        raise bad_data(folders[TRAIN], what, "a classifier needs two or more")
    ids = [path.relative_to(root).as_posix() for path in files]
    return Source(
        name=root.resolve().name,
        classes=classes,
        labels=np.array(labels),
        ids=np.array(ids),
        read=lambda i: decode(files[i], ids[i]),
        fingerprint=files_fingerprint(files),
        given=np.array(given) if len(splits) > 1 else None,
    )
