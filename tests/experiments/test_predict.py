"""What experiments.predict reads; that it says what the run said is tested in test_diagnose."""

import json

import pytest
from PIL import Image

from experiments import cli, predict
from research.models.layers import (
    BinaryLogit,
    Conv,
    Dense,
    Dropout,
    Flatten,
    Pool,
    Rescale,
    from_json,
    to_json,
)
from research.runtime.errors import UserError


def test_layers_survive_json():
    layers = (
        Conv("a", 4, (3, 3)),
        Pool("max"),
        Flatten(),
        Rescale((1.0, 2.0, 3.0)),
        Dropout(0.5),
        Dense("b", 3, "relu"),
        BinaryLogit(),
    )
    assert from_json(json.loads(json.dumps(to_json(layers)))) == layers


@pytest.mark.parametrize("images", [("none.png",), ()])
def test_images_that_are_not_there(images, tmp_path, monkeypatch, capsys):
    arguments = ["predict", "--run", str(tmp_path), *(str(tmp_path / name) for name in images)]
    monkeypatch.setattr("sys.argv", arguments)
    with pytest.raises(SystemExit) as stopped:
        cli.run(predict.main, predict.Config)
    assert stopped.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_folder_that_is_no_run_is_named(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(UserError, match="no exported classifier"):
        predict.main(predict.Config(images=(tmp_path / "a.png",), run=tmp_path))
    broken = tmp_path / "broken" / "export"
    broken.mkdir(parents=True)
    (broken / "classifier.json").write_text('{"layers": [{"layer": "Lambda"}]}')
    with pytest.raises(UserError, match="no exported classifier"):
        predict.main(predict.Config(images=(tmp_path / "a.png",), run=tmp_path / "broken"))


def test_a_run_of_an_earlier_version_is_named(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "result.json").write_text('{"schema_version": 1}')
    with pytest.raises(UserError, match=r"run experiments\.diagnose again"):
        predict.main(predict.Config(images=(tmp_path / "a.png",), run=tmp_path))
