"""Trains a network without and with every remedy, and diagnoses it, over several seeds.

A seed draws the rows, the initial weights and everything else anew.
"""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from experiments.toy_problems.picture import draw_panels
from experiments.toy_problems.remedies import BASELINE, Remedy
from experiments.toy_problems.table import estimate, helps, of_result, sentence
from experiments.toy_problems.training import (
    CLASSES,
    Fitted,
    Network,
    Sets,
    Training,
    fit,
    predictives,
)
from research.diagnosis.diagnose import diagnose
from research.diagnosis.evidence import Evidence, EvidenceSplit
from research.diagnosis.verdict import PRESENT
from research.metrics.calibration import ece
from research.metrics.scores import scores
from research.runtime.errors import UserError
from research.runtime.files import write_json, write_whole
from research.runtime.run_folder import commit, versions
from research.training import recipe as recipes

LIMITS = {  # the least and the largest possible value of each number of one seed
    "accuracy": (0.0, 1.0),
    "mean_confidence": (0.5, 1.0),
    "nll": (0.0,),
    "ece": (0.0, 1.0),
}
KNOWN = "what can be known"  # the title of the rows of the true probabilities


class Case(NamedTuple):
    """A network with one thing wrong."""

    name: str
    draw: Callable[[np.random.Generator], Sets]
    truth: Callable[[str, np.ndarray], np.ndarray]  # (name of the set, [N, D]) -> p(class 1) [N]
    evaluated: tuple[str, ...]  # names of the sets; the diagnosis is of the first
    network: Network
    training: Training
    remedies: tuple[Remedy, ...]


@dataclass(frozen=True)
class Config:
    """An over-confident network, why it is that, and what helps."""

    seeds: int = 5
    """how often everything is drawn and trained anew"""
    out: Path | None = None
    """folder for result.json and figure.png; default: runs/toy_problems/ and the example's name"""


def measure(log_probs: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """The four numbers of one seed, from log_probs [S, N, 2] and labels [N]."""
    s = scores(log_probs, labels)
    calibration = float(ece(s.confidence, s.correct))
    numbers = s.correct.mean(), s.confidence.mean(), s.nll.mean(), calibration
    return dict(zip(LIMITS, map(float, numbers), strict=True))


def _stack(sets: list[Sets]) -> Sets:
    return jax.tree.map(lambda *leaves: jnp.asarray(np.stack(leaves)), *sets)


def _log_probs(fitted: Fitted, keys: jax.Array, sets: Sets, names) -> dict[str, np.ndarray]:
    """log_probs [R, S, N, 2] of the sets named."""
    rows = [sets[name].images for name in names]
    log_probs = predictives(fitted, keys, jnp.concatenate(rows, axis=1))
    ends = np.cumsum([x.shape[1] for x in rows])[:-1]
    return dict(zip(names, np.split(log_probs, ends, axis=2), strict=True))


def _train(case: Case, remedy: Remedy, drawn: list[Sets], keys: jax.Array) -> tuple[Fitted, Sets]:
    """Trains a case with one remedy."""
    if remedy.data is not None:
        drawn = [remedy.data(s, np.random.default_rng([1, i])) for i, s in enumerate(drawn)]
    sets = _stack(drawn)
    (recipe,) = recipes.parse(remedy.recipe)
    network = case.network._replace(**remedy.network)
    training = case.training._replace(**remedy.training)
    return fit(recipe, network, training, sets, keys), sets


def _true_log_probs(case: Case, drawn: list[Sets]) -> dict[str, np.ndarray]:
    def of_set(name):
        p = np.stack([case.truth(name, np.asarray(sets[name].images)) for sets in drawn])
        with np.errstate(divide="ignore"):  # p is 0 or 1 where the class is certain
            return np.log(np.stack([1 - p, p], axis=-1))[:, None]  # [R, 1, N, 2]

    return {name: of_set(name) for name in case.evaluated}


def _named(case: Case, fitted: Fitted, log_probs: dict, drawn: list[Sets]) -> list[dict]:
    """How often the diagnosis names each cause, and first; the most frequent first cause leads."""
    named, splits = [], {"train": "train", "valid": "valid", "test": case.evaluated[0]}
    for seed, sets in enumerate(drawn):
        parts = {
            split: EvidenceSplit(log_probs[name][seed, 0], sets[name].labels, sets[name].images)
            for split, name in splits.items()
        }
        curve = zip(fitted.history["loss"][seed], fitted.history["valid_nll"][seed], strict=True)
        history = tuple(
            {"epoch": n, "loss": float(loss), "valid_nll": float(nll)}
            for n, (loss, nll) in enumerate(curve, start=1)
        )
        found = diagnose(Evidence(CLASSES, parts, history, seed=seed))
        named.append([cause.cause for cause in found if cause.verdict.state == PRESENT])
    counts = Counter(cause for causes in named for cause in causes)
    first = Counter(causes[0] for causes in named if causes)
    return [
        {"case": case.name, "cause": cause, "named": count, "first": first[cause]}
        for cause, count in sorted(counts.items(), key=lambda e: (-first[e[0]], -e[1]))
    ]


def _rows(case: Case, title: str, kind: str, numbers: dict, baseline: dict) -> list[dict]:
    """The rows of result.json for one remedy.

    Args:
        case: what was trained.
        title: of the remedy.
        kind: of the remedy.
        numbers: by set, what `measure` gave at each seed.
        baseline: the same without a remedy.
    """
    rows = []
    for name, seeds in numbers.items():
        row = {"case": case.name, "judged_on": name, "remedy": title, "kind": kind}
        for metric, limits in LIMITS.items():
            values = np.array([measured[metric] for measured in seeds])
            rows.append(row | {"metric": metric} | estimate(values, *limits))
        if title != BASELINE.title:
            pairs = zip(seeds, baseline[name], strict=True)
            change = estimate(np.array([after["nll"] - before["nll"] for after, before in pairs]))
            verdict = {} if title == KNOWN else {"helps": helps(change)}
            rows.append(row | {"metric": "nll_change"} | change | verdict)
    return rows


def examine(case: Case, seeds: int) -> tuple[list[dict], list[dict]]:
    """Trains a case without a remedy and with every one, and diagnoses the first network.

    Returns:
        The rows of result.json, and of its `diagnosis`.
    """
    drawn = [case.draw(np.random.default_rng(seed)) for seed in range(seeds)]
    keys = jax.vmap(jax.random.key)(jnp.arange(seeds))

    def measured(log_probs):
        return {
            name: [measure(log_probs[name][i], sets[name].labels) for i, sets in enumerate(drawn)]
            for name in case.evaluated
        }

    rows, baseline, diagnosis = [], None, []
    bar = tqdm((BASELINE, *case.remedies), desc=case.name, leave=False, disable=None)
    for remedy in bar:
        fitted, sets = _train(case, remedy, drawn, keys)
        names = case.evaluated if baseline else ("train", "valid", *case.evaluated)
        log_probs = _log_probs(fitted, keys, sets, names)
        if baseline is None:
            baseline = measured(log_probs)
            diagnosis = _named(case, fitted, log_probs, drawn)
            truth = measured(_true_log_probs(case, drawn))
            rows += _rows(case, KNOWN, "truth", truth, baseline)
        rows += _rows(case, remedy.title, remedy.kind, measured(log_probs), baseline)
    return rows, diagnosis


def run(example: str, cases: tuple[Case, ...], config: Config) -> None:
    """Examines the cases of an example, prints the table and writes the run's folder.

    Args:
        example: its name.
        cases: the networks, each with one thing wrong.
        config: the number of seeds and the folder.

    Raises:
        UserError: the number of seeds is below 1.
    """
    if config.seeds < 1:
        raise UserError("seeds", "give a whole number, 1 or more", value=config.seeds)
    out = config.out or Path("runs/toy_problems") / example
    begun = time.perf_counter()
    rows, diagnosis = [], []
    for case in cases:
        more, named = examine(case, config.seeds)
        rows += more
        diagnosis += named
    rows = [{"example": example, **row} for row in rows]
    made = {"commit": commit(), "versions": versions(), "seconds": time.perf_counter() - begun}
    result = {"example": example, "seeds": config.seeds, "diagnosis": diagnosis, "rows": rows}
    write_json(out / "result.json", result | made)
    write_whole(out / "figure.png", lambda part: draw_panels(part, result))
    print(of_result(result))
    for case in cases:
        print(f"\n{sentence(result, case.name)}")
    print(f"\nWritten to {out}. Next: look at {out / 'figure.png'}.")
