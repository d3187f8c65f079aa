"""How every experiment starts: a typed config is the command line, bad input is one line.

A field of a config is an option, or a dataclass that groups options; the flags of a group have no
prefix. Exit codes: 0 done; 2 bad input, said in one line on stderr; 130 or 143 stopped by the user
or the scheduler, after saving.
"""

import contextlib
import errno
import io
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import tyro

from research.runtime.errors import Interrupted, UserError

Config = TypeVar("Config")
# Errors of the disk that no program can repair.
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NOT_ALLOWED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY}
_NO_FOLDER = {errno.ENOTDIR, errno.ENAMETOOLONG}


def fixed(*names: str) -> Callable[[type], type]:
    """A class decorator: these options of a group keep their defaults and are no flags.

    A command that takes only some options of a group inherits from it and names the others here.
    """

    def decorate(group: type) -> type:
        types = get_type_hints(group, include_extras=True)
        group.__annotations__ |= {name: tyro.conf.Fixed[types[name]] for name in names}
        group.fixed_options = frozenset(names)
        return group

    return decorate


def options_of(config: Any) -> dict[str, Any]:
    """All options of a config by name, those of its groups among them.

    Args:
        config: a config or a group of options.

    Returns:
        The options in JSON's types; a path is its text.
    """
    return dict(_options(config))


def _options(config: Any) -> Iterator[tuple[str, Any]]:
    for field in fields(config):
        value = getattr(config, field.name)
        if is_dataclass(value):
            yield from _options(value)
        elif field.name not in getattr(config, "fixed_options", ()):
            yield field.name, str(value) if isinstance(value, Path) else value


class _Flags:
    """A stream on which an option in backquotes appears as a flag, which is as wide."""

    def __init__(self, stream):
        self._stream = stream

    def __getattr__(self, name):
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        return self._stream.write(re.sub(r"`(\w+)`", r"--\1", text))

    def flush(self) -> None:
        self._stream.flush()


def parse(config_type: type[Config], arguments: list[str] | None = None) -> Config:
    """Reads the command line into a config.

    Raises:
        UserError: an unknown option, or a value that does not fit.
        SystemExit: 0 after `--help`.
    """
    errors = io.StringIO()
    flat = tyro.conf.OmitArgPrefixes[tyro.conf.SuppressFixed[config_type]]
    try:
        with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(_Flags(sys.stdout)):
            return tyro.cli(flat, args=arguments, use_underscores=True)
    except SystemExit as stop:
        if stop.code == 0:
            raise
        raise UserError(None, _explain(errors.getvalue())) from None


def _explain(box: str) -> str:
    """One line from the box that tyro draws: a title, what is wrong, a rule, what to do."""
    lines = re.sub(r"[╭╮╰╯│]", "", box).splitlines()[1:]  # in ASCII where a terminal needs it
    text = " ".join(" ".join(lines).split())
    what, *advice = [part.strip() for part in re.split(r"[─-]{3,}", text) if part.strip()]
    # An option is None where it is left out; nobody has to write it.
    what = re.sub(r"'None', |, 'None'", "", what.rstrip("."))
    number = re.fullmatch(r"Error parsing (--\w+): .*(int|float).*?: '(.*)'", what)
    if number:
        name, kind, value = number.groups()
        what = f"{name} {value}: not a {'whole ' if kind == 'int' else ''}number"
    hint = advice[0] if advice and advice[0].startswith("Perhaps") else ""
    name = re.search(r"--\S+", hint)
    maybe = f" Did you mean {name.group()}?" if name else ""
    return f"{what}.{maybe} --help lists the options"


def run(main: Callable[[Config], None], config_type: type[Config]) -> None:
    """Parses, runs and turns the user's errors, and the disk's, into one line and exit code 2."""
    if isinstance(sys.stdout, io.TextIOWrapper):
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
