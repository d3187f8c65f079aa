"""The READMEs tell the truth: commands, options, links and files exist, tables are the results."""

import dataclasses
import importlib
import re
import typing
from pathlib import Path

import pytest

from experiments import table
from experiments.weight_uncertainty import report

ROOT = Path(__file__).resolve().parents[1]
READMES = {
    name: (ROOT / name / "README.md").read_text()
    for name in (
        *(".", "research", "experiments"),
        *("experiments/toy_problems", "experiments/weight_uncertainty"),
    )
}
TABLES = [
    (folder, shown)
    for text in READMES.values()
    for folder, shown in re.findall(r"<!-- (experiments\S+) -->\n((?:\|.*\n)+)", text)
]
each_readme = pytest.mark.parametrize("name", READMES)


def _fields(config):
    """The options of a config, those of its groups among them."""
    types = typing.get_type_hints(config)
    for field in dataclasses.fields(config):
        if dataclasses.is_dataclass(types[field.name]):
            yield from _fields(types[field.name])
        else:
            yield field.name


def _options(module):
    package = importlib.import_module(module)
    main = f"{module}.__main__" if hasattr(package, "__path__") else module
    return {*_fields(importlib.import_module(main).Config), "help"}


def _commands(text):
    """Each command's module, and what follows on its line and those that it goes on in."""
    start = r"(?:launch/run\.sh|candor) (?!\S*NAME)([a-z][\w.]+)"
    return re.findall(start + r"((?:[^\n`#]|(?<=\\)\n)*)", text)


def test_every_readme_is_tested():
    found = {str(path.parent.relative_to(ROOT)) for path in ROOT.rglob("[!.]*/README.md")}
    assert {name for name in found if "." not in name} == READMES.keys() - {"."}


def test_the_first_page_is_short():
    assert len(READMES["."].splitlines()) <= 180


@each_readme
def test_commands_and_their_options_exist(name):
    for module, rest in _commands(READMES[name]):
        if module == "pytest":
            continue
        full = module if module.startswith("experiments.") else f"experiments.{module}"
        assert set(re.findall(r"--(\w+)", rest)) <= _options(full), module


def test_commands_are_found_in_the_readmes():
    modules = {module for text in READMES.values() for module, _ in _commands(text)}
    assert {"pytest", "experiments.diagnose", "experiments.weight_uncertainty.report"} <= modules
    assert len(modules) >= 20


@each_readme
def test_options_in_the_text_exist(name):
    modules = {module for module, _ in _commands(READMES[name]) if module.startswith("exp")}
    known = set().union(*map(_options, modules | {"experiments.diagnose"}))
    assert set(re.findall(r"`--(\w+)", READMES[name])) <= known


def _anchors(text):
    """The anchors of a page's headings, as they are made where it is shown."""
    for title in re.findall("^#+ (.*)$", text, re.MULTILINE):
        yield re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


@each_readme
def test_links_and_pictures_lead_somewhere(name):
    for link in re.findall(r"\]\((?!https?:)([^)]*)\)", READMES[name]):
        path, _, anchor = link.partition("#")
        there = (ROOT / name / path).resolve()
        assert there.exists(), link
        if anchor:
            assert anchor in _anchors(there.read_text()), link


@each_readme
def test_python_files_named_exist(name):
    for path in re.findall(r"\b([\w/]+\.py)\b", READMES[name]):
        if path == "research/methods/noisy.py":  # the example of a new one
            continue
        assert "NAME" in path or list(ROOT.glob(f"**/{path}")), path


@pytest.mark.parametrize(("folder", "shown"), TABLES, ids=[folder for folder, _ in TABLES])
def test_tables_are_made_from_the_committed_results(folder, shown, capsys, tmp_path):
    directory = ROOT / folder
    if "weight_uncertainty" in folder:
        report.main(report.Config(runs=(directory,), out=tmp_path))
        made = (tmp_path / "table.md").read_text()
    else:
        table.main(table.Config(runs=tuple(sorted(ROOT.glob(folder)))))
        made = capsys.readouterr().out
    assert made.strip() == shown.strip()


def test_every_committed_result_is_shown():
    there = {str(path.parent.relative_to(ROOT)) for path in ROOT.glob("experiments/**/result.json")}
    shown = {path for folder, _ in TABLES for path in ROOT.glob(folder)}
    assert there <= {str(path.relative_to(ROOT)) for path in shown}


def _rows(text):
    """The cells of every row of a page's tables."""
    lines = re.findall(r"^\|(.*)\|$", text, re.MULTILINE)
    return [[cell.strip() for cell in line.split("|")] for line in lines]


def test_the_first_page_shows_rows_of_the_full_table():
    """The run's own title stands in the first column, and the full table has more columns."""
    full, shown = _rows(READMES["experiments"]), _rows(READMES["."])
    titles = next(row for row in full if row[0] == "data")
    start = next(i for i, row in enumerate(shown) if row[0] == "run")
    columns = [titles.index(title) for title in shown[start][1:]]
    rows = [[row[i] for i in columns] for row in full if len(row) == len(titles)]
    assert len(shown[start + 2 :]) > 5
    for row in shown[start + 2 :]:
        assert row[1:] in rows, row
