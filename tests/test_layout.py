"""The house: what lies where, and that imports point one way."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TOP = {"research", "experiments", "tests", "launch", "requirements.txt", "README.md"}
TOP |= {"pyproject.toml", "LICENSE"}
# A folder imports its own floor and those below it, never one above; so does a file in it. A new
# file needs no line here.
FLOORS = [
    {"method", "runtime"},
    {"data", "metrics"},
    {"models", "posteriors", "calibrators"},
    {"methods", "diagnosis"},
    {"training", "report"},
    {"assessment"},
]
SOURCES = sorted((ROOT / "research").rglob("*.py"))


def _imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _floor(name):
    return next(i for i, names in enumerate(FLOORS) if name in names)


def test_the_top_level_holds_the_house_and_nothing_else():
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    names = {path.split("/")[0] for path in listed}
    assert {name for name in names if not name.startswith(".")} == TOP


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path):
    parts = path.relative_to(ROOT / "research").with_suffix("").parts
    if parts == ("__init__",):
        return
    floor = _floor(parts[0])
    for name in _imports(path):
        assert not name.startswith("experiments"), f"the library imports {name}"
        match = re.match(r"research\.(\w+)", name)
        if match:
            assert _floor(match.group(1)) <= floor, f"{path.name} imports {name}, a floor above"


def test_only_one_file_imports_orbax_and_none_imports_pickle():
    users = [p.name for p in SOURCES if any(name.startswith("orbax") for name in _imports(p))]
    assert users == ["checkpoint.py"]
    for path in SOURCES:
        assert not {"pickle", "dill", "joblib", "cloudpickle"} & set(_imports(path)), path
        assert "allow_pickle=True" not in path.read_text(), path


def test_importing_the_library_loads_neither_tensorflow_nor_torch_nor_keras():
    code = (
        "import sys, experiments.diagnose; "
        "print([m for m in ('tensorflow', 'torch', 'keras') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


MOST_LINES = 260
DIALECT = {"told", "said", "see", "look", "ask", "judge", "mended"}
OPTION = r"(?<![\w-])--[a-z]\w+"
# The line that turns parameters into options, whole commands for the page, and those of git.
WRITE_OPTIONS = {"errors.py", "next_steps.py", "run_folder.py"}
FOR_EVERY_EXPERIMENT = {"cli", "markdown", "diagnose", "diagnose_options"}
CODE = sorted([*SOURCES, *(ROOT / "experiments").rglob("*.py")])
each_file = pytest.mark.parametrize("path", CODE, ids=lambda path: str(path.relative_to(ROOT)))


def _defined(tree):
    """The names of the functions, classes, parameters, variables and fields of a file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.alias):
            yield node.asname or ""


@each_file
def test_a_file_is_short_and_named_in_the_words_of_the_field(path):
    text = path.read_text()
    assert len(text.splitlines()) <= MOST_LINES
    parts = {name: set(name.lower().split("_")) for name in (*_defined(ast.parse(text)), path.stem)}
    assert not {name for name, words in parts.items() if words & DIALECT}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_library_knows_no_command_line(path):
    text = path.read_text()
    assert not re.search(r"\bsys\.(exit|argv)\b", text)
    if path.name not in WRITE_OPTIONS:
        assert not re.findall(OPTION, text)


def test_the_report_is_made_from_the_result_alone():
    allowed = r"research\.(report|metrics|runtime|diagnosis\.verdict)(\.|$)|research(\.diagnosis)?$"
    for path in (ROOT / "research/report").rglob("*.py"):
        for name in _imports(path):
            assert not name.startswith("research") or re.match(allowed, name), f"{path}: {name}"


def test_experiments_share_the_command_line_and_diagnose_only():
    for path in (ROOT / "experiments").rglob("*.py"):
        own = path.relative_to(ROOT / "experiments").with_suffix("").parts[0]
        if own in ("table", "candor"):  # they stand for all
            continue
        for name in _imports(path):
            match = re.match(r"experiments\.(\w+)", name)
            assert not match or match.group(1) in {own, *FOR_EVERY_EXPERIMENT}, f"{path}: {name}"
