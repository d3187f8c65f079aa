"""Bad input is one line: what is wrong with which option, and the way out."""

import re


def flags(text: str) -> str:
    """A text that names options in backquotes, as a command line says it: options as --flags."""
    return re.sub(r"`(\w+)`", r"--\1", text)


class UserError(Exception):
    """Bad input.

    The library knows options by the names of its parameters. In `problem` and `way_out` it writes
    another option's name in backquotes, as in "give a smaller `batch_size`"; the command line
    writes `--batch_size` there (`as_flags`), and a notebook shows the bare name.
    """

    def __init__(
        self, option: str | None, problem: str, way_out: str = "", *, value: object = None
    ):
        """Says what is wrong.

        Args:
            option: the parameter that holds the bad value; None where no parameter does.
            problem: what is wrong with it.
            way_out: what to do instead.
            value: what was given, where it is short enough to repeat.
        """
        self.option, self.problem, self.way_out, self.value = option, problem, way_out, value
        subject = " ".join(str(p) for p in (option and f"`{option}`", value) if p is not None)
        rest = "; ".join(part for part in (problem, way_out) if part)
        self._marked = ": ".join(part for part in (subject, rest) if part)  # options in backquotes
        super().__init__(re.sub(r"`(\w+)`", r"\1", self._marked))

    def as_flags(self) -> str:
        """The line for a command line, which writes options as flags with two dashes."""
        return flags(self._marked)

    def within(self, part: str) -> "UserError":
        """The same error about one part of the work, such as one of several methods."""
        return type(self)(None, f"{part}: {self._marked}")


class Diverged(UserError):
    """A training's loss became infinite or NaN; other options may train well."""


class Interrupted(Exception):
    """A signal ended the work after everything was saved; the same call goes on from there."""

    def __init__(self, signal_number: int, message: str):
        """Says where the work stopped.

        Args:
            signal_number: of the signal, such as `signal.SIGTERM`.
            message: what was saved, in a person's words.
        """
        self.signal_number = signal_number
        super().__init__(message)
