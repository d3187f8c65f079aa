"""`experiments.diagnose` from end to end, at a small size, by each of its four ways in."""

import json
import re
from pathlib import Path

import h5py
import jax
import jsonschema
import numpy as np
import pytest

from experiments import predict, report
from research.assessment import remedies, write
from research.models import chain, vgg
from research.models.layers import Conv
from research.report import result as report_result
from research.training.recipe import parse

SMALL = (
    *("--image_size", "32", "--width", "0.03", "--epochs", "2", "--batch_size", "8"),
    *("--dropout_samples", "3"),
)
COUNTS = {"train": 31, "valid": 6, "test": 6}  # of the photos
SCHEMA = Path(report_result.__file__).parent / "result.schema.json"
WIDTH = 2 / 64  # of the weights file


def plain(html: str) -> str:
    """The words of a page."""
    text = re.sub(r"<(style|script|svg)\b.*?</\1>", " ", html, flags=re.DOTALL)
    text = re.sub(r"<[^>]+>", " ", text)
    return " ".join(text.replace("\N{NO-BREAK SPACE}", " ").replace("&nbsp;", " ").split())


def without_times(value):
    """A result without what differs from one day to the next."""
    if isinstance(value, dict):
        times = ("created", "seconds", "milliseconds_per_image", "training_seconds")
        times += ("commit", "next", "findings")
        return {name: without_times(each) for name, each in value.items() if name not in times}
    return [without_times(each) for each in value] if isinstance(value, list) else value


def assert_whole(ran, counts: dict[str, int], methods: tuple[str, ...]):
    """Exactly N predictions for N images, of every method, and the files of a run."""
    result, arrays = ran.result(), ran.predictions()
    jsonschema.validate(result, json.loads(SCHEMA.read_text()))
    assert result["data"]["counts"] == counts
    assert tuple(result["methods"]) == methods
    split = np.concatenate([np.full(n, name) for name, n in counts.items()])
    np.testing.assert_array_equal(arrays["split"], split)
    assert len(set(arrays["ids"].tolist())) == len(split)
    assert arrays["labels"].shape == split.shape
    for name, method in result["methods"].items():
        shape = (method["draws"], len(split), len(result["data"]["classes"]))
        log_probs = arrays[f"log_probs_{name}"]
        assert log_probs.shape == shape
        np.testing.assert_allclose(np.exp(log_probs).sum(-1), 1, rtol=0, atol=1e-5)
        for part, n in counts.items():
            judged = method["splits"][part]
            assert judged["n"] == n
            rows = split == part
            probs = np.exp(log_probs[:, rows].astype(np.float64)).mean(axis=0)
            errors = int(np.sum(probs.argmax(axis=1) != arrays["labels"][rows]))
            assert judged["errors"] == errors
            at_label = probs[np.arange(n), arrays["labels"][rows]]
            assert judged["metrics"]["nll"]["value"] == pytest.approx(
                -np.log(at_label).mean(), rel=1e-4
            )
    np.testing.assert_array_equal(arrays["log_probs"], arrays["log_probs_point"][0])
    for name in ("report.html", "config.json"):
        assert (ran.out / name).stat().st_size > 0
    assert str(ran.out / "report.html") in ran.stdout


def test_published_predictions(run_diagnose, shared_data, tmp_path):
    """The numbers that the file's own paper and repository give."""
    file = shared_data / "vgg16_cifar10_test_probs.npz"
    ran = run_diagnose("--predictions", file, out=tmp_path / "run")
    assert_whole(ran, {"test": 10_000}, ("point", "temperature"))
    result = ran.result()
    assert result.keys() == {
        *("schema_version", "command", "created", "seconds", "seed", "commit", "versions"),
        *("data", "model", "methods", "mistakes", "descriptions", "findings", "next", "max_error"),
        "diagnosis",
    }
    metrics = result["methods"]["point"]["splits"]["test"]["metrics"]
    printed = {"accuracy": 0.9359, "nll": 0.2571, "brier": 0.1054, "ece": 0.0398}
    for name, value in printed.items():
        assert round(metrics[name]["value"], 4) == value
        assert metrics[name]["low"] < value < metrics[name]["high"]
    tempered = result["methods"]["temperature"]
    assert tempered["temperature"]["low"] < tempered["temperature"]["value"]
    assert tempered["splits"]["test"]["metrics"]["nll"]["high"] < metrics["nll"]["low"]
    assert len(result["mistakes"]) == 12

    page = plain((ran.out / "report.html").read_text(encoding="utf-8"))
    for words in ("97.6 %", "93.6 %", "[93.1, 94.1]", "0.257", "3.98 %"):
        assert words in page
        assert words in ran.stdout.replace("\N{NO-BREAK SPACE}", " ")


def test_our_own_predictions_file_read_back(run_diagnose, tmp_path):
    random = np.random.default_rng(0)
    logits, labels = random.normal(0, 2, (90, 3)), random.integers(0, 3, 90)
    split = np.repeat(["train", "valid", "test"], 30)
    np.savez(tmp_path / "given.npz", logits=logits, labels=labels, split=split)
    first = run_diagnose("--predictions", tmp_path / "given.npz", out=tmp_path / "a")
    assert_whole(first, {"train": 30, "valid": 30, "test": 30}, ("point", "temperature"))
    again = run_diagnose("--predictions", first.out / "predictions.npz", out=tmp_path / "b")
    for name in ("point", "temperature"):
        ours, theirs = (ran.result()["methods"][name]["splits"] for ran in (first, again))
        for part in ours:
            for metric, estimate in ours[part]["metrics"].items():
                same = theirs[part]["metrics"][metric]["value"]
                assert estimate["value"] == pytest.approx(same, rel=1e-9, abs=1e-12), metric


pytest_keras = pytest.mark.filterwarnings(
    # Keras' own code: numpy 2 asks its variables for an argument that they do not take.
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)


@pytest_keras
@pytest.mark.parametrize("has_dropout", [True, False])
def test_own_keras_model(run_diagnose, keras_model, photos, tmp_path, has_dropout):
    middle = (lambda layers: [layers.Dropout(0.5)]) if has_dropout else None
    model = keras_model(f"dropout_{has_dropout}.keras", middle)
    options = ("--data", photos, "--model", model, "--preprocess", "unit", "--dropout_samples", "5")
    first = run_diagnose(*options, out=tmp_path / "run")
    draws = ("mc_dropout",) if has_dropout else ()
    assert_whole(first, COUNTS, ("point", *draws, "temperature", "platt"))
    result = first.result()
    assert result["model"]["source"] == model.name
    assert result["model"]["preprocess"]["name"] == "unit"
    assert 0 <= result["model"]["parity"] <= 1e-4
    assert result["model"]["training"] is None
    assert result["methods"]["point"]["draws"] == 1
    if has_dropout:
        assert result["methods"]["mc_dropout"]["draws"] == 5
        mc_dropout = first.predictions()["log_probs_mc_dropout"]
        assert np.std(mc_dropout, axis=0).min() > 0
    assert f"Keras' own by {result['model']['parity']:.1g} of the largest" in first.stdout
    page = plain((first.out / "report.html").read_text(encoding="utf-8"))
    assert f"differ by at most {result['model']['parity']:.1e}" in page
    assert model.name in page

    first_log_probs = first.predictions()["log_probs"]
    assert np.ptp(first_log_probs, axis=0).min() > 0

    # The base does not run again: what lies there is believed.
    features = sorted((first.out / "features").iterdir())
    assert len(features) == 3
    for path in features:
        np.save(path, np.zeros_like(np.load(path)))
    again = run_diagnose(*options, out=tmp_path / "run")
    assert sorted((first.out / "features").iterdir()) == features
    log_probs = again.predictions()["log_probs"]
    assert np.ptp(log_probs, axis=0).max() == 0


@pytest_keras
def test_black_box(run_diagnose, keras_model, photos, tmp_path):
    """What is no chain of layers runs through Keras: its dropout cannot be switched on."""

    def middle(layers):
        return [lambda x: layers.Concatenate()([x, layers.Dropout(0.5)(x)])]

    model = keras_model("branches.h5", middle)
    ran = run_diagnose(
        *("--data", photos, "--model", model, "--preprocess", "unit"), out=tmp_path / "run"
    )
    assert_whole(ran, COUNTS, ("point", "temperature", "platt"))
    assert "black box" in ran.result()["model"]["description"]


@pytest.fixture(scope="module")
def trained(run_diagnose, photos, tmp_path_factory):
    """A network trained from scratch, twice the same command."""
    out = tmp_path_factory.mktemp("trained") / "run"
    first = run_diagnose("--data", photos, *SMALL, out=out, all_causes=True)
    first_result, first_arrays = first.result(), first.predictions()
    again = run_diagnose("--data", photos, *SMALL, out=out, all_causes=True)
    return first, first_result, first_arrays, again


def test_trained_from_scratch(trained):
    ran, result, _, _ = trained
    assert_whole(ran, COUNTS, ("point", "mc_dropout", "temperature", "platt"))
    assert result["data"]["image_size"] == 32
    assert result["model"]["training"]["what"] == "all"
    assert result["model"]["training"]["steps"] == 6  # 31 // 8 steps in each of 2 epochs
    assert result["methods"]["mc_dropout"]["draws"] == 3
    config = json.loads((ran.out / "config.json").read_text())
    assert config["options"]["width"] == 0.03
    splits = json.loads((ran.out / "data" / "splits.json").read_text())
    assert [len(ids) for ids in splits.values()] == list(COUNTS.values())


def test_the_page_is_made_again_from_the_files_of_the_run(trained, capsys):
    file = trained[0].out / "report.html"
    page = file.read_bytes()
    file.unlink()
    report.main(report.Config(trained[0].out))
    assert file.read_bytes() == page
    assert str(file) in capsys.readouterr().out


def test_the_head_is_cured_and_new_images_are_compared(
    trained, run_diagnose, photos, tmp_path, monkeypatch, capsys
):
    """What the causes found ask for is tried on cached features; a folder needs no labels; and a
    calibrator that is recommended is kept with what it calibrates."""
    recipe = remedies.Remedy(parse("point(weight_decay=0.1)")[0], ("overfitting",))
    monkeypatch.setattr(remedies, "choose", lambda found: [recipe])
    monkeypatch.setattr(write, "recommended", lambda result: "vector")
    ran = run_diagnose(
        *("--data", photos, "--image_size", "32", "--width", "0.03", "--dropout_samples", "3"),
        *("--init", trained[0].out / "weights.safetensors", "--compare", photos / "good"),
        *("--calibrate", "vector"),
        out=tmp_path / "run",
    )
    name = "head: point(weight_decay=0.1)"
    assert_whole(ran, COUNTS, ("point", "mc_dropout", "temperature", name, "vector"))
    assert_predicts(ran.out, ran.predictions(), photos, "vector", capsys)
    cure = ran.result()["methods"][name]
    assert cure["against"] == ["overfitting"]
    assert cure["training_seconds"] > 0
    assert "Only the head was trained" in cure["about"]
    assert cure["splits"]["test"]["metrics"]["nll"]["value"] < 1
    assert len(list((ran.out / "features").iterdir())) == 3


@pytest.mark.slow
def test_cures_are_trained_beside_the_network_and_judged(trained, run_diagnose, photos, tmp_path):
    """Named methods and calibrators join the report; --init takes the weights of another run."""
    first, _, arrays, _ = trained
    options = (
        *("--data", photos, *SMALL, "--init", first.out / "weights.safetensors", "--bayes", "last"),
        *("--methods", "bayes_by_backprop(num_samples=2)", "--calibrate", "platt"),
    )
    ran = run_diagnose(*options, out=tmp_path / "run")
    named = ("bayes_by_backprop(num_samples=2)", "platt")
    assert_whole(ran, COUNTS, ("point", "mc_dropout", "temperature", *named))
    result = ran.result()
    assert result["model"]["training"] is None
    np.testing.assert_allclose(ran.predictions()["log_probs"], arrays["log_probs"], atol=1e-5)
    assert result["methods"]["platt"]["title"] == "Platt scaling"
    assert result["methods"]["bayes_by_backprop(num_samples=2)"]["draws"] == 2
    assert not (ran.out / "training" / "point").exists()
    for method in result["methods"].values():
        assert set(method["decisions"]) == {"refusal", "sets"}
    page = plain((ran.out / "report.html").read_text(encoding="utf-8"))
    assert "What it may decide alone" in page


def test_the_exported_classifier_predicts_what_the_run_did(trained, photos, capsys):
    ran, _, arrays, _ = trained
    told = json.loads((ran.out / "export" / "classifier.json").read_text())
    assert_predicts(ran.out, arrays, photos, told["recipe"].split("(")[0], capsys)


def assert_predicts(run, arrays, photos, name, capsys):
    """experiments.predict on the test images' files says what predictions.npz has."""
    classes = json.loads((run / "result.json").read_text())["data"]["classes"]
    ids = arrays["ids"][arrays["split"] == "test"][:5]
    files = tuple(photos / each for each in ids)
    capsys.readouterr()
    predict.main(predict.Config(images=files, run=run, json=True, batch_size=2))
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    log_probs = arrays[f"log_probs_{name}"][:, arrays["split"] == "test"][:, :5]
    probs = np.exp(log_probs.astype(np.float64)).mean(axis=0)
    assert [line["class"] for line in lines] == [classes[k] for k in probs.argmax(axis=1)]
    np.testing.assert_allclose([x["probability"] for x in lines], probs.max(axis=1), rtol=1e-4)
    assert all(line["epistemic"] >= 0 and line["aleatoric"] >= 0 for line in lines)


def test_the_same_command_again_gives_the_same(trained):
    _, first_result, first_arrays, again = trained
    assert without_times(again.result()) == without_times(first_result)
    arrays = again.predictions()
    assert arrays.keys() == first_arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, first_arrays[name])


def weights_file(path):
    """VGG16's convolutions, few channels wide, laid out as Keras' published file is."""
    random, channels = np.random.default_rng(0), 3
    names = []
    with h5py.File(path, "w") as file:
        for layer in vgg.convolutions(WIDTH):
            if not isinstance(layer, Conv):
                continue
            shape, channels = (3, 3, channels, layer.features), layer.features
            scale = np.sqrt(2 / np.prod(shape[:-1]))
            parts = {"kernel:0": random.normal(0, scale, shape), "bias:0": np.full(channels, 0.1)}
            group = file.create_group(layer.name)
            group.attrs["weight_names"] = [name.encode() for name in parts]
            for name, value in parts.items():
                group[name] = value.astype(np.float32)
            names.append(layer.name.encode())
        file.attrs["layer_names"] = names
    return path


@pytest_keras
def test_head_on_given_weights(run_diagnose, photos, tmp_path):
    weights = weights_file(tmp_path / "vgg16_notop.h5")
    options = ("--image_size", "32", "--epochs", "3", "--batch_size", "8", "--dropout_samples", "3")
    ran = run_diagnose("--data", photos, "--weights", weights, *options, out=tmp_path / "run")
    assert_whole(ran, COUNTS, ("point", "mc_dropout", "temperature", "platt"))
    model = ran.result()["model"]
    assert "vgg16_notop.h5" in model["description"]
    assert model["preprocess"]["name"] == "caffe"
    assert 0 <= model["parity"] <= 1e-4
    assert model["training"]["what"] == "head"
    network = vgg.VGG16(2, "cifar", WIDTH)
    shapes = jax.eval_shape(network.init, jax.random.key(0), np.zeros((1, 32, 32, 3), np.float32))
    assert model["parameters"] == chain.count(shapes)
    assert len(list((ran.out / "features").iterdir())) == 3
    # A head that was trained on other weights is not passed off as trained on these.
    with h5py.File(weights, "r+") as file:
        file["block1_conv1/bias:0"][...] = 0.2
    again = run_diagnose("--data", photos, "--weights", weights, *options, out=tmp_path / "run")
    assert again.code == 2
    assert "the weights to start from have changed" in again.stderr
