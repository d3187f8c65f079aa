"""A network as it is, its diagnosis, and every remedy beside it, over several seeds.

A seed draws the rows, the initial weights and all else anew.
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
from experiments.toy_problems.remedies import AS_IT_IS, Remedy
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
from research.diagnosis.evidence import Evidence, Part
from research.diagnosis.verdict import PRESENT
from research.metrics.calibration import ece
from research.metrics.scores import scores
from research.runtime.errors import UserError
from research.runtime.files import write_json, write_whole
from research.runtime.run_folder import commit, versions
from research.training import recipe

LIMITS = {  # of the numbers of one seed
    "accuracy": (0.0, 1.0),
    "mean_confidence": (0.5, 1.0),
    "nll": (0.0,),
    "ece": (0.0, 1.0),
}
KNOWN = "what can be known"  # the true probabilities


class Case(NamedTuple):
    """A network with one thing wrong."""

    name: str
    draw: Callable[[np.random.Generator], Sets]
    truth: Callable[[str, np.ndarray], np.ndarray]  # (what is judged, [N, D]) -> p(class 1) [N]
    judged: tuple[str, ...]  # names of the sets; the diagnosis looks at the first
    network: Network
    training: Training
    remedies: tuple[Remedy, ...]


@dataclass(frozen=True)
class Config:
    """A network that is surer than it is right, why, and what helps."""

    seeds: int = 5
    """how often all is drawn and trained anew"""
    out: Path | None = None
    """folder for result.json and figure.png; default: runs/toy_problems/ and the example's name"""


def measure(log_probs: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """The four numbers of one seed: log_probs [S, N, 2], labels [N]."""
    s = scores(log_probs, labels)
    calibration = float(ece(s.confidence, s.correct))
    numbers = s.correct.mean(), s.confidence.mean(), s.nll.mean(), calibration
    return dict(zip(LIMITS, map(float, numbers), strict=True))


def _stack(sets: list[Sets]) -> Sets:
    return jax.tree.map(lambda *leaves: jnp.asarray(np.stack(leaves)), *sets)


def _said(fitted: Fitted, keys: jax.Array, sets: Sets, names) -> dict[str, np.ndarray]:
    """log_probs [R, S, N, 2] of the sets named."""
    rows = [sets[name].images for name in names]
    log_probs = predictives(fitted, keys, jnp.concatenate(rows, axis=1))
    ends = np.cumsum([each.shape[1] for each in rows])[:-1]
    return dict(zip(names, np.split(log_probs, ends, axis=2), strict=True))


def _treat(case: Case, remedy: Remedy, drawn: list[Sets], keys: jax.Array) -> tuple[Fitted, Sets]:
    """Trains with one remedy."""
    if remedy.data is not None:
        drawn = [remedy.data(s, np.random.default_rng([1, i])) for i, s in enumerate(drawn)]
    sets = _stack(drawn)
    (told,) = recipe.parse(remedy.recipe)
    network = case.network._replace(**remedy.network)
    training = case.training._replace(**remedy.training)
    return fit(told, network, training, sets, keys), sets


def _truth(case: Case, drawn: list[Sets]) -> dict[str, np.ndarray]:
    def of(name):
        p = np.stack([case.truth(name, np.asarray(each[name].images)) for each in drawn])
        with np.errstate(divide="ignore"):  # what is certain
            return np.log(np.stack([1 - p, p], axis=-1))[:, None]  # [R, 1, N, 2]

    return {name: of(name) for name in case.judged}


def _named(case: Case, fitted: Fitted, said: dict, drawn: list[Sets]) -> list[dict]:
    """What the diagnosis names, of every seed: causes, the weightiest first."""
    named, splits = [], {"train": "train", "valid": "valid", "test": case.judged[0]}
    for seed, sets in enumerate(drawn):
        parts = {
            split: Part(said[name][seed, 0], sets[name].labels, sets[name].images)
            for split, name in splits.items()
        }
        rows = zip(fitted.history["loss"][seed], fitted.history["valid_nll"][seed], strict=True)
        history = tuple(
            {"epoch": n, "loss": float(loss), "valid_nll": float(nll)}
            for n, (loss, nll) in enumerate(rows, start=1)
        )
        found = diagnose(Evidence(CLASSES, parts, history, seed=seed))
        named.append([each.cause for each in found if each.verdict.state == PRESENT])
    counts = Counter(cause for causes in named for cause in causes)
    first = Counter(causes[0] for causes in named if causes)
    return [
        {"case": case.name, "cause": cause, "named": count, "first": first[cause]}
        for cause, count in sorted(counts.items(), key=lambda e: (-first[e[0]], -e[1]))
    ]


def _rows(case: Case, title: str, kind: str, numbers: dict, before: dict) -> list[dict]:
    """Lines of result.json for one remedy: `numbers` and `before` by set, a list over seeds."""
    rows = []
    for judged, seeds in numbers.items():
        told = {"case": case.name, "judged_on": judged, "remedy": title, "kind": kind}
        for metric, limits in LIMITS.items():
            values = np.array([each[metric] for each in seeds])
            rows.append(told | {"metric": metric} | estimate(values, *limits))
        if title != AS_IT_IS.title:
            pairs = zip(seeds, before[judged], strict=True)
            change = estimate(np.array([after["nll"] - b["nll"] for after, b in pairs]))
            verdict = {} if title == KNOWN else {"helps": helps(change)}
            rows.append(told | {"metric": "nll_change"} | change | verdict)
    return rows


def examine(case: Case, seeds: int) -> tuple[list[dict], list[dict]]:
    """Trains a case as it is and with every remedy, and asks the diagnosis.

    Returns:
        Lines of result.json, and of its `diagnosis`.
    """
    drawn = [case.draw(np.random.default_rng(seed)) for seed in range(seeds)]
    keys = jax.vmap(jax.random.key)(jnp.arange(seeds))

    def measured(said):
        return {
            name: [measure(said[name][i], sets[name].labels) for i, sets in enumerate(drawn)]
            for name in case.judged
        }

    rows, before, diagnosis = [], None, None
    bar = tqdm((AS_IT_IS, *case.remedies), desc=case.name, leave=False, disable=None)
    for remedy in bar:
        fitted, sets = _treat(case, remedy, drawn, keys)
        names = case.judged if before else ("train", "valid", *case.judged)
        said = _said(fitted, keys, sets, names)
        if before is None:
            before = measured(said)
            diagnosis = _named(case, fitted, said, drawn)
            rows += _rows(case, KNOWN, "truth", measured(_truth(case, drawn)), before)
        rows += _rows(case, remedy.title, remedy.kind, measured(said), before)
    return rows, diagnosis


def run(example: str, cases: tuple[Case, ...], config: Config) -> None:
    """Examines the cases of an example, prints the table and writes the run's folder.

    Args:
        example: its name.
        cases: what may be wrong.
        config: how often, and where to.

    Raises:
        UserError: bad input.
    """
    if config.seeds < 1:
        raise UserError(f"--seeds {config.seeds}: give a whole number, 1 or more")
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
