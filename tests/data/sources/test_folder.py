"""Folders of image files: both layouts, what is ignored, and every error in one line."""

import shutil

import numpy as np
import pytest
from PIL import Image

from research.data import load
from research.data.images import resize
from research.runtime.errors import UserError


def fails(spec, match, **options):
    with pytest.raises(UserError, match=match) as raised:
        load(str(spec), **options)
    assert "\n" not in str(raised.value)
    assert "data" in str(raised.value)


def test_class_folders(make_folder):
    root = make_folder({"good": 20, "bad": 20})
    data = load(str(root))
    assert data.name == "photos"
    assert data.classes == ("bad", "good")
    assert not data.given_splits
    assert {name: split.images.shape for name, split in data.splits.items()} == {
        "train": (28, 64, 64, 3),
        "valid": (6, 64, 64, 3),
        "test": (6, 64, 64, 3),
    }
    for split in data.splits.values():
        assert split.labels.dtype == np.int32
        for pixels, label, id in zip(split.images, split.labels, split.ids, strict=True):
            assert id.startswith(data.classes[label])
            np.testing.assert_array_equal(pixels, resize(Image.open(root / id), 64))


def test_image_size(make_folder):
    data = load(str(make_folder({"a": 4, "b": 4})), image_size=40)
    assert data.train.images.shape[1:] == (40, 40, 3)


@pytest.mark.parametrize("valid", ["valid", "val", "validation"])
def test_split_folders(make_folder, valid):
    root = make_folder({f"{s}/{c}": 4 for s in ("train", valid, "test") for c in "ab"})
    data = load(str(root))
    assert data.given_splits
    assert data.notes == ()
    for name, split in data.splits.items():
        folder = valid if name == "valid" else name
        assert all(id.startswith(f"{folder}/") for id in split.ids)
        assert len(split.ids) == 8


@pytest.mark.parametrize("missing", ["valid", "test"])
def test_a_missing_split_is_cut_from_train(make_folder, missing):
    present = {"valid", "test"} - {missing}
    counts = {f"{s}/{c}": 4 for s in present for c in "ab"}
    data = load(str(make_folder({"train/a": 20, "train/b": 20, **counts})))
    assert len(data.train.ids) == 34
    assert all(id.startswith("train/") for id in data.splits[missing].ids)
    assert len(data.splits[missing].ids) == 6
    assert data.given_splits == (missing == "valid")
    assert any(f"no {missing} split" in note for note in data.notes)


def test_only_a_train_folder_is_split_at_random(make_folder):
    data = load(str(make_folder({"train/a": 20, "train/b": 20})))
    assert not data.given_splits
    assert [len(split.ids) for split in data.splits.values()] == [28, 6, 6]


def test_a_class_may_be_called_train(make_folder):
    assert load(str(make_folder({"train": 4, "tram": 4}))).classes == ("train", "tram")


def test_nested_folders_count_and_other_files_do_not(make_folder):
    root = make_folder({"a": 3, "b": 3, "b/more/still": 2, ".cache": 1, "a/.thumbs": 1})
    (root / "a" / "notes.txt").write_text("not an image")
    (root / "a" / ".hidden.png").write_bytes(b"")
    (root / "readme.png").write_bytes(b"")
    shutil.copy(root / "a" / "000.png", root / "a" / "LOUD.PNG")
    data = load(str(root))
    ids = {id for split in data.splits.values() for id in split.ids}
    assert data.classes == ("a", "b")
    assert len(ids) == 9
    assert "b/more/still/001.png" in ids
    assert "a/LOUD.PNG" in ids


def test_no_such_folder(tmp_path):
    fails(tmp_path / "nowhere", r"nowhere: no such folder; give")


def test_no_class_folders(tmp_path):
    fails(tmp_path, r"no class folders .*good/ and bad/")


def test_one_class(make_folder):
    fails(make_folder({"only": 5}), r"only one class folder, 'only'")


def test_an_empty_class(make_folder):
    fails(make_folder({"a": 5, "b": 5, "c": 0}), r"class folder 'c' holds no images")


def test_a_class_that_train_lacks(make_folder):
    root = make_folder({"train/a": 5, "train/b": 5, "test/a": 2, "test/z": 2})
    fails(root, r"test: class 'z' is not in .*train")


def test_two_folders_for_one_split(make_folder):
    root = make_folder({"train/a": 1, "train/b": 1, "val/a": 1, "valid/a": 1})
    fails(root, r"two folders for one split \(train, val, valid\)")


def test_a_class_too_small_to_split(make_folder):
    fails(make_folder({"a": 9, "b": 2}), r"class 'b' has fewer than 3 different readable images")


def test_copies_of_one_image_are_no_class(make_folder):
    root = make_folder({"a": 9, "b": 1})
    for i in range(5):
        shutil.copy(root / "b" / "000.png", root / "b" / f"copy{i}.png")
    fails(root, r"class 'b' has fewer than 3 different readable images")


def spoil(root):
    """Seven unreadable files in class a: empty, truncated, and no image at all."""
    whole = (root / "a" / "000.png").read_bytes()
    for i in range(7):
        contents = (b"", whole[: len(whole) // 2], b"<html>not found</html>")[i % 3]
        (root / "a" / f"broken{i}.png").write_bytes(contents)
    return str(root)


@pytest.mark.parametrize("memory_gb", [4.0, 0.0])
def test_unreadable_images_are_all_found_and_listed_in_one_line(make_folder, memory_gb):
    spec = spoil(make_folder({"a": 8, "b": 8}))
    fails(
        spec,
        r"7 unreadable images: a/broken0.png, (a/broken\d.png, ){3}a/broken4.png and 2 more; .*"
        r"skip_bad_images",
        memory_gb=memory_gb,
    )


@pytest.mark.parametrize("memory_gb", [4.0, 0.0])
def test_unreadable_images_can_be_skipped(make_folder, tmp_path, memory_gb):
    clean = load(str(make_folder({"a": 8, "b": 8}, "clean")))
    spec = spoil(make_folder({"a": 8, "b": 8}))
    for cache_dir in (None, tmp_path / "cache", tmp_path / "cache"):
        options = {"cache_dir": cache_dir, "memory_gb": memory_gb}
        data = load(spec, skip_bad_images=True, **options)
        assert data.facts["unreadable"] == 7
        assert data.notes[0].startswith("7 unreadable images left out: a/broken0.png")
        for name, split in data.splits.items():
            np.testing.assert_array_equal(split.ids, clean.splits[name].ids)
            everything = np.arange(len(split.ids))
            np.testing.assert_array_equal(split.images[everything], clean.splits[name].images)


def test_skipping_may_not_empty_a_class(make_folder):
    root = make_folder({"a": 8, "b": 0})
    (root / "b" / "x.jpg").write_bytes(b"")
    fails(root, r"class 'b' has fewer than 3", skip_bad_images=True)


def test_a_name_with_a_line_break_stays_on_one_line(make_folder):
    root = make_folder({"a": 3, "b": 3})
    (root / "a" / "x\ny.png").write_bytes(b"")
    fails(root, r"1 unreadable image: 'a/x\\ny.png'")


def test_a_link_to_nothing_is_unreadable(make_folder):
    root = make_folder({"a": 3, "b": 3})
    (root / "a" / "gone.png").symlink_to(root / "nowhere.png")
    fails(root, r"1 unreadable image: a/gone.png")
