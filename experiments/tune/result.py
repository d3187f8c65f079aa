"""What a search found, as result.json, best.json, one page and a few lines of text."""

import datetime
import importlib.metadata
import shlex
import sys
from functools import partial
from pathlib import Path

import jinja2
import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from experiments.tune import pictures as tune_pictures
from experiments.tune import study as tune_study
from experiments.tune.space import Search, rounded
from research.metrics import format
from research.metrics.evaluate import TABLE, evaluate
from research.metrics.intervals import Estimate, bootstrap
from research.metrics.scores import scores
from research.runtime.files import write_json, write_whole
from research.runtime.run_folder import commit, versions

SCHEMA_VERSION = 1
METRICS = ("accuracy", "nll", "ece")
FEWEST = 6  # finished trials below which a share of importance would be noise
PAGE = Path(__file__).with_name("page.html")


def judge(log_probs: dict[str, np.ndarray], labels: np.ndarray, seed: int) -> dict:
    """The test split: accuracy, NLL and ECE of each, and of the best the paired change.

    Args:
        log_probs: [S, N, K] of "defaults" and of "best", where they differ.
        labels: [N] int.
        seed: of the resamples.

    Returns:
        `n`, `metrics` by name and metric, and `change` by metric (best minus defaults; empty where
        there is nothing to compare), each with value, low and high.
    """
    metrics, change = {}, {}
    for name, each in log_probs.items():
        found = evaluate(each, labels, seed=seed)
        metrics[name] = {metric: found[metric]._asdict() for metric in METRICS}
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
    """The share of the NLL's variance that each option explains; empty where there is too little.

    Hutter et al. 2014, functional ANOVA over the trees of a random forest.
    """
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(complete) < FEWEST:
        return {}
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=seed)
    return optuna.importance.get_param_importances(study, evaluator=evaluator)


def _trial(trial: FrozenTrial) -> dict:
    is_complete = trial.state is TrialState.COMPLETE
    looks = trial.intermediate_values
    return {
        "number": trial.number,
        "state": "finished" if is_complete else "stopped early",
        "valid_nll": trial.value if is_complete else None,
        "last_valid_nll": looks[max(looks)] if looks else None,
        "epochs": max(looks, default=0),
        "seconds": trial.duration.total_seconds(),
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
        space: what was varied.
        data: what was trained on.
        model: what was trained.
        method: the recipe.
        seed: of the run.
        command: the `experiments.diagnose` that uses the best.
        test: of `judge`.
    """
    trials = [_trial(trial) for trial in tune_study.done(study)]
    best = _trial(tune_study.best(study))
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
                "low": distribution.low,
                "high": distribution.high,
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


def headline(result: dict) -> str:
    """What came out, in one sentence."""
    best, before = result["best"], result["defaults_valid_nll"]
    tried = format.plural(len(result["trials"]), "trial")
    if best["is_defaults"]:
        return f"The defaults are the best of {tried}"
    lowest = f"{best['valid_nll']:.4f}"
    if before is None:
        return f"The best of {tried} has a validation NLL of {lowest}"
    return f"The best of {tried} brings the validation NLL from {before:.4f} to {lowest}"


def verdict(result: dict) -> str:
    """What the test split says to that."""
    change = result["test"]["change"].get("nll")
    if change is None or change["value"] is None:
        return ""
    told = (
        f"On the {format.count(result['test']['n'])} test images, which had no say in the search, "
        f"the best has a {'lower' if change['value'] < 0 else 'higher'} NLL than the defaults "
        f"(change {_signed('nll', change)}): "
    )
    if change["high"] < 0:
        return told + "it is better there too."
    if change["low"] > 0:
        return (
            f"{told}it is worse there. The search has fitted the validation images; keep to the "
            "defaults, or validate on more images."
        )
    return f"{told}too few images to tell whether it is better."


def _signed(metric: str, entry: dict) -> str:
    """A change with its interval: "-0.031 [-0.052, -0.008]"; shares in points."""
    if entry["value"] is None:
        return format.NONE
    is_share = format.is_share(metric)
    ends = [(100 if is_share else 1) * entry[key] for key in ("value", "low", "high")]
    value, low, high = (f"{end:+.{2 if is_share else 4}f}" for end in ends)
    return f"{value}{' points' if is_share else ''} [{low}, {high}]".replace("-", "\N{MINUS SIGN}")


def test_rows(result: dict) -> list[tuple[str, list[str]]]:
    """Name and cells: the defaults, the best, the change; where there is but one, only that."""
    test = result["test"]
    rows = []
    for metric in METRICS:
        cells = [format.with_interval(metric, each[metric]) for each in test["metrics"].values()]
        if test["change"]:
            cells.append(_signed(metric, test["change"][metric]))
        rows.append((format.metric_name(metric), cells))
    return rows


def columns(result: dict) -> list[str]:
    """What `test_rows` holds."""
    names = [{"defaults": "Defaults", "best": "Best found"}[n] for n in result["test"]["metrics"]]
    return [*names, "Change"] if result["test"]["change"] else names


def write(directory: Path, result: dict) -> None:
    """Writes result.json, best.json and tune.html."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "together": format.keep_together,
        "count": format.count,
        "duration": format.duration,
        "name": lambda name: name.replace("_", " "),
    }
    html = environment.from_string(PAGE.read_text(encoding="utf-8")).render(
        result=result,
        headline=headline(result),
        verdict=verdict(result),
        columns=columns(result),
        test_rows=test_rows(result),
        history=tune_pictures.history(result),
        importance=tune_pictures.importance(result) if _is_told(result) else None,
    )
    write_json(directory / "result.json", result)
    write_json(directory / "best.json", result["best"])
    write_whole(directory / "tune.html", lambda part: part.write_text(html, encoding="utf-8"))


def _is_told(result: dict) -> bool:
    return any(option["importance"] is not None for option in result["options"].values())


def summary(result: dict, page: str) -> str:
    """What the terminal shows at the end.

    Args:
        result: of `describe`.
        page: the path of tune.html, as the person would type it.
    """
    lines = [headline(result) + ".", ""]
    lines += [
        f"  {name.replace('_', ' '):14}{option['best']:<10g} default {option['default']:g}"
        for name, option in result["options"].items()
    ]
    lines += ["", "On the test images: " + ", ".join(columns(result)).lower() + "."]
    lines += [f"  {name:10}" + "   ".join(cells) for name, cells in test_rows(result)]
    if told := verdict(result):
        lines += ["", told]
    lines += ["", "What to do next:", result["best"]["command"], "", f"The whole page: {page}"]
    return "\n".join(lines)
