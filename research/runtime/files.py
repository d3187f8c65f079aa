"""Files are written whole or not at all."""

import contextlib
import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Lets `write` fill a temporary path, then renames it: a kill leaves the old file.

    The folder is made where it is missing.

    Raises:
        OSError: it cannot be written; unlike Python's own it always names the file.
    """
    temporary = path.with_name(f".{path.name}.part{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        os.replace(temporary, path)
    except OSError as error:
        # NumPy's own, of a write cut short, has no number.
        number = error.errno or errno.ENOSPC
        raise OSError(number, os.strerror(number), str(path)) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def write_json(path: Path, value: Any) -> None:
    """Writes JSON, indented, whole; NaN is an error, for no JSON reader need accept it."""
    text = json.dumps(value, indent=1, allow_nan=False) + "\n"
    write_whole(path, lambda part: part.write_text(text))
