"""How every experiment starts: a typed config is the command line, bad input is one line.

Exit codes: 0 done; 2 bad input, said in one line on stderr; 130 or 143 stopped by the user or the
scheduler, after saving.
"""

import contextlib
import errno
import io
import re
import sys
from collections.abc import Callable
from typing import TypeVar

import tyro

from research.runtime.errors import Interrupted, UserError

Config = TypeVar("Config")
# What the disk says that no program can mend.
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NOT_ALLOWED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY}
_NO_FOLDER = {errno.ENOTDIR, errno.ENAMETOOLONG}


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
        # tyro draws a box, in ASCII where it must: a title, what is wrong, a rule, what to do.
        lines = re.sub(r"[╭╮╰╯│]", "", errors.getvalue()).splitlines()[1:]
        text = " ".join(" ".join(lines).split())
        what, *advice = [part.strip() for part in re.split(r"[─-]{3,}", text) if part.strip()]
        # None is what leaving an option out means.
        what = re.sub(r"'None', |, 'None'", "", what.rstrip("."))
        number = re.fullmatch(r"Error parsing (--\w+): .*(int|float).*?: '(.*)'", what)
        if number:
            name, kind, value = number.groups()
            what = f"{name} {value}: not a {'whole ' if kind == 'int' else ''}number"
        hint = advice[0] if advice and advice[0].startswith("Perhaps") else ""
        name = re.search(r"--\S+", hint)
        maybe = f" Did you mean {name.group()}?" if name else ""
        raise UserError(f"{what}.{maybe} --help lists the options") from None


def run(main: Callable[[Config], None], config_type: type[Config]) -> None:
    """Parses, runs and turns the user's errors, and the disk's, into one line and exit code 2."""
    sys.stdout.reconfigure(errors="backslashreplace")  # file names need not be text
    try:
        main(parse(config_type))
    except UserError as error:
        _stop(error.as_flags())
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        sys.exit(128 + stop.signal_number)
    except OSError as error:
        if error.errno not in _FULL | _NOT_ALLOWED | _NO_FOLDER:
            raise
        way_out = "make room or give permission there, or choose another --out"
        _stop(f"{error.filename}: {error.strerror}; {way_out}")
    except KeyboardInterrupt:
        print("stopped: the same command goes on where it was", file=sys.stderr)
        sys.exit(130)


def _stop(message: str) -> None:
    print("error:", " ".join(message.splitlines()), file=sys.stderr)
    sys.exit(2)
