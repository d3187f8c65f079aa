"""`.npz` files: what is accepted, and every error in one line."""

import io
import zipfile

import numpy as np
import pytest

from research.data import load
from research.data.sources.npz import open_source
from research.runtime.errors import UserError

LABELS = np.tile([0, 1, 2], 7)


def fails(spec, match):
    with pytest.raises(UserError, match=match) as raised:
        load(str(spec))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("channels", [(), (1,), (3,), (4,)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_kinds_of_images(save_npz, channels, dtype):
    images = np.random.default_rng(0).integers(0, 256, (21, 6, 5, *channels)).astype(dtype)
    if channels == (4,):
        images[..., 3] = 255
    given = images if dtype == np.uint8 else images / 255
    source = open_source(save_npz(images=given.astype(dtype), labels=LABELS))
    assert source.native_size == 6
    grey = images[..., None] if channels == () else images
    for i in (0, 20):
        expected = np.broadcast_to(grey[i][..., :3], (6, 5, 3))
        np.testing.assert_array_equal(np.asarray(source.read(i)), expected)


def test_load_and_native_size(save_npz, noise):
    data = load(save_npz(images=noise(21, size=48), labels=LABELS))
    assert data.name == "set"
    assert data.classes == ("0", "1", "2")
    assert data.train.images.shape == (15, 48, 48, 3)
    small = load(save_npz(images=noise(21, size=5), labels=LABELS))
    assert small.train.images.shape == (15, 32, 32, 3)


def test_strings_classes_and_splits(save_npz, noise):
    split = np.repeat(["train", "val", "test"], 7)
    names = np.array(["cat", "ant", "bee"])
    data = load(save_npz(images=noise(21), labels=names[LABELS], split=split))
    assert data.given_splits
    assert data.classes == ("ant", "bee", "cat")
    np.testing.assert_array_equal(data.test.ids.astype(int), np.arange(14, 21))
    assert [data.classes[y] for y in data.test.labels] == list(names[LABELS[14:]])
    # With `classes` the order is the person's.
    data = load(save_npz(images=noise(21), labels=names[LABELS], classes=names))
    assert data.classes == ("cat", "ant", "bee")
    for part in data.splits.values():
        np.testing.assert_array_equal(part.labels, LABELS[part.ids.astype(int)])


def test_missing_arrays(save_npz, noise):
    fails(save_npz(x=noise(3), labels=[0, 1, 0]), r"no array 'images'; found: x, labels")
    fails(save_npz(images=noise(3)), r"no array 'labels'; found: images")


@pytest.mark.parametrize(
    ("labels", "match"),
    [
        ([0, 1], r"labels have shape \(2,\), and there are 3 images"),
        ([[0, 1], [1, 0], [0, 1]], r"labels have shape \(3, 2\)"),
        ([0, -1, 1], r"out of range: they run from -1 to 1"),
        ([0, 1, 5], r"out of range: they run from 0 to 5, and there are 3 classes"),
        ([0.0, 1.0, 1.0], r"labels are float64; they must be integers"),
        ([0, 0, 0], r"only one class, '0'"),
        (["a", "a", "a"], r"only one class, 'a'"),
    ],
)
def test_bad_labels(save_npz, noise, labels, match):
    fails(save_npz(images=noise(3), labels=labels), match)


def test_labels_against_classes(save_npz, noise):
    images = noise(4)
    fails(save_npz(images=images, labels=[0, 1, 2, 2], classes=["a", "b"]), r"0 to 2, and .* 2 cla")
    fails(save_npz(images=images, labels=["a", "b", "c", "a"], classes=["a", "b"]), r"label 'c'")
    fails(save_npz(images=images, labels=[0, 1, 0, 1], classes=["a", "a"]), r"different names")


def test_a_class_without_images(save_npz, noise):
    fails(save_npz(images=noise(21), labels=LABELS, classes=list("abcd")), r"class 'd' has fewer")


@pytest.mark.parametrize(
    ("images", "match"),
    [
        (np.zeros((3, 4), np.uint8), r"images have shape \(3, 4\)"),
        (np.zeros((3, 4, 4, 2), np.uint8), r"images have shape \(3, 4, 4, 2\)"),
        (np.zeros((0, 4, 4), np.uint8), r"images have shape \(0, 4, 4\)"),
        (np.zeros((3, 4, 4), np.int64), r"images are int64"),
        (np.full((3, 4, 4), 7.0), r"must lie in 0..1"),
        (np.full((3, 4, 4), np.nan), r"must lie in 0..1"),
    ],
)
def test_bad_images(save_npz, images, match):
    fails(save_npz(images=images, labels=np.arange(len(images)) % 2), match)


def test_bad_splits(save_npz, noise):
    arrays = {"images": noise(3), "labels": [0, 1, 0]}
    fails(save_npz(split=["train", "dev", "test"], **arrays), r"split holds \['dev', 'test', 'tr")
    fails(save_npz(split=["test", "test", "test"], **arrays), r"split holds \['test'\]")
    fails(save_npz(split=["train"], **arrays), r"split have shape \(1,\)")


def test_objects_are_never_unpickled(tmp_path, noise):
    class Bomb:
        def __reduce__(self):
            return (tmp_path.joinpath("executed").touch, ())

    labels = np.array([Bomb(), Bomb()], dtype=object)
    np.savez(tmp_path / "bomb.npz", images=noise(2), labels=labels)
    fails(tmp_path / "bomb.npz", r"never unpickled")
    assert not (tmp_path / "executed").exists()


def test_not_an_npz(tmp_path, noise):
    path = tmp_path / "x.npz"
    fails(path, r"no such file")
    array = io.BytesIO()
    np.save(array, noise(2))
    whole = io.BytesIO()
    np.savez(whole, images=noise(50), labels=np.arange(50))
    broken = bytearray(whole.getvalue())
    broken[400] ^= 255  # a byte of an image: the archive's checksum finds it
    empty = io.BytesIO()
    zipfile.ZipFile(empty, "w").close()
    for contents in (b"", b"hello", array.getvalue(), whole.getvalue()[:900], bytes(broken)):
        path.write_bytes(contents)
        fails(path, r"not a whole .npz file")
    path.write_bytes(empty.getvalue())
    fails(path, r"no array 'images'; found: nothing")
