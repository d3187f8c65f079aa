"""A model that is sure of everything, and its photographs, for `experiments.diagnose`."""

import sys

import jax
import pytest

from experiments import cli, example


def run(monkeypatch, *options):
    monkeypatch.setattr(sys, "argv", ["example", *options])
    cli.run(example.main, example.Config)


@pytest.mark.filterwarnings(
    # Keras' own code: numpy 2 asks its variables for an argument that they do not take.
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)
def test_photographs_and_a_model_that_can_be_judged(run_diagnose, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(example, "BLOCKS", (2,))
    monkeypatch.setattr(example, "HIDDEN", 4)
    out = tmp_path / "example"
    options = ("--data", "digits", "--classes", "1,7", "--limit", "24", "--epochs", "2")
    with jax.numpy_rank_promotion("allow"):  # Keras' own code promotes ranks
        run(monkeypatch, *options, "--out", str(out))
    assert f"--data {out}/photos --model {out}/model.keras" in capsys.readouterr().out
    written = {
        s: len(list((out / "photos" / s).rglob("*.png"))) for s in ("train", "valid", "test")
    }
    assert written["train"] == 24
    assert sorted(p.name for p in (out / "photos" / "test").iterdir()) == ["1", "7"]
    ran = run_diagnose("--data", out / "photos", "--model", out / "model.keras", out=tmp_path / "r")
    result = ran.result()
    assert result["data"]["counts"] == written
    assert result["data"]["given_splits"]
    assert result["model"]["parity"] < 1e-4


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--classes", "1"), "--classes 1: give two classes"),
        (("--epochs", "0"), "--epochs 0: give a whole number, 1 or more"),
        (("--data", "digits", "--classes", "1,x", "--out", "nowhere"), "no class 'x'"),
        (("--out", "."), "--out .: is there already; give another folder"),
    ],
)
def test_bad_input_is_one_line(options, line, monkeypatch, capsys):
    with pytest.raises(SystemExit) as stop:
        run(monkeypatch, *options)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert line in error
    assert error.count("\n") == 1
