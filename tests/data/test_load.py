"""`load` as a whole: the default, seeds, limits, copies, the cache, streaming."""

import json
import os
import sys
from importlib import import_module

import numpy as np
import pytest
from PIL import Image

import research.data.sources
from research.data import load
from research.data.streamed import StreamedImages
from research.runtime.errors import UserError


def same(a, b):
    for name in a.splits:
        np.testing.assert_array_equal(a.splits[name].ids, b.splits[name].ids)
        np.testing.assert_array_equal(a.splits[name].labels, b.splits[name].labels)
        everything = np.arange(len(a.splits[name].ids))
        np.testing.assert_array_equal(
            a.splits[name].images[everything], b.splits[name].images[everything]
        )


def test_digits():
    data = load("digits")
    assert data.classes == tuple("0123456789")
    assert sum(len(split.ids) for split in data.splits.values()) == 1797
    for split, share in zip(data.splits.values(), (0.7, 0.15, 0.15), strict=True):
        assert split.images.shape == (len(split.ids), 32, 32, 3)
        assert split.images.dtype == np.uint8
        # Each of the ten classes is rounded by at most one image.
        assert np.abs(np.bincount(split.labels) - share * 179.7).max() < 4
    ids = np.concatenate([split.ids for split in data.splits.values()])
    assert len(set(ids)) == 1797
    assert data.facts["duplicates"] == 0


def test_the_seed_decides():
    same(load("digits", seed=3), load("digits", seed=3))
    assert set(load("digits", seed=3).test.ids) != set(load("digits", seed=4).test.ids)


def test_limit_is_exact():
    data = load("digits", limit=50, seed=1)
    assert len(data.train.ids) == 50
    assert max(len(data.valid.ids), len(data.test.ids)) <= 50
    assert np.bincount(data.train.labels).tolist() == [5] * 10


def test_only_some_classes():
    data = load("digits", classes="7, 1")
    assert data.classes == ("7", "1")
    assert data.name.endswith(": 7, 1")
    all_of_them = load("digits")
    for part, whole in zip(data.splits.values(), all_of_them.splits.values(), strict=True):
        assert set(part.labels) == {0, 1}
        assert abs(len(part.labels) - np.isin(whole.labels, [1, 7]).sum()) < 5
    sevens = {i for split in all_of_them.splits.values() for i in split.ids[split.labels == 7]}
    assert set(data.test.ids[data.test.labels == 0]) <= sevens


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"limit": 0}, r"limit 0: too small"),
        ({"classes": "7,x"}, r"classes 7,x: no class 'x'; give two or more of 0, 1"),
        ({"classes": "7"}, r"classes 7: one class tells nothing apart"),
        ({"limit": 9}, r"limit 9: fewer than the 10 classes"),
        ({"image_size": 0}, r"image_size 0: too small"),
        ({"seed": -1}, r"seed -1: too small"),
    ],
)
def test_bad_options(options, match):
    with pytest.raises(UserError, match=match):
        load("digits", **options)


def test_copies_never_straddle_own_splits(save_npz, noise):
    images = np.concatenate([noise(60), noise(60), noise(20)])  # 20 images come three times
    labels = np.tile([0, 1], 70)
    for seed in range(5):
        data = load(save_npz(images=images, labels=labels), seed=seed)
        homes = {}
        for name, split in data.splits.items():
            for pixels in split.images:
                assert homes.setdefault(pixels.tobytes(), name) == name
        assert len(homes) == 60
        assert sum(len(split.ids) for split in data.splits.values()) == 140
        assert data.facts == {
            "unreadable": 0,
            "duplicates": 80,
            "duplicates_across_splits": 0,
            "duplicates_with_different_labels": 0,
        }
        assert data.notes == (
            "Exact copies of another image: 80. All copies of an image are in one split.",
        )


def test_copies_in_given_splits_leave_the_earlier_one(save_npz, noise):
    base = noise(40)
    images = np.concatenate([base, base[:3], base[3:5], noise(10, seed=1), noise(10, seed=2)])
    split = np.repeat(["train", "test", "valid", "valid", "test"], [40, 3, 2, 10, 10])
    labels = np.arange(65) % 2  # base[0] is 0 and its copy 40 is 0 as well; base[3] is 1, 43 is 1
    data = load(save_npz(images=images, labels=labels, split=split))
    np.testing.assert_array_equal(data.train.ids.astype(int), np.arange(5, 40))
    assert [len(split.ids) for split in data.splits.values()] == [35, 12, 13]
    assert data.facts["duplicates"] == 5
    assert data.facts["duplicates_across_splits"] == 5
    assert data.facts["duplicates_with_different_labels"] == 0
    assert any("in a later split: 5." in note for note in data.notes)


def test_copies_with_different_labels_are_counted(save_npz, noise):
    images = np.concatenate([noise(30), noise(1)])
    labels = np.append(np.arange(30) % 2, 1)  # image 0 again, with the other label
    data = load(save_npz(images=images, labels=labels))
    assert data.facts["duplicates_with_different_labels"] == 2
    assert any("must be wrong" in note for note in data.notes)


def test_a_split_of_nothing_but_copies(save_npz, noise):
    images = np.concatenate([noise(30), noise(4, seed=1), noise(4, seed=1)])
    split = np.repeat(["train", "valid", "test"], [30, 4, 4])
    with pytest.raises(UserError, match="no image is left for valid"):
        load(save_npz(images=images, labels=np.arange(38) % 2, split=split))


def test_a_class_that_is_only_in_test(save_npz, noise):
    split = np.repeat(["train", "test"], [20, 10])
    labels = np.append(np.arange(20) % 2, np.arange(10) % 3)
    with pytest.raises(UserError, match="class '2' has no readable image in train"):
        load(save_npz(images=noise(30), labels=labels, split=split))


def test_streamed_images_are_the_same(make_folder):
    spec = str(make_folder({"a": 12, "b": 12}))
    streamed = load(spec, memory_gb=0.0)
    kept = load(spec)
    assert isinstance(streamed.train.images, StreamedImages)
    assert isinstance(kept.train.images, np.ndarray)
    assert streamed.train.images.shape == kept.train.images.shape
    assert len(streamed.train.images) == len(kept.train.images)
    same(streamed, kept)


def test_splits_are_written(make_folder, tmp_path):
    data = load(str(make_folder({"a": 12, "b": 12})), cache_dir=tmp_path / "run" / "data")
    written = json.loads((tmp_path / "run" / "data" / "splits.json").read_text())
    assert written == {name: split.ids.tolist() for name, split in data.splits.items()}


@pytest.fixture
def decoded(monkeypatch):
    """Counts the files that are decoded."""
    folder = import_module("research.data.sources.folder")
    names, decode = [], folder.decode
    monkeypatch.setattr(folder, "decode", lambda f, name: names.append(name) or decode(f, name))
    return names


@pytest.mark.parametrize("memory_gb", [4.0, 0.0])
def test_cache_is_read_the_second_time(make_folder, tmp_path, decoded, memory_gb):
    spec = str(make_folder({"a": 8, "b": 8}))
    options = {"cache_dir": tmp_path / "cache", "memory_gb": memory_gb}
    first = load(spec, **options)
    assert len(decoded) == 16
    second = load(spec, seed=1, **options)  # other splits of the same images
    assert len(decoded) == 16
    same(first, load(spec, **options))
    assert set(second.test.ids) != set(first.test.ids)


def test_cache_is_not_read_when_something_changed(make_folder, tmp_path, decoded, noise):
    root = make_folder({"a": 8, "b": 8})
    options = {"cache_dir": tmp_path / "cache"}
    load(str(root), **options)
    file = root / "a" / "003.png"
    time_before = file.stat().st_mtime
    Image.fromarray(noise(1, seed=9, size=20)[0]).save(file)
    os.utime(file, (time_before + 2, time_before + 2))
    same(load(str(root), **options), load(str(root)))
    assert len(decoded) == 3 * 16
    load(str(root), image_size=20, **options)
    assert len(decoded) == 4 * 16
    load(str(root), image_size=20, limit=2, **options)
    assert 4 * 16 < len(decoded) < 5 * 16
    assert len(list((tmp_path / "cache").iterdir())) == 3  # one images, one digests, splits.json


def test_a_full_disk_is_one_line_and_leaves_no_part(make_folder, tmp_path, monkeypatch):
    def no_space(*_):
        raise OSError(28, "No space left on device")

    spec = str(make_folder({"a": 8, "b": 8}))
    monkeypatch.setattr(np, "save", no_space)
    with pytest.raises(OSError, match=r"No space left on device.*cache/images-"):
        load(spec, cache_dir=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_cache_folder_that_cannot_be_made(make_folder, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match=r"data/images-"):
        load(str(make_folder({"a": 8, "b": 8})), cache_dir=tmp_path / "file" / "data")


def test_a_limit_is_chosen_before_decoding(make_folder, decoded):
    load(str(make_folder({"a": 50, "b": 50})), limit=4)
    assert len(decoded) < 15  # 4 for train, and at least 1 of each class for valid and test


def test_a_bar_only_on_a_terminal(make_folder, capsys, monkeypatch):
    spec = str(make_folder({"a": 8, "b": 8}))
    load(spec)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    load(spec, progress=False)
    assert capsys.readouterr() == ("", "")
    load(spec)
    out, err = capsys.readouterr()
    assert out == ""
    assert "reading images: 100%" in err


def test_a_new_kind_of_source_is_one_new_file(tmp_path, monkeypatch):
    (tmp_path / "greys.py").write_text(
        "import numpy as np\n"
        "from research.data.images import from_array\n"
        "from research.data.sources.source import Source\n"
        "def matches(spec):\n"
        "    return spec == 'greys'\n"
        "def open_source(spec, data_dir):\n"
        "    def read(i):\n"
        "        return from_array(np.full((8, 8), i, np.uint8))\n"
        "    n = np.arange(20)\n"
        "    return Source(spec, ('even', 'odd'), n % 2, n.astype(str), read, 'greys 1')\n"
    )
    path = [*research.data.sources.__path__, str(tmp_path)]
    monkeypatch.setattr(research.data.sources, "__path__", path)
    data = load("greys", image_size=8)
    assert data.classes == ("even", "odd")
    np.testing.assert_array_equal(data.train.images[:, 0, 0, 0], data.train.ids.astype(int))
    assert sys.modules.pop("research.data.sources.greys")


def test_the_fingerprint_tells_pixels_and_order(make_folder):
    root = make_folder({"a": 10, "b": 10})
    first = load(str(root))
    assert first.fingerprint == load(str(root)).fingerprint
    assert first.fingerprint != load(str(root), seed=1).fingerprint
    assert first.fingerprint != load(str(root), image_size=40).fingerprint
    path = root / first.test.ids[0]
    Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
    assert load(str(root)).fingerprint != first.fingerprint
