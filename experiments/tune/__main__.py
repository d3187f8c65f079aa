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

import math
import sys
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal

import optuna
from tqdm import tqdm

from experiments import cli, diagnose_options
from experiments.tune import page
from experiments.tune import result as tune_result
from experiments.tune import space as tune_space
from experiments.tune import study as tune_study
from experiments.tune import trial as tune_trial
from experiments.tune.space import Search
from experiments.tune.trial import Task, chosen_by
from research.assessment.assess import get_classifier
from research.assessment.describe import describe_data, describe_model
from research.runtime.errors import Interrupted, UserError
from research.runtime.mesh import check_batch_size, data_mesh
from research.runtime.run import Run
from research.runtime.run_folder import fingerprint, open_run
from research.training.recipe import Recipe, parse

FREE = ("out", "overwrite", "trials", "minutes")  # may differ when a search goes on


@dataclass(frozen=True)
class Config:
    """Which options suit these images?

    Varies learning rate, weight decay, dropout, the head's width and the method's own options, and
    keeps what has the lowest negative log-likelihood on the validation split.
    """

    data: str = "digits"
    """digits, tfds:NAME, a folder of class folders (or of train/valid/test folders), or an .npz"""
    model: Path | None = None
    """your own saved Keras model (.keras or .h5); its head, or all of it, is trained further"""
    weights: str | None = None
    """ImageNet weights to start from: imagenet, or a .h5 or .safetensors file"""
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

    train: Literal["head", "all"] | None = None
    """which weights to train; default: head with --model or --weights, else all"""
    head: Literal["published", "asker", "cifar"] | None = None
    """VGG16's head; default: asker from 128 pixels up, else cifar"""
    width: float | None = None
    """scales VGG16's channels; default: the preset's"""
    image_size: int | None = None
    """side in pixels; default: the model's own, 224 with --weights, else the data's"""
    preprocess: Literal["caffe", "unit", "symmetric", "torch", "raw"] | None = None
    """what --model wants done to the pixels; default: what its file says, or fits best"""
    limit: int | None = None
    """at most so many images in each split"""
    data_dir: str | None = None
    """where TFDS sets lie; default: TFDS_DATA_DIR"""
    skip_bad_images: bool = False
    """go on without images that cannot be read"""
    memory_gb: float = 4.0
    """decoded images beyond this are streamed"""
    epochs: int | None = None
    """of a trial; default: the preset's"""
    batch_size: int = 32
    """images a step"""
    optimizer: Literal["adam", "sgd"] = "adam"
    """adam (decoupled weight decay), or sgd with momentum"""


def told(config: Config) -> diagnose_options.Config:
    """The same for `experiments.diagnose`, the method left out."""
    shared = {f.name for f in fields(diagnose_options.Config)} & {f.name for f in fields(Config)}
    options = {name: getattr(config, name) for name in shared - {"out", "overwrite", "methods"}}
    if config.model and not config.train:
        options["train"] = "head"
    return diagnose_options.Config(**options)


def check(config: Config) -> tuple[diagnose_options.Config, Recipe]:
    """What to train, and how, resolved.

    Raises:
        UserError: options that do not go together, or are out of range.
    """
    if config.trials < 1:
        raise UserError(f"--trials {config.trials}: give 1 or more")
    if config.minutes is not None and not 0 < config.minutes < math.inf:
        raise UserError(f"--minutes {config.minutes}: give a number above 0")
    recipes = parse(config.methods)
    if len(recipes) != 1:
        raise UserError(f"--methods {config.methods}: give one method; each has its own best")
    return diagnose_options.resolve(told(config)), recipes[0]


def search(task: Task, config: Config, study: optuna.Study, space: Search, directory: Path) -> None:
    """Runs trials until all have been claimed, or the time is over."""
    started = time.monotonic()
    first = len(tune_study.done(study))
    bar = tqdm(total=config.trials, initial=first, desc="tuning", unit="trial", disable=None)
    with bar:
        while config.minutes is None or time.monotonic() - started < 60 * config.minutes:
            arguments = study, directory, *space, config.trials, config.seed
            with tune_study.claim(*arguments) as claimed:
                if claimed is None:
                    break
                chosen = chosen_by(claimed.trial)
                number = claimed.trial.number
                value = tune_trial.run_trial(
                    task, claimed, chosen, lambda words, n=number: bar.set_postfix_str(words)
                )
                tune_study.settle(study, directory, claimed.trial, value)
            ended = len(tune_study.done(study))
            bar.update(ended - bar.n)
            if bar.disable:
                each = (time.monotonic() - started) / max(1, ended - first)
                left = each * max(0, config.trials - ended)
                said = "stopped early" if value is None else f"validation NLL {value:.4f}"
                best = tune_study.best(study)
                lowest = f" (best {best.value:.4f})" if best else ""
                line = f"trial {ended}/{config.trials}  {said}{lowest}  {left:.0f} s left"
                print(line, file=sys.stderr)


def main(config: Config) -> None:
    """Searches, judges the best against the defaults, and writes the page.

    Raises:
        UserError: bad input; nothing of an earlier run is touched.
    """
    resolved, recipe = check(config)
    options = {
        name: str(value) if isinstance(value, Path) else value
        for name, value in asdict(config).items()
        if name not in FREE
    }
    subject = Path(config.data).absolute().stem.replace(":", "-")
    out = config.out or Path("runs") / f"tune-{subject}-{fingerprint(options)}"
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with open_run(out, options, config.overwrite) as directory:
        run = Run(directory, data_mesh(), config.seed)
        check_batch_size(resolved.batch_size, run.mesh)
        with tune_study.only_one(directory):
            classifier, dataset = get_classifier(resolved, run)
            study = tune_study.open_study(directory, resolved.epochs)
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
        if tune_study.best(study) is None:
            raise UserError(f"--trials {config.trials}: none was trained to its end; give more")
        result = tune_result.describe(
            study=study,
            space=space,
            data=describe_data(dataset),
            model=describe_model(classifier, None),
            method=str(recipe),
            seed=config.seed,
            command=tune_space.command(told(config), recipe, chosen_by(tune_study.best(study))),
            test=tune_trial.judge(task, study, directory),
        )
        page.write(directory, result)
    print(page.summary(result, str(out / "tune.html")))


if __name__ == "__main__":
    cli.run(main, Config)
