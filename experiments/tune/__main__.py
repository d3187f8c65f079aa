"""Which options suit these images? Searched on the validation split, judged once on the test split.

    launch/run.sh experiments.tune --data digits --trials 12
    launch/run.sh experiments.tune --data photos/ --model my.keras --methods bayes_by_backprop
    launch/run.sh experiments.tune --data photos/ --weights imagenet --trials 60 --minutes 30

Optuna (Akiba et al. 2019) proposes with a tree-structured Parzen estimator (Bergstra et al. 2011)
and stops a trial whose validation NLL, a third of the way or later, is worse than the median of the
others' there. The first trial is the defaults, so the best found is never worse than they are on
the validation split.

Writes tune.html, result.json and best.json, which holds the command of `experiments.diagnose` that
uses the best. The same command, once more or on several machines that share --out, adds to one
search until there are --trials in all; more of them, given later, go on from there. A trial costs
one training of `experiments.diagnose`, and less where it is stopped early.
"""

import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import optuna
from tqdm import tqdm

from experiments import cli, diagnose
from experiments.tune import page
from experiments.tune import result as tune_result
from experiments.tune import space as tune_space
from experiments.tune import study as tune_study
from experiments.tune import trial as tune_trial
from experiments.tune.space import Search
from experiments.tune.trial import Task, chosen_by
from research.assessment.describe import describe_data, describe_model
from research.models.network import get_classifier
from research.runtime.errors import Interrupted, UserError
from research.runtime.mesh import check_batch_size, data_mesh
from research.runtime.options import check_ranges
from research.runtime.run import Run
from research.runtime.run_folder import fingerprint, open_run
from research.training.recipe import Recipe, parse

FREE = ("out", "overwrite", "trials", "minutes")  # may differ when a search goes on


@cli.fixed("classes")
@dataclass(frozen=True)
class Images(diagnose.Images):
    """Which images are loaded."""


@cli.fixed("init", "bfloat16")
@dataclass(frozen=True)
class Network(diagnose.Network):
    """Which network, and which of its weights are trained."""

    model: Path | None = None
    """your own saved Keras model (.keras or .h5); its head, or all of it, is trained further"""
    train: Literal["head", "all"] | None = None
    """which weights to train; default: head with `model` or `weights`, else all"""


@cli.fixed(
    *("learning_rate", "momentum", "weight_decay", "schedule", "warmup_epochs"),
    *("patience", "save_seconds", "flip", "crop"),
)
@dataclass(frozen=True)
class Training(diagnose.Training):
    """How each trial is trained, as far as it is not searched."""

    epochs: int | None = None
    """of a trial; default: the preset's"""


@dataclass(frozen=True)
class Config:
    """Which options suit these images?

    Varies learning rate, weight decay, dropout, the head's width and the method's own options, and
    keeps what has the lowest negative log-likelihood on the validation split.
    """

    methods: str = "point"
    """the method to tune, such as bayes_by_backprop(estimator=local); what it is told is fixed"""
    trials: int = 30
    """how many to try, over all processes and restarts"""
    minutes: float | None = None
    """begin no other trial after so long; default: no limit"""
    out: Path | None = None
    """where to write; default: a folder in runs/ named after the data and these options"""
    overwrite: bool = False
    """replace an earlier run of other options in --out"""
    preset: Literal["quick", "full"] = "quick"
    """quick: a quarter of VGG16's width, 15 epochs; full: all of it, 100 epochs"""
    seed: int = 0
    """decides splits, initial weights, order, noise and what is tried"""
    images: Images = field(default_factory=Images)
    network: Network = field(default_factory=Network)
    training: Training = field(default_factory=Training)


def diagnose_config(config: Config) -> diagnose.Config:
    """The same options for `experiments.diagnose`, without the method."""
    network = config.network
    if network.model and not network.train:
        network = replace(network, train="head")
    return diagnose.Config(
        preset=config.preset,
        seed=config.seed,
        images=diagnose.Images(**vars(config.images)),
        network=diagnose.Network(**vars(network)),
        training=diagnose.Training(**vars(config.training)),
    )


def check(config: Config) -> tuple[diagnose.Config, Recipe]:
    """What is trained, and how, with nothing left open.

    Raises:
        UserError: options that do not go together, or are out of range.
    """
    if config.trials < 1:
        raise UserError("trials", "give 1 or more", value=config.trials)
    check_ranges(config, above_0=("minutes",))
    recipes = parse(config.methods)
    if len(recipes) != 1:
        problem = "give one method; each has its own best"
        raise UserError("methods", problem, value=config.methods)
    return diagnose.resolve(diagnose_config(config)), recipes[0]


def search(task: Task, config: Config, study: optuna.Study, space: Search, directory: Path) -> None:
    """Runs trials until all have been claimed, or the time is over."""
    started = time.monotonic()
    first = len(tune_study.done(study))
    bar = tqdm(total=config.trials, initial=first, desc="tuning", unit="trial", disable=None)
    with bar:
        while config.minutes is None or time.monotonic() - started < 60 * config.minutes:
            arguments = (study, directory, space.space, space.defaults, config.trials, config.seed)
            with tune_study.claim(*arguments) as claimed:
                if claimed is None:
                    break
                chosen = chosen_by(claimed.trial)
                value = tune_trial.run_trial(task, claimed, chosen, bar.set_postfix_str)
                tune_study.settle(study, directory, claimed.trial, value)
            ended = len(tune_study.done(study))
            bar.update(ended - bar.n)
            if bar.disable:
                seconds = (time.monotonic() - started) / max(1, ended - first)
                left = seconds * max(0, config.trials - ended)
                outcome = "stopped early" if value is None else f"validation NLL {value:.4f}"
                best = tune_study.best(study)
                lowest = f" (best {best.value:.4f})" if best else ""
                line = f"trial {ended}/{config.trials}  {outcome}{lowest}  {left:.0f} s left"
                print(line, file=sys.stderr)


def main(config: Config) -> None:
    """Searches, judges the best against the defaults, and writes the page.

    Raises:
        UserError: bad input; nothing of an earlier run is touched.
    """
    resolved, recipe = check(config)
    options = {n: v for n, v in cli.options_of(config).items() if n not in FREE}
    subject = Path(config.images.data).absolute().stem.replace(":", "-")
    out = config.out or Path("runs") / f"tune-{subject}-{fingerprint(options)}"
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with open_run(out, options, config.overwrite) as directory:
        run = Run(directory, data_mesh(), config.seed)
        check_batch_size(resolved.training.batch_size, run.mesh)
        with tune_study.only_one(directory):
            classifier, dataset = get_classifier(resolved.images, resolved.network, run)
            assert resolved.training.epochs is not None  # nothing is left open
            study = tune_study.open_study(directory, resolved.training.epochs)
        layers = tune_space.layers_of(resolved, classifier, dataset.test.images.shape[1])
        space = tune_space.search_of(resolved, recipe, classifier, layers)
        task = Task(resolved, recipe, classifier, layers, run)
        try:
            search(task, config, study, space, directory)
        except Interrupted as stop:
            message = "stopped: the same command goes on where it was"
            raise Interrupted(stop.signal_number, message) from stop
        if others := tune_study.running(study, directory):
            print(f"{len(others)} of the trials still run elsewhere: that process writes the page")
            return
        if (best := tune_study.best(study)) is None:
            problem = "none was trained to its end"
            raise UserError("trials", problem, "give more", value=config.trials)
        chosen = chosen_by(best)
        result = tune_result.describe(
            study=study,
            space=space,
            data=describe_data(dataset),
            model=describe_model(classifier, None),
            method=str(recipe),
            seed=config.seed,
            command=tune_space.command(diagnose_config(config), recipe, chosen),
            test=tune_trial.compare_on_test(task, study, directory),
        )
        page.write(directory, result)
    print(page.summary(result, str(out / "tune.html")))


if __name__ == "__main__":
    cli.run(main, Config)
