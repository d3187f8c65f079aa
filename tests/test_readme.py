"""The README tells the truth: its commands, options and files exist."""

import dataclasses
import importlib
import re
from pathlib import Path

import pytest

from experiments import table
from experiments.weight_uncertainty import report

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def _config(module):
    package = importlib.import_module(module)
    main = f"{module}.__main__" if hasattr(package, "__path__") else module
    return {field.name for field in dataclasses.fields(importlib.import_module(main).Config)}


def test_commands_and_their_options_exist():
    commands = re.findall(r"launch/run\.sh (experiments\.[\w.]+)((?: [^\n`#]*)?)", README)
    assert len(commands) >= 8
    for module, rest in commands:
        fields = _config(module)
        for option in re.findall(r"--(\w+)", rest):
            assert option in fields, f"{module} has no --{option}"


def test_options_in_the_text_exist():
    fields = _config("experiments.diagnose")
    for option in re.findall(r"`--(\w+)", README):
        assert option in fields | {"help"}, option


def test_files_named_in_the_house_exist():
    house = re.search(r"```\n(research/ .*?)```", README, re.DOTALL).group(1)
    for name in re.findall(r"\b(\w+\.py)\b", house):
        folders = ROOT / "research", ROOT / "experiments"
        assert any(list(folder.rglob(name)) for folder in folders), name
    assert (ROOT / re.search(r"!\[.*?\]\((.*?)\)", README).group(1)).exists()


TABLES = re.findall(r"<!-- (experiments\S+) -->\n((?:\|.*\n)+)", README)


@pytest.mark.parametrize(("folder", "shown"), TABLES, ids=[folder for folder, _ in TABLES])
def test_tables_are_made_from_the_committed_results(folder, shown, capsys, tmp_path):
    directory = ROOT / folder
    if "weight_uncertainty" in folder:
        report.main(report.Config(runs=(directory,), out=tmp_path))
        made = (tmp_path / "table.md").read_text()
    else:
        table.main(table.Config(runs=(directory,)))
        made = capsys.readouterr().out
    assert made.strip() == shown.strip()


def test_every_committed_result_is_shown():
    there = {str(path.parent.relative_to(ROOT)) for path in ROOT.glob("experiments/**/result.json")}
    assert there <= {folder for folder, _ in TABLES}
