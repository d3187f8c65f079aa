"""The contents of a search's result.json."""

import datetime
import importlib.metadata
import shlex
import sys
from functools import partial

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from experiments.tune import study as tune_study
from experiments.tune.space import Search, rounded
from research.metrics.evaluate import TABLE, evaluate
from research.metrics.intervals import Estimate, bootstrap
from research.metrics.scores import scores
from research.runtime.run_folder import commit, versions

SCHEMA_VERSION = 1
METRICS = ("accuracy", "nll", "ece")
FEWEST = 6  # finished trials below which a share of importance would be noise


def compare_on_test(log_probs: dict[str, np.ndarray], labels: np.ndarray, seed: int) -> dict:
    """Accuracy, NLL and ECE of the defaults and the best on the test split, and their difference.

    Args:
        log_probs: the draws' log-probabilities [S, N, K] of "defaults" and of "best"; of one of
            them alone where they are the same.
        labels: the true classes, [N] int.
        seed: of the bootstrap.

    Returns:
        `n`, `metrics` by name and metric, and `change` by metric (best minus defaults, paired;
        empty where there is nothing to compare), each with value, low and high.
    """
    metrics, change = {}, {}
    for name, draws in log_probs.items():
        estimates = evaluate(draws, labels, seed=seed)
        metrics[name] = {metric: estimates[metric]._asdict() for metric in METRICS}
    if len(log_probs) == 2:
        before, after = (scores(log_probs[name], labels) for name in ("defaults", "best"))

        def difference(weights, function):
            return function(after, weights) - function(before, weights)

        paired: dict[str, Estimate] = bootstrap(
            {name: partial(difference, function=TABLE[name].function) for name in METRICS},
            (len(labels),),
            seed=seed,
            replicates=1000,
        )
        change = {name: estimate._asdict() for name, estimate in paired.items()}
    return {"n": len(labels), "metrics": metrics, "change": change}


def importance(study: optuna.Study, seed: int) -> dict[str, float]:
    """The share of the NLL's variance that each option explains (functional ANOVA).

    Hutter et al. 2014: over the trees of a random forest that is fitted to the finished trials. It
    is empty where there are too few of them.
    """
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(complete) < FEWEST:
        return {}
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=seed)
    return optuna.importance.get_param_importances(study, evaluator=evaluator)


def _trial(trial: FrozenTrial) -> dict:
    is_complete, duration = trial.state is TrialState.COMPLETE, trial.duration
    assert duration is not None  # the trial has ended
    nll_by_epoch = trial.intermediate_values
    return {
        "number": trial.number,
        "state": "finished" if is_complete else "stopped early",
        "valid_nll": trial.value if is_complete else None,
        "last_valid_nll": nll_by_epoch[max(nll_by_epoch)] if nll_by_epoch else None,
        "epochs": max(nll_by_epoch, default=0),
        "seconds": duration.total_seconds(),
        "is_defaults": bool(trial.user_attrs.get(tune_study.DEFAULTS)),
        "options": rounded(trial.params),
    }


def describe(
    *,
    study: optuna.Study,
    space: Search,
    data: dict,
    model: dict,
    method: str,
    seed: int,
    command: str,
    test: dict,
) -> dict:
    """The contents of result.json.

    Args:
        study: with at least one finished trial.
        space: the options that were varied.
        data: the part of that name, as `experiments.diagnose` writes it.
        model: likewise.
        method: the recipe that was tuned.
        seed: of the run.
        command: the command of `experiments.diagnose` that uses the best.
        test: of `compare_on_test`.
    """
    trials = [_trial(trial) for trial in tune_study.done(study)]
    lowest = tune_study.best(study)
    assert lowest is not None  # see `study`
    best = _trial(lowest)
    defaults = tune_study.with_defaults(study)
    share = importance(study, seed)
    return {
        "schema_version": SCHEMA_VERSION,
        "command": shlex.join(["launch/run.sh", "experiments.tune", *sys.argv[1:]]),
        "created": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "seconds": sum(trial["seconds"] for trial in trials),
        "seed": seed,
        "commit": commit(),
        "versions": versions() | {"optuna": importlib.metadata.version("optuna")},
        "data": data,
        "model": model,
        "method": method,
        "options": {
            name: {
                "low": distribution.low,  # pyright: ignore[reportAttributeAccessIssue]
                "high": distribution.high,  # pyright: ignore[reportAttributeAccessIssue]
                "default": space.defaults[name],
                "best": best["options"][name],
                "importance": share.get(name),
            }
            for name, distribution in space.space.items()
        },
        "trials": trials,
        "best": best | {"command": command},
        "defaults_valid_nll": defaults and defaults.value,
        "test": test,
    }
