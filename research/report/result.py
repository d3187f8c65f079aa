"""result.json: where it lies and which version of it this code reads.

Its fields are described in `result.schema.json`.
"""

import json
from pathlib import Path

from research.runtime.errors import UserError

FILE = "result.json"
SCHEMA_VERSION = 2


def read(run: Path) -> dict:
    """The contents of a finished run's result.json.

    Raises:
        UserError: there is none, or it was written by another version.
    """
    way_out = "give the folder of a finished run of experiments.diagnose"
    try:
        result = json.loads((run / FILE).read_text())
        version = result["schema_version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError("run", "no result can be read there", way_out, value=run) from error
    if version != SCHEMA_VERSION:
        raise UserError(
            "run",
            f"its result.json is of version {version}, and this code reads {SCHEMA_VERSION}",
            "run experiments.diagnose again",
            value=run,
        )
    return result
