"""How every experiment starts: a typed config is the command line, bad input is one line.

Exit codes: 0 done; 2 bad input, said in one line on stderr; 130 or 143 stopped by the user or the
scheduler, after saving.
"""

import contextlib
import io
import re
import sys
from collections.abc import Callable
from typing import TypeVar

import tyro

from research.errors import UserError

Config = TypeVar("Config")


def parse(config_type: type[Config], arguments: list[str] | None = None) -> Config:
    """Reads the command line into a config.

    Raises:
        UserError: an unknown option, or a value that does not fit.
        SystemExit: 0 after `--help`.
    """
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            return tyro.cli(config_type, args=arguments, use_underscores=True)
    except SystemExit as stop:
        if stop.code == 0:
            raise
        # tyro draws a box: what is wrong stands above its first rule, what to do below.
        lines = re.sub(r"[╭╮╰╯│]", "", errors.getvalue()).splitlines()[1:-1]
        text = " ".join(" ".join(lines).split())
        what, *advice = re.split(r" ?─+ ?", text)
        hint = advice[0] if advice and advice[0].startswith("Perhaps") else ""
        name = re.search(r"--\S+", hint)
        maybe = f" Did you mean {name.group()}?" if name else ""
        raise UserError(f"{what.rstrip('.')}.{maybe} --help lists the options") from None


def run(main: Callable[[Config], None], config_type: type[Config]) -> None:
    """Parses, runs and turns the user's errors into one line and exit code 2."""
    try:
        main(parse(config_type))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("stopped: the same command goes on where it was", file=sys.stderr)
        sys.exit(130)
