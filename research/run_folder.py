"""A run's folder: one configuration, written whole or not at all.

The same configuration goes on in its folder; another one is refused, or with `overwrite` put in its
place, and bad input leaves what was there as it was.
"""

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from research.errors import UserError

PACKAGES = ("jax", "flax", "optax", "orbax-checkpoint", "numpy", "keras", "tensorflow-datasets")


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Lets `write` fill a temporary path, then renames it: a kill leaves the old file."""
    temporary = path.with_name(f".{path.name}.part{path.suffix}")
    try:
        write(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Writes JSON, indented, whole; NaN is an error, for no JSON reader need accept it."""
    text = json.dumps(value, indent=1, allow_nan=False) + "\n"
    write_whole(path, lambda part: part.write_text(text))


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


@contextlib.contextmanager
def open_run(out: Path, options: dict, overwrite: bool = False) -> Iterator[Path]:
    """Makes or re-enters the folder of a run and writes `config.json`.

    Args:
        out: the folder.
        options: everything that decides the run's numbers, JSON-able.
        overwrite: replace an earlier run of another configuration.

    Raises:
        UserError: the folder holds something else, or cannot be written to.
    """
    config_path = out / "config.json"
    replaced = out.with_name(f".{out.name}.replaced")
    earlier = None
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        if not out.is_dir() or not config_path.is_file():
            raise UserError(
                f"--out {out}: exists and is not a run of Candor; choose another folder"
            )
        if json.loads(config_path.read_text())["options"] != options:
            if not overwrite:
                raise UserError(
                    f"--out {out}: holds a run of a different configuration; "
                    "choose another folder, or give --overwrite to replace it"
                )
            earlier = replaced
            shutil.rmtree(earlier, ignore_errors=True)
            out.rename(earlier)
    is_new = not config_path.exists()
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_json(config_path, {"options": options, "versions": versions(), "commit": commit()})
    except OSError as error:
        raise UserError(
            f"--out {out}: cannot write there ({error.strerror}); choose another folder"
        ) from error
    try:
        yield out
    except BaseException as error:
        # Bad input leaves things as they were; a run that has trained keeps its checkpoints.
        if isinstance(error, UserError) and is_new and not (out / "checkpoints").exists():
            shutil.rmtree(out)
            if earlier is not None:
                earlier.rename(out)
        raise
    shutil.rmtree(replaced, ignore_errors=True)
