"""`pip install -e .`: what the package holds, and the command that it brings."""

import importlib
import subprocess
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

from experiments import candor

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_every_file_that_the_code_reads_is_in_the_package():
    listed = subprocess.run(
        ["git", "ls-files", "research", "experiments"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    patterns = PROJECT["tool"]["setuptools"]["package-data"]["*"]
    for path in map(Path, listed):
        assert (ROOT / path.parent / "__init__.py").exists() or "results" in path.parts, path
        is_code = path.suffix == ".py" or any(fnmatch(path.name, given) for given in patterns)
        assert is_code or "results" in path.parts or path.name == "README.md", path


def test_the_dependencies_are_those_of_the_requirements():
    assert PROJECT["project"]["dynamic"] == ["dependencies"]
    assert PROJECT["tool"]["setuptools"]["dynamic"]["dependencies"]["file"] == ["requirements.txt"]


@pytest.fixture
def command():
    """What the console command `candor` calls."""
    module, name = PROJECT["project"]["scripts"]["candor"].split(":")
    return getattr(importlib.import_module(module), name)


def test_every_experiment_is_found_by_its_name():
    names = candor.experiments()
    assert {"diagnose", "predict", "table", "exam", "weight_uncertainty.report"} <= names.keys()
    assert not {"cli", "candor"} & names.keys()
    assert all(names.values()), names


@pytest.mark.parametrize("arguments", [["table", "--zzz"], ["experiments.table", "--zzz"]])
def test_an_experiment_gets_its_options_and_keeps_its_exit_code(
    command, arguments, monkeypatch, capsys
):
    monkeypatch.setattr("sys.argv", ["candor"])
    with pytest.raises(SystemExit) as stop:
        command(arguments)
    assert stop.value.code == 2
    assert "error: Unrecognized options: --zzz" in capsys.readouterr().err


def test_no_or_an_unknown_name_lists_the_experiments(command, capsys):
    for arguments, begins in (
        ([], "usage: candor EXPERIMENT"),
        (["diagnos"], "error: diagnos: no such experiment. Did you mean diagnose?"),
        (["../x"], "error: ../x: no such experiment."),
    ):
        with pytest.raises(SystemExit) as stop:
            command(arguments)
        assert stop.value.code == 2
        told = capsys.readouterr()
        assert told.err.startswith(begins)
        assert "\n  diagnose " in told.err
        assert told.out == ""
    command(["--help"])
    assert "\n  diagnose " in capsys.readouterr().out
