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
from research.assessment import export as mended
from research.assessment.assess import Subject, subject_of_images, subject_of_predictions
from research.assessment.predictions import calibrate_predictions
from research.assessment.write import write_report
from research.calibrators import fit as calibrate
from research.report import terminal
from research.report.reading import recommended
from research.runtime.run_folder import fingerprint, open_run


def keep_recommended(config: Config, directory: Path, subject: Subject, result: dict) -> None:
    """Keeps what the report recommends, ready for `experiments.predict`."""
    name = recommended(result)
    method = result["methods"][name]
    abstention = method["decisions"] and method["decisions"]["abstention"]["chosen"]
    cure = subject.cures.get(name, subject.cures["point"])  # a calibrator is fitted to the latter
    predictions, labels = subject.judged[name], subject.splits["valid"].labels
    calibration = None
    if predictions.calibrators:
        fitted_to = predictions.uncalibrated, labels
        calibration = mended.Calibration(predictions.calibrators, *fitted_to)
    mended.save(
        directory,
        cure.classifier,
        cure.fitted,
        title=method["title"],
        classes=tuple(result["data"]["classes"]),
        image_size=result["data"]["image_size"],
        bfloat16=config.bfloat16,
        seed=config.seed,
        refusal=abstention and {name: abstention[name] for name in ("threshold", "bound")},
        calibration=calibration,
    )


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
        result = write_report(
            directory,
            data=subject.data,
            model=subject.model,
            splits=subject.splits,
            classes=subject.classes,
            judged=judged,
            found=subject.found,
            observed=subject.observed,
            cures=subject.cures,
            seed=config.seed,
            max_error=config.max_error,
            seconds=time.perf_counter() - started,
            command="launch/run.sh experiments.diagnose " + shlex.join(sys.argv[1:]),
        )
        if subject.cures:
            keep_recommended(config, directory, subject, result)
    print(terminal.summary(result, str(out / "report.html")))
    if (out / mended.FOLDER).exists():
        print(f"Ask it about other images: launch/run.sh experiments.predict --run {out} IMAGES")


if __name__ == "__main__":
    cli.run(main, Config)
