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
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Literal

from experiments import cli
from research.assessment import export
from research.assessment.assess import assess, assess_file
from research.assessment.options import AssessmentOptions
from research.assessment.write import write
from research.data.load import DataOptions
from research.data.predictions import read_predictions
from research.models.network import NetworkOptions
from research.report import terminal
from research.runtime.errors import UserError
from research.runtime.mesh import data_mesh
from research.runtime.options import check_ranges
from research.runtime.run import Run
from research.runtime.run_folder import fingerprint, open_run
from research.training.fit import TrainingOptions

PRESETS = {"quick": {"width": 0.25, "epochs": 15}, "full": {"width": 1.0, "epochs": 100}}
OF_PREDICTIONS = ("label_column", "logits")
WITH_PREDICTIONS = {
    *("predictions", "out", "overwrite", "seed", *OF_PREDICTIONS, "calibrate", "max_error")
}
OF_TRAINING = {"preset", *(f.name for f in fields(TrainingOptions))}
NOT_DECIDING = {"out", "overwrite", "save_seconds"}  # options that no number depends on


@dataclass(frozen=True)
class Images(DataOptions):
    """Which images are loaded."""

    image_size: int | None = None
    """side in pixels; default: the model's own, 224 with `weights`, else the data's"""


@dataclass(frozen=True)
class Network(NetworkOptions):
    """Which network, and which of its weights are trained."""

    width: float | None = None
    """scales VGG16's channels; default: the preset's"""


@dataclass(frozen=True)
class Training(TrainingOptions):
    """How the network is trained."""

    epochs: int | None = None
    """default: the preset's"""
    learning_rate: float | None = None
    """the peak; default: 1e-3, or 1e-4 when all of a trained network is trained further"""


@dataclass(frozen=True)
class Config:
    """How sure may this classifier be?

    Trains or imports a classifier, judges it on images that it has not seen: as it is, with Monte
    Carlo dropout, after temperature scaling. Writes a page: what it claims, what it delivers.
    """

    predictions: Path | None = None
    """predictions of any classifier (.npz or .csv) to judge; no images needed"""
    label_column: str = "label"
    """of a .csv of --predictions: name, or number from 0"""
    logits: bool = False
    """the columns of a .csv of --predictions are logits"""
    out: Path | None = None
    """where to write; default: a folder in runs/ named after the data and these options"""
    overwrite: bool = False
    """replace an earlier run of other options in --out"""
    preset: Literal["quick", "full"] = "quick"
    """quick: a quarter of VGG16's width, 15 epochs; full: all of it, 100 epochs"""
    seed: int = 0
    """decides splits, initial weights, order and noise"""
    images: Images = field(default_factory=Images)
    network: Network = field(default_factory=Network)
    training: Training = field(default_factory=Training)
    assessment: AssessmentOptions = field(default_factory=AssessmentOptions)


def _reject(config: Config, names, problem: str) -> None:
    """Refuses these options where they were given: whoever gives one expects it to do something."""
    defaults = cli.options_of(Config())
    for name, value in cli.options_of(config).items():
        if name in names and value != defaults[name]:
            raise UserError(name, problem, "leave it out")


def check(config: Config) -> None:
    """Refuses options that are out of range, contradict each other or would do nothing.

    Raises:
        UserError: an option is refused.
    """
    network, training, assessment = config.network, config.training, config.assessment
    check_ranges(config, from_0=("seed",))
    if config.seed >= 2**32:
        raise UserError("seed", "give less than 2^32", value=config.seed)
    assessment.check()
    if config.predictions:
        for name in ("model", "weights"):
            if getattr(network, name) is not None:
                raise UserError(None, f"`{name}` and `predictions`: give one of them")
        others = cli.options_of(config).keys() - WITH_PREDICTIONS
        _reject(config, others, "does nothing with `predictions`")
        return
    _reject(config, OF_PREDICTIONS, "goes with `predictions`")
    training.check()
    network.check()
    kind = network.trainable
    if (kind == "none" or network.init) and not assessment.methods:
        problem = "trains nothing without `train` head or all, or `methods`"
        _reject(config, OF_TRAINING, problem)
    if kind != "all" and assessment.budget:
        raise UserError("budget", "all below the head is frozen here", "add `train` all")
    if kind == "head" and (training.flip or training.crop):
        problem = "`flip`, `crop`: a head is trained on fixed features"
        raise UserError(None, problem, "add `train` all")


def resolve(config: Config) -> Config:
    """Fills in the options that were left open, after `check`.

    Raises:
        UserError: an option is refused.
    """
    check(config)
    network, training, preset = config.network, config.training, PRESETS[config.preset]
    is_further = network.trainable == "all" and (network.model or network.weights)
    return replace(
        config,
        network=replace(
            network,
            train=network.trainable,
            width=1.0 if network.weights else network.width or preset["width"],
        ),
        training=replace(
            training,
            epochs=training.epochs or preset["epochs"],
            learning_rate=training.learning_rate or (1e-4 if is_further else 1e-3),
        ),
    )


def main(config: Config) -> None:
    """Judges a classifier and writes the report.

    Raises:
        UserError: bad input; nothing of an earlier run is touched.
    """
    config = resolve(config)
    options = {n: v for n, v in cli.options_of(config).items() if n not in NOT_DECIDING}
    name = Path(os.path.abspath(config.predictions or config.images.data)).stem.replace(":", "-")
    out = config.out or Path("runs") / f"diagnose-{name}-{fingerprint(options)}"
    with open_run(out, options, config.overwrite) as directory:
        if config.predictions:
            file = read_predictions(config.predictions, config.label_column, config.logits)
            name = config.predictions.name
            assessment = assess_file(file, name, config.assessment, config.seed)
        else:
            groups = config.images, config.network, config.training, config.assessment
            assessment = assess(*groups, Run(directory, data_mesh(), config.seed))
        command = "launch/run.sh experiments.diagnose " + shlex.join(sys.argv[1:])
        assessment = replace(assessment, command=command)
        write(assessment, directory)
    print(terminal.summary(assessment.result, str(out / "report.html")))
    if (out / export.FOLDER).exists():
        print(f"Ask it about other images: launch/run.sh experiments.predict --run {out} IMAGES")


if __name__ == "__main__":
    cli.run(main, Config)
