"""One trial: what was chosen, trained as `experiments.diagnose` would train it, and its NLL."""

import contextlib
import io
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import optuna
from optuna.trial import FrozenTrial, Trial

from experiments import diagnose
from experiments.tune import result as tune_result
from experiments.tune import space as tune_space
from experiments.tune import study as tune_study
from research.assessment.assess import EVALUATION_BATCH
from research.calibrators.fit import calibrate_in_turn
from research.metrics.scores import scores
from research.models.classifier import Classifier
from research.models.layers import Layer
from research.posteriors.predictive import predictor
from research.runtime.errors import UserError
from research.runtime.run import Run
from research.training.fit import Fitted, Problem, fit
from research.training.recipe import Recipe, calibrators_of


class Task(NamedTuple):
    """What all trials have in common."""

    config: diagnose.Config  # resolved
    recipe: Recipe
    classifier: Classifier
    layers: tuple[Layer, ...]  # those that are trained
    run: Run


def chosen_by(trial: Trial | FrozenTrial) -> dict[str, Any]:
    """What a trial does otherwise than the defaults."""
    has_defaults = trial.user_attrs.get(tune_study.DEFAULTS)
    return {} if has_defaults else tune_space.rounded(trial.params)


def fit_trial(
    task: Task,
    chosen: dict[str, Any],
    directory: Path,
    watch: Callable[[int, float], None] | None = None,
) -> Fitted:
    """Trains what was chosen, as `experiments.diagnose` would, or finds it trained.

    Raises:
        UserError: training diverged.
    """
    training, recipe = tune_space.with_choice(task.config.training, task.recipe, chosen)
    is_head = task.config.network.trainable == "head"
    network = tune_space.network_of(task.classifier, task.layers, chosen, is_head)
    problem, run = Problem(network, task.classifier.inputs), replace(task.run, directory=directory)
    return fit(run.key("train"), recipe, problem, training, run, watch)


def predict(task: Task, fitted: Fitted, split: str) -> np.ndarray:
    """Log-probabilities [S, N, K] of a split."""
    run = predictor(
        fitted.method, task.run.key("draw"), task.run.batch(EVALUATION_BATCH), task.run.mesh
    )
    splits, names = task.classifier.inputs.splits, calibrators_of(task.recipe)
    log_probs = run(fitted.state, splits[split].images)
    if not names:
        return log_probs
    valid = log_probs if split == "valid" else run(fitted.state, splits["valid"].images)
    return calibrate_in_turn(names, valid, splits["valid"].labels)(log_probs)


def run_trial(
    task: Task, claimed: tune_study.Claimed, chosen: dict[str, Any], show: Callable[[str], None]
) -> float | None:
    """One trial's validation NLL; None: it was stopped, or diverged."""
    dataset = task.classifier.inputs
    steps_per_epoch = max(1, dataset.num_train // task.config.training.batch_size)

    def watch(step, nll):
        epoch = -(-step // steps_per_epoch)
        show(f"epoch {epoch}, NLL {nll:.3f}")
        claimed.trial.report(nll, epoch)
        if not claimed.has_defaults and claimed.trial.should_prune():
            raise optuna.TrialPruned

    try:
        with contextlib.redirect_stderr(io.StringIO()):  # one bar for the search is enough
            fitted = fit_trial(task, chosen, claimed.folder, watch)
            valid = scores(predict(task, fitted, "valid"), dataset.valid.labels)
    except optuna.TrialPruned:
        return None
    except UserError as error:
        if "diverged" not in str(error):
            raise
        return None
    nll = float(np.mean(valid.nll))
    return nll if math.isfinite(nll) else None


def compare_on_test(task: Task, study: optuna.Study, directory: Path) -> dict:
    """The defaults and the best on the test split, which has decided nothing.

    Args:
        task: what all trials have in common.
        study: with at least one finished trial.
        directory: the run's folder.
    """
    defaults, best = tune_study.with_defaults(study), tune_study.best(study)
    assert best is not None  # see `study`
    trials = {"best": best}
    if defaults is not None:
        trials = {"defaults": defaults}
        if defaults.number != best.number:
            trials["best"] = best
    log_probs = {}
    for name, trial in trials.items():
        fitted = fit_trial(task, chosen_by(trial), tune_study.folder_of(directory, trial))
        log_probs[name] = predict(task, fitted, "test")
    return tune_result.compare_on_test(
        log_probs, task.classifier.inputs.test.labels, task.config.seed
    )
