"""launch/run.sh on a small project of its own: install once, refresh when asked, pass things on."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODULE = "import os, sys; print(os.getcwd(), sys.prefix, *sys.argv[1:]); sys.exit(7)\n"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project that needs no packages, with a module and a stand-in for pytest."""
    root = tmp_path_factory.mktemp("project")
    (root / "launch").mkdir()
    (root / "tests").mkdir()
    shutil.copy(ROOT / "launch/run.sh", root / "launch/run.sh")
    for path in ("requirements.txt", "tests/requirements.txt"):
        (root / path).write_text("# nothing\n")
    for name in ("module", "pytest"):
        (root / f"{name}.py").write_text(MODULE)
    return root


def _run(project, *arguments, cwd=None, **environment):
    clean = {k: v for k, v in os.environ.items() if k not in ("CANDOR_JAX", "PYTHONPATH")}
    return subprocess.run(
        [project / "launch/run.sh", *arguments],
        cwd=cwd or project,
        env={**clean, "CANDOR_JAX": "cpu", "PYTHON": sys.executable, **environment},
        capture_output=True,
        text=True,
    )


def test_it_installs_once_and_refreshes_when_the_requirements_change(project, tmp_path):
    first = _run(project, "module", "--a", "b c", cwd=tmp_path)
    assert "installing" in first.stderr
    # The person's folder, the project's environment, the arguments and the exit code are kept.
    assert first.stdout.split() == [str(tmp_path), str(project / ".venv"), "--a", "b", "c"]
    assert first.returncode == 7
    assert "installing" not in _run(project, "module").stderr
    with (project / "requirements.txt").open("a") as file:
        file.write("# changed\n")
    assert "installing" in _run(project, "module").stderr
    assert "installing" not in _run(project, "module").stderr


def test_the_tests_install_their_tools_as_well_and_run_at_the_top(project, tmp_path):
    first = _run(project, "pytest", cwd=tmp_path)
    assert "installing" in first.stderr
    assert first.stdout.split()[0] == str(project)
    assert "installing" not in _run(project, "pytest").stderr
    assert "installing" not in _run(project, "module").stderr


def test_an_install_that_failed_is_tried_again(project):
    before = (project / "requirements.txt").read_text()
    (project / "requirements.txt").write_text("no-such-package-of-candor\n")
    assert _run(project, "module", PIP_NO_INDEX="1").returncode not in (0, 7)
    assert _run(project, "module", PIP_NO_INDEX="1").returncode not in (0, 7)
    (project / "requirements.txt").write_text(before)
    assert _run(project, "module").returncode == 7


def test_a_gpu_asks_for_the_cuda_build(project, tmp_path):
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\necho 'GPU 0: NVIDIA'\n")
    smi.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    asked = _run(project, "module", CANDOR_JAX="", PATH=path, PIP_NO_INDEX="1")
    assert "jax[cuda13]" in asked.stderr
    assert asked.returncode not in (0, 7)


def test_bad_use_is_one_line():
    for arguments, environment, told in (
        ((), {}, "usage: launch/run.sh MODULE"),
        (("module",), {"PYTHON": "no-such-python"}, "no-such-python is missing or older"),
    ):
        done = _run(ROOT, *arguments, **environment)
        assert done.returncode == 2
        assert told in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_the_linters_are_the_same_before_a_commit_and_before_a_change_lands():
    hooks = re.findall("entry: (.*)", (ROOT / ".pre-commit-config.yaml").read_text())
    linters = re.findall(r"^\.venv/bin/.*", (ROOT / ".ci/run").read_text(), re.MULTILINE)
    assert hooks == linters
    assert hooks
