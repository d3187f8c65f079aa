"""The mended classifier says of an image what the run said of it."""

import json

import numpy as np
import pytest
from PIL import Image

from experiments import cli, diagnose, diagnose_options, predict
from research.errors import UserError
from research.models import chain


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run on few digits, with a cure whose draws are random."""
    out = tmp_path_factory.mktemp("predict") / "run"
    config = diagnose_options.Config(
        out=out, limit=60, epochs=1, width=0.05, dropout_samples=3, image_size=32
    )
    diagnose.main(config)
    return out


def test_it_says_of_test_images_what_the_run_said(run, tmp_path, capsys):
    from research.data.load import load

    dataset = load("digits", image_size=32, seed=0, limit=60)
    for i in range(5):
        Image.fromarray(dataset.test.images[np.arange(i, i + 1)][0]).save(tmp_path / f"{i}.png")
    capsys.readouterr()
    predict.main(predict.Config(images=(tmp_path,), run=run, json=True, batch_size=2))
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    told = json.loads((run / "mended" / "classifier.json").read_text())
    with np.load(run / "predictions.npz") as file:
        is_test = file["split"] == "test"
        name = told["recipe"].split("(")[0]
        log_probs = file[f"log_probs_{name}"][:, is_test][:, :5].astype(np.float64)
    probs = np.exp(log_probs).mean(axis=0)
    assert [line["class"] for line in lines] == [told["classes"][k] for k in probs.argmax(axis=1)]
    np.testing.assert_allclose([x["probability"] for x in lines], probs.max(axis=1), rtol=1e-4)
    for line in lines:
        assert line["epistemic"] >= 0
        assert line["aleatoric"] >= 0


def test_layers_survive_json():
    layers = (
        chain.Conv("a", 4, (3, 3)),
        chain.Pool("max"),
        chain.Flatten(),
        chain.Rescale((1.0, 2.0, 3.0)),
        chain.Dropout(0.5),
        chain.Dense("b", 3, "relu"),
        chain.BinaryLogit(),
    )
    assert chain.from_json(json.loads(json.dumps(chain.to_json(layers)))) == layers


@pytest.mark.parametrize("images", [("none.png",), ()])
def test_images_that_are_not_there(run, images, tmp_path, monkeypatch, capsys):
    arguments = ["predict", "--run", str(run), *(str(tmp_path / name) for name in images)]
    monkeypatch.setattr("sys.argv", arguments)
    with pytest.raises(SystemExit) as stopped:
        cli.run(predict.main, predict.Config)
    assert stopped.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_folder_that_is_no_run_is_named(tmp_path, run):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(UserError, match="no mended classifier"):
        predict.main(predict.Config(images=(tmp_path / "a.png",), run=tmp_path))
    broken = tmp_path / "broken" / "mended"
    broken.mkdir(parents=True)
    (broken / "classifier.json").write_text('{"layers": [{"layer": "Lambda"}]}')
    with pytest.raises(UserError, match="no mended classifier"):
        predict.main(predict.Config(images=(tmp_path / "a.png",), run=tmp_path / "broken"))
