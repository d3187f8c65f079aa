"""The report of the paper's experiments: which row of a cell counts, and verdicts."""

import json

import numpy as np
import pytest

from experiments.weight_uncertainty import records, report
from experiments.weight_uncertainty.records import Target
from research.runtime.errors import UserError


def test_of_two_runs_of_a_cell_the_later_one_counts(tmp_path):
    arrays = {
        "epochs": np.arange(1, 4),
        "test_error": np.full((3, 2), 0.02),
        "weights": np.linspace(-0.1, 0.1, 9),
    }
    for name, ours in (("one", 1.9), ("two", 1.7)):
        line = records.row("1", "SGD", "400", ours, target=Target(1.83, 0.2))
        records.write(tmp_path / name, "classification-sgd-400", {"rows": [line]}, arrays)
    runs, out = (tmp_path / "one", tmp_path / "two"), tmp_path / "out"
    report.main(report.Config(runs=runs, out=out, keep=tmp_path / "kept"))
    rows = json.loads((out / "result.json").read_text())["rows"]
    assert [row["ours"] for row in rows if row["row"] == "SGD" and row["ours"]] == [1.7]
    kept = records.read(tmp_path / "kept", "classification-")
    assert kept[0].found["rows"][0]["ours"] == 1.7
    assert (tmp_path / "kept" / "figure2.png").exists()  # drawn from both runs


def test_of_several_settings_the_one_chosen_on_validation_counts(tmp_path, capsys):
    """Not the one with the lowest test error."""
    settings = {"": (1.9, 0.025), "-momentum=0.8": (2.1, 0.018), "-momentum=0.9": (1.7, 0.021)}
    for name, (ours, valid) in settings.items():
        line = records.row(
            "1", f"SGD{name.replace('-', ', ')}", "400", ours, target=Target(1.83, 0.2)
        )
        arrays = {"epochs": np.arange(1, 4), "weights": np.linspace(-0.1, 0.1, 9)}
        arrays |= {"valid_error": np.full((3, 2), valid), "test_error": np.full((3, 2), ours / 100)}
        records.write(tmp_path / "run", f"classification-sgd{name}-400", {"rows": [line]}, arrays)
    report.main(report.Config(runs=(tmp_path / "run",), out=tmp_path / "out"))
    rows = json.loads((tmp_path / "out" / "result.json").read_text())["rows"]
    assert [row["ours"] for row in rows if row["ours"]] == [2.1, 1.7, 1.9]
    assert "1 were run here by its protocol: 0 are met, 1 missed" in capsys.readouterr().out


def test_a_report_of_nothing_is_an_error(tmp_path):
    with pytest.raises(UserError, match="nothing has been run there"):
        report.main(report.Config(runs=(tmp_path,), out=tmp_path / "report"))


def test_verdicts():
    def verdict(ours):
        return records.row("1", "r", "c", ours, target=Target(1.32, 0.2))["verdict"]

    assert (verdict(1.5), verdict(1.53), verdict(1.0)) == ("met", "missed", "met")
    short = records.row("1", "r", "c", 5.0, target=Target(1.32, 0.2, is_as_paper=False))
    assert (short["ours"], short["paper"], short["verdict"]) == (5.0, 1.32, None)
    assert records.not_run("1", "r", "c", 1.3)["verdict"] == "not run"
