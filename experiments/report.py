"""The page of a finished run, made again from its numbers.

    launch/run.sh experiments.report runs/diagnose-digits-0a1b2c3d

Reads result.json and pictures.npz in the folder of a run of `experiments.diagnose` and writes
report.html there. Nothing is trained or predicted: it takes seconds, and the same code writes the
same page.
"""

from dataclasses import dataclass
from pathlib import Path

import tyro

from experiments import cli
from research.report import page, pictures, result
from research.runtime.errors import UserError


@dataclass(frozen=True)
class Config:
    """Writes report.html of a finished run again."""

    run: tyro.conf.Positional[Path]
    """folder of a finished run of experiments.diagnose"""


def main(config: Config) -> None:
    """Reads, renders, writes.

    Raises:
        UserError: the folder holds no finished run, or one of another version.
    """
    contents = result.read(config.run)
    try:
        images = pictures.load(config.run)
    except (OSError, ValueError) as error:
        raise UserError(
            "run",
            f"{pictures.FILE} cannot be read",
            "run experiments.diagnose again",
            value=config.run,
        ) from error
    page.write(config.run, page.render(contents, images))
    print(f"The whole report: {config.run / page.FILE}")


if __name__ == "__main__":
    cli.run(main, Config)
