"""TFDS sets from disk: real ones, and errors that come at once in one line."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from research.data import load
from research.data.images import decode
from research.runtime.errors import UserError


@pytest.fixture
def prepared(shared_data):
    return str(shared_data / "tensorflow_datasets")


def fails(spec, match, data_dir):
    start = time.monotonic()
    with pytest.raises(UserError, match=match) as raised:
        load(spec, data_dir=str(data_dir))
    assert time.monotonic() - start < 10
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "first_class", "pixel_mean"),
    # The means of the official training images, 0..255.
    [("mnist", "0", 33.3), ("fashion_mnist", "T-shirt/top", 72.9), ("cifar10", "airplane", 120.7)],
)
def test_real_sets(prepared, name, first_class, pixel_mean):
    data = load(f"tfds:{name}", data_dir=prepared, limit=300)
    assert data.name == f"tfds:{name}"
    assert data.given_splits
    assert len(data.classes) == 10
    assert data.classes[0] == first_class
    assert data.train.images.shape == (300, 32, 32, 3)
    assert data.test.images.shape == (300, 32, 32, 3)
    assert 45 <= len(data.valid.ids) <= 90
    assert np.abs(np.bincount(data.test.labels) - 30).max() <= 5  # mnist is not quite balanced
    assert data.test.ids[0].startswith("test/")
    assert data.valid.ids[0].startswith("train/")
    # Resizing keeps the mean. Images' own means have a deviation of less than 45.
    assert abs(data.train.images.mean() - pixel_mean) < 5 * 45 / np.sqrt(300)


def test_records_keep_their_labels_and_pixels(prepared):
    import tensorflow_datasets as tfds

    data = load("tfds:cifar10", data_dir=prepared, limit=20)
    builder = tfds.builder_from_directory(f"{prepared}/cifar10/3.0.2")
    records = builder.as_data_source("test", decoders={"image": tfds.decode.SkipDecoding()})
    for pixels, label, id in zip(*data.test, strict=True):
        record = records[int(id.removeprefix("test/"))]
        assert record["label"] == label
        np.testing.assert_array_equal(np.asarray(decode(record["image"], id)), pixels)


def test_known_but_not_prepared(tmp_path):
    command = r"tfds.data_source\('cifar100', data_dir='.*'\)"
    fails("tfds:cifar100", rf"not prepared in {tmp_path}; prepare it once.*{command}", tmp_path)


def test_what_must_be_downloaded_by_hand(tmp_path):
    fails("tfds:imagenet2012", r"not prepared in .*data_source\('imagenet2012'", tmp_path)


def test_unknown_name(tmp_path):
    fails("tfds:cifar1O", r"no set 'cifar1O'.*did you mean cifar10", tmp_path)
    fails("tfds:zzzzqqqq", r"no set 'zzzzqqqq'", tmp_path)


@pytest.mark.parametrize("name", ["", "we ird/*", "a:b:c"])
def test_not_a_name(tmp_path, name):
    fails(f"tfds:{name}", r"data tfds:.*", tmp_path)


def copy_info(prepared, tmp_path, **changes):
    """MNIST's description without its records, with some of it changed."""
    folder = tmp_path / "mnist" / "3.0.1"
    folder.mkdir(parents=True)
    for name in ("dataset_info.json", "features.json"):
        shutil.copyfile(f"{prepared}/mnist/3.0.1/{name}", folder / name)
    info = json.loads((folder / "dataset_info.json").read_text())
    (folder / "dataset_info.json").write_text(json.dumps({**info, **changes}))


def test_prepared_for_tensorflow_only(prepared, tmp_path):
    copy_info(prepared, tmp_path, fileFormat="tfrecord")
    fails("tfds:mnist", r"format that only TensorFlow reads; remove it", tmp_path)


def test_a_file_is_missing(prepared, tmp_path):
    copy_info(prepared, tmp_path)
    fails("tfds:mnist", r"lacks its file mnist-train.array_record-00000-of-00001", tmp_path)


def test_not_an_image_classification_set(prepared, tmp_path):
    copy_info(prepared, tmp_path)
    features = tmp_path / "mnist" / "3.0.1" / "features.json"
    features.write_text(features.read_text().replace('"label"', '"number"'))
    for path in ("train", "test"):
        name = f"mnist/3.0.1/mnist-{path}.array_record-00000-of-00001"
        (tmp_path / name).symlink_to(f"{prepared}/{name}")
    fails("tfds:mnist", r"not an image classification set \(it holds image, number\)", tmp_path)


def test_version_and_environment_without_a_word(prepared):
    """A version may be named, TFDS_DATA_DIR names the folder, and TFDS and absl print nothing."""
    program = "from research.data import load; print(load('tfds:mnist:3.0.1', limit=10).num_train)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[3],
        env=os.environ | {"TFDS_DATA_DIR": prepared},
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "10\n", "")
