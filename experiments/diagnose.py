"""How sure may this classifier be? From images, a model or predictions to an honest page.

    launch/run.sh experiments.diagnose                                   real handwritten digits
    launch/run.sh experiments.diagnose --data photos/                    train on class folders
    launch/run.sh experiments.diagnose --data photos/ --model my.keras   judge your Keras model
    launch/run.sh experiments.diagnose --predictions probs.csv           judge any predictions

Writes report.html, result.json, predictions.npz and config.json. With nothing given: 1 to 2 minutes
on 2 CPU cores, 95 to 99 % right on the digits' test split. The same command again goes on where it
stopped.
"""

import os
import shlex
import sys
import time
from dataclasses import asdict
from pathlib import Path

from experiments import cli
from experiments.diagnose_options import Config, resolve
from research.assessment import export
from research.assessment.assess import subject_of_images, subject_of_predictions
from research.assessment.predictions import calibrate_predictions
from research.assessment.result import Assessment
from research.assessment.write import write
from research.calibrators import fit as calibrate
from research.report import terminal
from research.runtime.run_folder import fingerprint, open_run


def main(config: Config) -> None:
    """Judges a classifier and writes the report.

    Raises:
        UserError: bad input; nothing of an earlier run is touched.
    """
    started = time.perf_counter()
    config = resolve(config)
    options = {
        name: str(value) if isinstance(value, Path) else value
        for name, value in asdict(config).items()
        if name not in ("out", "overwrite", "save_seconds")
    }
    name = Path(os.path.abspath(config.predictions or config.data)).stem.replace(":", "-")
    out = config.out or Path("runs") / f"diagnose-{name}-{fingerprint(options)}"
    with open_run(out, options, config.overwrite) as directory:
        if config.predictions:
            subject = subject_of_predictions(config)
        else:
            subject = subject_of_images(config, directory)
        judged = subject.judged
        labels = {name: split.labels for name, split in subject.splits.items()}
        # A temperature is always among them.
        wanted = calibrate.default(len(subject.classes))
        if config.calibrate is not None:
            wanted = calibrate.parse(config.calibrate)
        names = tuple(name for name in wanted if name not in judged)
        judged |= calibrate_predictions(judged["point"], names, labels, config.seed)
        assessment = Assessment(
            data=subject.data,
            model=subject.model,
            classes=subject.classes,
            splits=subject.splits,
            predictions=judged,
            collected=subject.observed,
            found=subject.found,
            candidates=subject.cures,
            seed=config.seed,
            max_error=config.max_error,
            seconds=time.perf_counter() - started,
            command="launch/run.sh experiments.diagnose " + shlex.join(sys.argv[1:]),
        )
        write(assessment, directory)
    print(terminal.summary(assessment.result, str(out / "report.html")))
    if (out / export.FOLDER).exists():
        print(f"Ask it about other images: launch/run.sh experiments.predict --run {out} IMAGES")


if __name__ == "__main__":
    cli.run(main, Config)
