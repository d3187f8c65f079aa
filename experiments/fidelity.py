"""How near does each method come to the exact posterior, where that can be computed?

    launch/run.sh experiments.fidelity
    launch/run.sh experiments.fidelity --preset full --seeds 3 --out runs/fidelity

Two moons, a 2-16-16-2 network, the prior N(0, 1) on every weight; NUTS gives the exact predictive
over the plane (`fidelity_reference.py`). Every method is trained on the same points with the same
prior, and its predictive p is compared with the exact q as Izmailov et al. 2021 do:

    total variation = mean over the plane of 1/2 sum_k |p_k - q_k|
    agreement       = share of the plane where argmax p = argmax q

A second, independent NUTS run is the floor. Expected: ensembles and SG-MCMC nearer than mean-field,
`point` farthest; where it is not so, that is said. Writes `result.json` and `fidelity.png`.
"""

import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import make_moons

from experiments import cli, fidelity_methods
from experiments.fidelity_picture import draw_planes
from experiments.fidelity_reference import Chains, nuts
from research import recipe
from research.data.dataset import Dataset, Split
from research.errors import UserError
from research.files import write_json, write_whole
from research.method import Batch

NUM_TRAIN, NOISE, PRECISION = 100, 0.25, 1.0
EXTENT, SIDE = 3.0, 40  # the plane is [-3, 3] x [-3, 3], 40 x 40 points
NUTS = "NUTS, a second run"
SAMPLING = ("sgmcmc",)
MEAN_FIELD = ("bayes_by_backprop", "ivon")


@dataclass(frozen=True)
class Config:
    """How near does each method come to the exact posterior?"""

    methods: str = ""
    """recipes, such as swag,ensemble(point); left out: every method"""
    preset: Literal["quick", "full"] = "quick"
    """quick: a minute or two; full: longer chains and training, more draws"""
    seeds: int = 1
    """trainings of each method; the mean and the spread are printed"""
    out: Path = Path("runs/fidelity")
    """folder for result.json and fidelity.png"""


PRESETS = {
    "quick": (Chains(4, 200, 200), fidelity_methods.Length(epochs=500, num_samples=50)),
    "full": (Chains(8, 1000, 1000), fidelity_methods.Length(epochs=2000, num_samples=200)),
}


def two_moons(seed: int) -> Split:
    """Two half circles with noise, their middle at the origin: images [N, 2], labels [N]."""
    points, labels = make_moons(NUM_TRAIN, noise=NOISE, random_state=seed)
    points = (points - [0.5, 0.25]).astype(np.float32)
    return Split(points, labels.astype(np.int32), np.arange(NUM_TRAIN).astype(str))


def plane() -> np.ndarray:
    """[SIDE * SIDE, 2], row by row from below."""
    axis = np.linspace(-EXTENT, EXTENT, SIDE, dtype=np.float32)
    return np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)


def total_variation(p: np.ndarray, q: np.ndarray) -> float:
    """Mean of 1/2 sum_k |p_k - q_k| over the points; p and q are [G, K] probabilities."""
    return float(np.mean(np.sum(np.abs(p - q), axis=-1)) / 2)


def agreement(p: np.ndarray, q: np.ndarray) -> float:
    """Share of the points where the most probable class is the same; p and q are [G, K]."""
    return float(np.mean(np.argmax(p, axis=-1) == np.argmax(q, axis=-1)))


def row(name: str, probs: list[np.ndarray], exact: np.ndarray, seconds: float) -> dict:
    """A line of the table, over the seeds.

    Args:
        name: of the method.
        probs: [G, K] of each seed.
        exact: [G, K].
        seconds: of one training and prediction, compilation included.
    """
    variations = [total_variation(p, exact) for p in probs]
    agreements = [agreement(p, exact) for p in probs]
    spread = partial(np.std, ddof=1) if len(probs) > 1 else lambda values: None
    return {
        "method": name,
        "total_variation": float(np.mean(variations)),
        "total_variation_sd": spread(variations),
        "agreement": float(np.mean(agreements)),
        "agreement_sd": spread(agreements),
        "seconds": seconds,
    }


def _kind(name: str) -> str:
    (told,) = recipe.parse(name)
    if recipe.base(told).name in SAMPLING or told.name == "ensemble":
        return "near"
    return "mean-field" if told.name in MEAN_FIELD else told.name


def surprises(rows: list[dict]) -> list[str]:
    """Where the order of the methods is not the expected one, one sentence each.

    Args:
        rows: of the methods, without NUTS itself.
    """
    tv = {each["method"]: each["total_variation"] for each in rows}
    told = []
    for name, value in tv.items():
        if "point" in tv and value > tv["point"]:
            told.append(f"{name} ({value:.3f}) is farther than point ({tv['point']:.3f})")
    for near, value in tv.items():
        for far, other in tv.items():
            if (_kind(near), _kind(far)) == ("near", "mean-field") and value > other:
                told.append(
                    f"{near} ({value:.3f}) is farther than the mean-field {far} ({other:.3f})"
                )
    return told
