"""A run's folder: one configuration, written whole or not at all.

The same configuration goes on in its folder. Another one is an error, or with `overwrite` it is
made beside the old run and put in its place when it is whole. Bad input leaves what was there as it
was.
"""

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from research.runtime.errors import UserError
from research.runtime.files import write_json

PACKAGES = ("jax", "flax", "optax", "orbax-checkpoint", "numpy", "keras", "tensorflow-datasets")


def fingerprint(options: dict) -> str:
    """Eight hexadecimal digits that differ when an option differs."""
    return hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()[:8]


def commit() -> str | None:
    """The commit of the running code ("+changes" if edited since); None outside git."""
    root = Path(__file__).parent
    git = ["git", "-C", str(root)]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True)
        changes = subprocess.run(
            [*git, "status", "--porcelain", "--untracked-files=no"], capture_output=True, text=True
        )
    except FileNotFoundError:  # no git on this machine
        return None
    if head.returncode:
        return None
    return head.stdout.strip() + ("+changes" if changes.stdout.strip() else "")


def versions() -> dict[str, str]:
    """Versions of the packages that numbers depend on."""
    return {name: version(name) for name in PACKAGES}


def _options(directory: Path) -> dict | None:
    """The configuration of the run in a folder; None where there is no run."""
    try:
        run = json.loads((directory / "config.json").read_text())
        return run["options"] if "versions" in run else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write_config(directory: Path, options: dict) -> None:
    run = {"options": options, "versions": versions(), "commit": commit()}
    write_json(directory / "config.json", run)


def _has_trained(directory: Path) -> bool:
    """Whether some training has a finished checkpoint: an unfinished one is not all digits."""
    return any(path.name.isdigit() for path in directory.glob("**/checkpoints/*"))


def _empty(directory: Path) -> None:
    for path in directory.glob("*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _unmake(directory: Path, made: list[Path]) -> None:
    """Empties the folder of a run and removes the folders `made` for it, innermost first."""
    was_saving = (directory / "checkpoints").exists()
    _empty(directory)
    if was_saving:
        # As soon as there is room, Orbax's C++ part writes on at the checkpoint that failed.
        time.sleep(1)
        _empty(directory)
    with contextlib.suppress(OSError):  # another run may have come to use one of them
        for folder in made:
            folder.rmdir()


def _find_place(out: Path, options: dict, overwrite: bool) -> Path:
    """The folder to work in: `out`, or one beside it where an earlier run is to be replaced."""
    if not os.path.lexists(out) or (out.is_dir() and not any(out.iterdir())):
        return out
    earlier = _options(out)
    if earlier is None:
        problem = "exists and is not a run of Candor"
        raise UserError("out", problem, "choose another folder", value=out)
    if earlier == options:
        return out
    if not overwrite:
        raise UserError(
            "out",
            "holds a run of a different configuration",
            "choose another folder, or give `overwrite` to replace it",
            value=out,
        )
    real = Path(os.path.realpath(out))
    beside = real.with_name(f".{real.name}.new")
    if _options(beside) != options:
        shutil.rmtree(beside, ignore_errors=True)
    return beside


@contextlib.contextmanager
def open_run(out: Path, options: dict, overwrite: bool = False) -> Iterator[Path]:
    """Makes or re-enters the folder of a run, and writes `config.json`.

    A run that bad input or a full disk ends before its first checkpoint leaves no trace. A run that
    was killed stays: the same configuration goes on with it.

    Args:
        out: the folder.
        options: everything that decides the run's numbers, JSON-able.
        overwrite: whether an earlier run of another configuration is replaced when this one is
            done.

    Yields:
        The folder to write to; at the end it becomes `out`.

    Raises:
        UserError: the folder holds something else.
        OSError: the folder cannot be written to.
    """
    directory = _find_place(out, options, overwrite)
    is_new = _options(directory) is None
    made = [folder for folder in (directory, *directory.parents) if not folder.exists()]
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if is_new:
            _write_config(directory, options)
        yield directory
        _write_config(directory, options)  # the versions and the commit of what is there now
    except (UserError, OSError) as error:
        if isinstance(error, OSError):  # Python names the file in open, but not in write
            error.filename = error.filename or str(out)
        if is_new and not _has_trained(directory):
            _unmake(directory, made)
        raise
    if directory != out:
        real = Path(os.path.realpath(out))
        replaced = real.with_name(f".{real.name}.replaced")
        shutil.rmtree(replaced, ignore_errors=True)
        real.rename(replaced)
        directory.rename(real)
        shutil.rmtree(replaced)
