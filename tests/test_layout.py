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
