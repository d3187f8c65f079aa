"""The command line itself: what cannot be parsed is one line that names the option."""

import errno
import io
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Literal

import pytest

from experiments import cli
from research.runtime.errors import UserError


@dataclass(frozen=True)
class Config:
    """An experiment's."""

    data: str = "digits"
    epochs: int | None = None
    rate: float = 0.5
    preset: Literal["quick", "full"] = "quick"
    train: Literal["head", "all"] | None = None
    flip: bool = False


def test_options_are_read():
    config = cli.parse(Config, ["--epochs", "3", "--train", "head", "--flip"])
    assert config == Config(epochs=3, train="head", flip=True)
    assert cli.parse(Config, []) == Config()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--epocs 3", "Unrecognized options: --epocs, 3. Did you mean --epochs?"),
        ("--zzzzzz 3", "Unrecognized options: --zzzzzz, 3. --help lists"),
        ("stray", "Unrecognized options: stray."),
        ("--flip yes", "Unrecognized options: yes."),
        ("--epochs many", "--epochs many: not a whole number."),
        ("--epochs 1.5", "--epochs 1.5: not a whole number."),
        ("--rate fast", "--rate fast: not a number."),
        ("--rate", "Missing value for argument '--rate'"),
        ("--preset slow", "invalid choice 'slow' for argument '--preset'"),
        ("--train none", "invalid choice 'none' for argument '--train'"),
    ],
)
@pytest.mark.parametrize("columns", ["20", "200"])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_what_cannot_be_parsed(monkeypatch, capsys, arguments, words, columns, encoding):
    """The parser wraps its message to the terminal, and draws lines as the terminal can."""
    monkeypatch.setenv("COLUMNS", columns)
    stdout = io.TextIOWrapper(io.BytesIO(), encoding)
    with redirect_stdout(stdout), pytest.raises(UserError) as caught:
        cli.parse(Config, arguments.split())
    message = str(caught.value)
    assert words in message
    assert message.endswith("--help lists the options")
    assert "None" not in message
    assert "\n" not in message
    assert capsys.readouterr() == ("", "")


def test_help_is_no_error(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.parse(Config, ["--help"])
    assert stop.value.code == 0
    assert "--epochs" in capsys.readouterr().out


def stop_of(monkeypatch, capsys, error) -> tuple[int, str]:
    """Exit code and stderr of a command whose `main` raises."""

    def main(config):
        raise error

    monkeypatch.setattr("sys.argv", ["command"])
    with pytest.raises(SystemExit) as stop:
        cli.run(main, Config)
    return stop.value.code, capsys.readouterr().err


def test_errors_of_the_user_and_of_the_disk_are_one_line(monkeypatch, capsys):
    stopped = stop_of(monkeypatch, capsys, UserError(None, "--data a\nb: no such folder"))
    assert stopped == (2, "error: --data a b: no such folder\n")
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.ENOTDIR):
        code, line = stop_of(monkeypatch, capsys, OSError(number, "Bad Luck", "/runs/result.json"))
        assert code == 2
        assert line.startswith("error: /runs/result.json: Bad Luck; ")
        assert "--out" in line
        assert line.count("\n") == 1
    assert stop_of(monkeypatch, capsys, KeyboardInterrupt())[0] == 130


def test_our_own_mistakes_are_not_hidden(monkeypatch):
    monkeypatch.setattr("sys.argv", ["command"])
    for error in (ValueError("ours"), FileNotFoundError(errno.ENOENT, "ours")):

        def main(config, error=error):
            raise error

        with pytest.raises(type(error), match="ours"):
            cli.run(main, Config)
