"""Bad input: one line that names the file or the option, exit code 2, and no trace.

Every case is given twice: with a new --out, which must not be there afterwards, and with --out and
--overwrite on an earlier result, which must be there to the byte.
"""

import errno
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.filterwarnings(
    # Keras' own code: numpy 2 asks its variables for an argument that they do not take.
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)
PROBS = np.random.default_rng(0).dirichlet(np.ones(3), 40)
LABELS = np.arange(40) % 3


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its bytes."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def earlier(run_diagnose, tmp_path_factory) -> Path:
    """The folder of an earlier result, alone in its own folder."""
    folder = tmp_path_factory.mktemp("earlier")
    np.savez(folder / "given.npz", probs=PROBS, labels=LABELS)
    out = folder / "runs" / "first"
    assert run_diagnose("--predictions", folder / "given.npz", out=out).code == 0
    return out


def the_line(ran) -> str:
    """The one line of a refused command."""
    assert ran.code == 2
    assert ran.stdout == ""
    assert ran.stderr.startswith("error: ")
    assert ran.stderr.endswith("\n")
    assert ran.stderr.count("\n") == 1
    return ran.stderr


@pytest.fixture
def refused(run_diagnose, earlier, tmp_path):
    """refused(*arguments): the one line, after all has been checked that must hold for each."""

    def check(*arguments) -> str:
        before = contents(earlier.parent)
        line = the_line(run_diagnose(*arguments, "--overwrite", out=earlier))
        assert contents(earlier.parent) == before
        assert [p.name for p in earlier.parent.iterdir()] == [earlier.name]
        assert the_line(run_diagnose(*arguments, out=tmp_path / "new" / "run")) == line
        assert not (tmp_path / "new").exists()
        return line

    return check


@pytest.fixture
def npz(tmp_path):
    """npz(probs=..., labels=...): the file of these arrays."""

    def save(**arrays) -> Path:
        np.savez(tmp_path / "given.npz", **arrays)
        return tmp_path / "given.npz"

    return save


OPTIONS = {
    "unknown": ("--epocs 3", "--epocs, 3. Did you mean --epochs?"),
    "no number": ("--epochs many", "--epochs many: not a whole number"),
    "no choice": ("--preset fast", "invalid choice 'fast' for argument '--preset'"),
    "no value": ("--data", "'--data'"),
    "below": ("--batch_size 0", "--batch_size 0: give a number above 0"),
    "negative": ("--crop -1", "--crop -1: give 0 or more"),
    "NaN": ("--learning_rate nan", "--learning_rate nan: give a number above 0"),
    "seed": ("--seed -1", "--seed -1: give 0 or more"),
    "large seed": ("--seed 4294967296", "--seed 4294967296: give less than 2^32"),
    "two": ("--model a.keras --weights b.h5", "--model and --weights: give one of them"),
    "model and predictions": ("--model a --predictions b.csv", "--model and --predictions: give"),
    "data and predictions": ("--data a --predictions b.csv", "--data: does nothing with --pred"),
    "training and predictions": ("--flip --predictions b.csv", "--flip: does nothing with --pred"),
    "logits of nothing": ("--logits", "--logits: goes with --predictions"),
    "nothing trained": ("--train none", "--train none: needs a whole trained network; give --mod"),
    "no base": ("--train head", "--train head: needs a trained network below it; give --model or"),
    "epochs of nothing": ("--model a --epochs 3", "--epochs: trains nothing without --train"),
    "head of a model": ("--model a --head cifar", "--head: --model brings its own"),
    "preprocess": ("--preprocess unit", "--preprocess: goes with --model"),
    "augmented features": ("--weights a --flip", "--flip, --crop: a head is trained on fixed"),
    "width of weights": ("--weights a --width 0.5", "--width 0.5: --weights have the full width"),
    "devices": ("--batch_size 30", "--batch_size 30: not a multiple of the 8 devices; use 32"),
    "budget of a head": ("--model a --budget 5", "--budget: all below the head is frozen here"),
    "budget": ("--budget -1", "--budget -1.0: give 0 or more"),
    "no such class": ("--classes 7,x", "--classes 7,x: no class 'x'; give two or more of 0, 1"),
    "nothing to compare": ("--limit 20 --compare nowhere", "nowhere: no such file; give image"),
    "limit": ("--limit 0", "--limit 0: too small"),
    "no such data": ("--data nowhere", "--data nowhere: no such folder; give a folder"),
    "no such npz": ("--data nowhere.npz", "--data nowhere.npz: no such file"),
    "no such model": ("--model nowhere.keras", "--model nowhere.keras: no such file"),
    "no such weights": ("--weights nowhere.h5", "--weights nowhere.h5: no such file"),
    "no such predictions": ("--predictions nowhere.csv", "--predictions nowhere.csv: no such file"),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_options(refused, case):
    arguments, words = OPTIONS[case]
    assert words in refused(*arguments.split())


PREDICTIONS = {
    "negative": ({"probs": PROBS - [[0.9, 0, -0.9]]}, "probabilities below 0 or above 1"),
    "NaN": (
        {"probs": np.where(LABELS[:, None] * [0, 0, 1] > 1, np.nan, PROBS)},
        "rows 2, 5, 8, 11, 14 and 8 more (counted from 0): NaN or text among the probs",
    ),
    "sum": ({"probs": PROBS * 0.9}, "rows 0, 1, 2, 3, 4 and 35 more (counted from 0): probabil"),
    "logits": ({"probs": np.log(PROBS)}, "name the array logits"),
    "labels": ({"probs": PROBS, "labels": LABELS + 1}, "labels out of range; with 3 classes they"),
    "pickle": ({"probs": PROBS.astype(object)}, "never unpickled; save numbers"),
}


@pytest.mark.parametrize("case", PREDICTIONS)
def test_predictions(refused, npz, case):
    arrays, words = PREDICTIONS[case]
    path = npz(**({"labels": LABELS} | arrays))
    line = refused("--predictions", path)
    assert f"--predictions {path}: " in line
    assert words in line


def test_data_folders(refused, make_photos, tmp_path):
    root = tmp_path / "photos"
    root.mkdir()
    assert f"--data {root}: no class folders in it; put the images" in refused("--data", root)
    make_photos(root, {"good": 8})
    assert "only one class folder, 'good'" in refused("--data", root)
    (root / "bad").mkdir()
    assert "class folder 'bad' holds no images" in refused("--data", root)
    (root / "bad" / "one.jpg").write_bytes((root / "good" / "000.jpg").read_bytes())
    assert "class 'bad' has fewer than 3 different readable images" in refused("--data", root)


@pytest.fixture
def spoilt(make_photos, tmp_path) -> Path:
    """20 images of two classes and 7 files that are no images."""
    root = make_photos(tmp_path / "photos", {"bad": 10, "good": 10})
    whole = (root / "good" / "000.jpg").read_bytes()
    for i in range(5):
        (root / "good" / f"cut{i}.jpg").write_bytes(whole[: len(whole) // 2 + i])
    (root / "bad" / "empty.png").touch()
    (root / "bad" / "text.png").write_text("no image")
    return root


def test_unreadable_images_are_listed(refused, spoilt):
    line = refused("--data", spoilt)
    assert f"--data {spoilt}: 7 unreadable images: bad/empty.png, bad/text.png, good/cut0" in line
    assert "and 2 more; mend or remove what is listed, or go on without with --skip_bad_im" in line


def test_images_that_broke_since_leave_the_result(run_diagnose, make_photos, keras_model, tmp_path):
    """The same command in its own folder: nothing new is written over what is there."""
    root = make_photos(tmp_path / "photos", {"bad": 10, "good": 10})
    options = ("--data", root, "--model", keras_model("since.keras"), "--preprocess", "unit")
    assert run_diagnose(*options, out=tmp_path / "run").code == 0
    before = contents(tmp_path / "run")
    (root / "bad" / "003.jpg").write_bytes(b"")
    line = the_line(run_diagnose(*options, out=tmp_path / "run"))
    assert "1 unreadable image: bad/003.jpg" in line
    after = contents(tmp_path / "run")
    kept = {name for name in after if not name.startswith(f"data{os.sep}")}
    whole = {"config.json", "result.json", "report.html", "predictions.npz", "pictures.npz"}
    tensors = {f"{name}.safetensors" for name in ("state", "base", "validation")}
    exported = {"classifier.json"} | tensors  # Platt's map does best here
    whole |= {os.path.join("export", name) for name in exported}
    features = {name for name in kept if name.startswith(f"features{os.sep}")}
    assert len(features) == 3
    assert kept == whole | features
    for name in kept:
        assert after[name] == before[name]


def test_names_that_are_no_text(run_diagnose, make_photos, keras_model, tmp_path):
    """A class folder named on a system of another encoding."""
    root = make_photos(tmp_path / "photos", {"bad": 10, "caf\udce9": 10})
    options = ("--data", root, "--model", keras_model("names.keras"), "--preprocess", "unit")
    ran = run_diagnose(*options, out=tmp_path / "run")
    assert ran.result()["data"]["classes"] == ["bad", "caf\udce9"]
    assert "caf\\udce9" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")


def test_skipped_images_are_counted(run_diagnose, spoilt, keras_model, tmp_path):
    model = keras_model("skip.keras")
    options = ("--data", spoilt, "--model", model, "--preprocess", "unit", "--skip_bad_images")
    result = run_diagnose(*options, out=tmp_path / "run").result()
    assert result["data"]["facts"]["unreadable"] == 7
    assert sum(result["data"]["counts"].values()) == 20
    assert any("7 unreadable images left out" in note for note in result["data"]["notes"])


def test_npz_of_images(refused, npz):
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)
    path = npz(images=images, labels=LABELS + 1)
    assert f"--data {path}: labels out of range: they run from 1 to 3" in refused("--data", path)
    path = npz(images=images.astype(object), labels=LABELS)
    assert "never unpickled" in refused("--data", path)
    path.write_bytes(path.read_bytes()[:900])
    assert "not a whole .npz file" in refused("--data", path)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--image_size 16", "--image_size: the images are too small: a 2x2 pool meets a 1x1 map"),
        ("--image_size 64 --head asker", "a 4x4 pool meets a 2x2 map; give a larger --image_size"),
        ("--batch_size 64", "--batch_size 64: there are only 31 training images"),
    ],
)
def test_network_and_images(refused, photos, options, words):
    assert words in refused("--data", photos, *options.split())


def test_model_of_another_kind(refused, photos, keras_model):
    model = keras_model("three.keras", units=3)
    line = refused("--data", photos, "--model", model)
    assert f"--model {model}: has 3 classes, but the data have 2 (bad, good)" in line
    line = refused("--data", photos, "--model", model, "--image_size", "64")
    assert f"--image_size 64: {model} takes images of 32 pixels" in line


def test_broken_model_files(refused, photos, keras_model, tmp_path):
    for suffix in ("keras", "h5"):
        whole = keras_model(f"whole.{suffix}").read_bytes()
        path = tmp_path / f"cut.{suffix}"
        path.write_bytes(whole[: len(whole) * 2 // 3])
        line = refused("--data", photos, "--model", path)
        assert f"--model {path}: " in line
        assert "again" in line
    path = tmp_path / "text.h5"
    path.write_text("no model")
    line = refused("--data", photos, "--model", path)
    assert "neither a .keras (zip) nor an .h5 (HDF5) file" in line
    line = refused("--data", photos, "--weights", path)
    assert "neither an HDF5 (.h5) nor a .safetensors file" in line


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_a_lambda_layer_is_not_run(refused, photos, keras_model, tmp_path, suffix):
    ran = tmp_path / "ran"

    def middle(layers):
        code = f"lambda x: (open({str(ran)!r}, 'w').close(), x)[1]"
        return [layers.Lambda(eval(code), name="trick")]

    model = keras_model(f"lambda.{suffix}", middle)
    ran.unlink()  # building it did run it
    line = refused("--data", photos, "--model", model)
    assert f"--model {model}: layer 'trick' (Lambda) holds code" in line
    assert not ran.exists()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("cifar1O", "has no set 'cifar1O'"),
        ("cifar100", "not prepared in"),
    ],
)
def test_tfds_answers_at_once(refused, tmp_path, name, words):
    started = time.monotonic()
    line = refused("--data", f"tfds:{name}", "--data_dir", tmp_path)
    assert time.monotonic() - started < 20  # two runs
    assert f"--data tfds:{name}: " in line
    assert words in line
    assert f"tfds.data_source('{name}', data_dir='{tmp_path}')" in line


def test_folder_of_another_configuration(run_diagnose, earlier, npz, tmp_path):
    shutil.copytree(earlier, tmp_path / "run")
    path = npz(probs=PROBS[::-1], labels=LABELS)
    line = the_line(run_diagnose("--predictions", path, out=tmp_path / "run"))
    assert f"--out {tmp_path / 'run'}: holds a run of a different configuration" in line
    assert "--overwrite" in line
    assert contents(tmp_path / "run") == contents(earlier)
    ran = run_diagnose("--predictions", path, "--overwrite", out=tmp_path / "run")
    np.testing.assert_allclose(np.exp(ran.predictions()["log_probs"]), PROBS[::-1])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["given.npz", "run"]


def test_out_is_something_else(run_diagnose, npz, tmp_path):
    path = npz(probs=PROBS, labels=LABELS)
    before = contents(tmp_path)
    for out, words in (
        (path, "exists and is not a run of Candor; choose another folder"),
        (tmp_path, "exists and is not a run of Candor; choose another folder"),
        (path / "run", f"{path / 'run'}: Not a directory; "),
        (tmp_path / ("x" * 300), "File name too long; "),
        (Path("/dev/full"), "exists and is not a run of Candor"),
    ):
        line = the_line(run_diagnose("--predictions", path, "--overwrite", out=out))
        assert str(out) in line
        assert words in line
        assert "--out" in line or "folder" in line
    assert contents(tmp_path) == before


@pytest.fixture
def says_no(run_diagnose, earlier, npz, tmp_path):
    """says_no(file, words): the disk does not take `file`; a new run and an earlier one."""

    def check(file: str, words: str) -> None:
        path, before = npz(probs=PROBS, labels=LABELS), contents(earlier.parent)
        for out, beside in ((tmp_path / "run", "run"), (earlier, f".{earlier.name}.new")):
            line = the_line(run_diagnose("--predictions", path, "--overwrite", out=out))
            assert f"{out.with_name(beside) / file}: {words}; make room" in line
            assert "--out" in line
        assert contents(earlier.parent) == before
        assert [p.name for p in tmp_path.iterdir()] == ["given.npz"]

    return check


def test_disk_full(says_no):
    """No file may grow beyond 2,000 bytes: config.json does not, predictions.npz would."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        says_no("predictions.npz", "File too large")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize(
    ("number", "file"),
    [
        (errno.EACCES, "config.json"),
        (errno.EROFS, "predictions.npz"),
        (errno.EDQUOT, "result.json"),
        (errno.ENOSPC, "report.html"),
    ],
)
def test_disk_that_says_no(says_no, monkeypatch, number, file):
    replace = os.replace

    def fail(source, target):
        if Path(target).name == file:
            raise OSError(number, os.strerror(number))
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail)
    says_no(file, os.strerror(number))


def test_the_real_command():
    """Nothing but the one line reaches the terminal, from no library."""
    command = [sys.executable, "-m", "experiments.diagnose", "--data", "no\nwhere"]
    root = Path(__file__).resolve().parents[2]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=root)
    line = "error: --data no where: no such folder; give a folder of class folders, an .npz file, "
    assert ended.stderr == f"{line}tfds:NAME or digits\n"
    assert ended.stdout == ""
    assert ended.returncode == 2
