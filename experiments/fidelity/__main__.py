"""How near does each method come to the exact posterior, where that can be computed?

    launch/run.sh experiments.fidelity
    launch/run.sh experiments.fidelity --preset full --seeds 3 --out runs/fidelity

Two moons, a 2-16-16-2 network, the prior N(0, 1) on every weight; NUTS gives the exact predictive
over the plane (`reference.py`). Every method is trained on the same points with the same
prior, and its predictive p is compared with the exact q as Izmailov et al. 2021 do:

    total variation = mean over the plane of 1/2 sum_k |p_k - q_k|
    agreement       = share of the plane where argmax p = argmax q

A second, independent NUTS run is the floor. Expected: ensembles and SG-MCMC are nearer than
mean-field, and `point` is farthest; where the order differs, a sentence reports it. Writes
`result.json` and `fidelity.png`.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import make_moons

from experiments import cli
from experiments.fidelity.methods import Length, fit, network, network_of, predictives
from experiments.fidelity.picture import draw_planes
from experiments.fidelity.reference import Chains, Reference, nuts
from experiments.fidelity.table import of_rows
from research.data.dataset import Dataset, Split
from research.method import Batch
from research.runtime.errors import UserError
from research.runtime.files import write_json, write_whole
from research.training import recipe as recipes

NUM_TRAIN, NOISE, PRECISION = 100, 0.25, 1.0
EXTENT, SIDE = 3.0, 40  # the plane is [-3, 3] x [-3, 3], 40 x 40 points
NUTS = "NUTS, a second run"
SAMPLING = ("sgmcmc",)
MEAN_FIELD = ("bayes_by_backprop", "ivon")
R_HAT = 1.01  # Vehtari et al. 2021: above it, run for longer
DEFAULT = """
    point, mc_dropout, ensemble(point), ensemble(point, num_members=20),
    bayes_by_backprop(estimator=shared), bayes_by_backprop(estimator=local),
    bayes_by_backprop(estimator=flipout), ensemble(bayes_by_backprop), ivon, ensemble(ivon),
    ivon(h0=0.1, beta2=0.999, learning_rate=10, epochs=10),
    swag, ensemble(swag), laplace(structure=last_kron), laplace(structure=last_full),
    laplace(structure=kron), laplace(structure=diag),
    sgmcmc(kernel=sgld, cycles=0, learning_rate=5, epochs=10),
    sgmcmc(kernel=sghmc, cycles=0, learning_rate=5, epochs=10),
    sgmcmc(kernel=sghmc, cycles=8, learning_rate=20, epochs=10), batch_ensemble, sngp
"""


@dataclass(frozen=True)
class Config:
    """How near does each method come to the exact posterior?"""

    methods: str = ""
    """recipes, such as swag,ensemble(point); left out: every method"""
    preset: Literal["quick", "full"] = "quick"
    """quick: some three minutes; full: longer chains and training, more draws"""
    seeds: int = 1
    """trainings of each method; the mean and the spread are printed"""
    out: Path = Path("runs/fidelity")
    """folder for result.json and fidelity.png"""


PRESETS = {
    "quick": (Chains(6, 300, 400), Length(epochs=500, num_samples=50)),
    "full": (Chains(8, 500, 1000), Length(epochs=2000, num_samples=200)),
}


def two_moons(seed: int) -> Split:
    """Two half circles with noise around the origin: images [N, 2], labels [N]."""
    points, labels = make_moons(NUM_TRAIN, noise=NOISE, random_state=seed)
    points = (np.asarray(points) - [0.5, 0.25]).astype(np.float32)
    return Split(points, np.asarray(labels, np.int32), np.arange(NUM_TRAIN).astype(str))


def plane() -> np.ndarray:
    """The points of the plane, [SIDE * SIDE, 2], row by row from below."""
    axis = np.linspace(-EXTENT, EXTENT, SIDE, dtype=np.float32)
    return np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)


def total_variation(p: np.ndarray, q: np.ndarray) -> float:
    """Mean of 1/2 sum_k |p_k - q_k| over the points; p and q are [G, K] probabilities."""
    return float(np.mean(np.sum(np.abs(p - q), axis=-1)) / 2)


def agreement(p: np.ndarray, q: np.ndarray) -> float:
    """Share of the points where the most probable class is the same; p and q are [G, K]."""
    return float(np.mean(np.argmax(p, axis=-1) == np.argmax(q, axis=-1)))


def row(name: str, probs: np.ndarray, exact: np.ndarray, seconds: float) -> dict:
    """A row of result.json.

    Args:
        name: of the method.
        probs: its predictive at each seed, [seeds, G, K].
        exact: the reference, [G, K].
        seconds: of one training.
    """
    result = {"method": name, "seconds": seconds}
    for measure in (total_variation, agreement):
        values = [measure(p, exact) for p in probs]
        result[measure.__name__] = float(np.mean(values))
        sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
        result[f"{measure.__name__}_sd"] = sd
    return result


def _group(name: str) -> str:
    (recipe,) = recipes.parse(name)
    if recipe.base.name in SAMPLING or recipe.name == "ensemble":
        return "near"
    return "mean-field" if recipe.name in MEAN_FIELD else ""


def surprises(rows: list[dict]) -> list[str]:
    """Where the order of the methods is not the expected one.

    Args:
        rows: of result.json, without that of NUTS itself.

    Returns:
        One sentence for each pair of methods in another order.
    """
    distance = {row["method"]: row["total_variation"] for row in rows}
    farthest = distance.get("point", np.inf)
    sentences = [
        f"{name} ({value:.3f}) is no nearer than point ({farthest:.3f})"
        for name, value in distance.items()
        if name != "point" and value >= farthest
    ]
    groups = {name: _group(name) for name in distance}
    mean_field = [name for name in distance if groups[name] == "mean-field"]
    for name, value in distance.items():
        nearer = [f"{far} ({distance[far]:.3f})" for far in mean_field if distance[far] <= value]
        if groups[name] == "near" and nearer:
            others = f"mean-field {', '.join(nearer)}"
            sentences.append(f"{name} ({value:.3f}) is no nearer than {others}")
    return sentences


def _reference(length: Chains, data: Split, seed: int) -> tuple[Reference, float]:
    batch = Batch(jnp.asarray(data.images), jnp.asarray(data.labels))
    begun = time.perf_counter()
    key = jax.random.key(seed)
    reference = nuts(key, network(), PRECISION, batch, jnp.asarray(plane()), length)
    print(
        f"NUTS: R-hat of the predictive at most {reference.r_hat:.3f}, effective draws at least "
        f"{reference.effective_draws:.0f} of {length.chains * length.draws}, "
        f"{reference.divergences} divergences"
    )
    return reference, time.perf_counter() - begun


def main(config: Config) -> None:
    """Samples the exact posterior, trains every method, compares and writes."""
    if config.seeds < 1:
        raise UserError("seeds", "give a whole number, 1 or more", value=config.seeds)
    methods = recipes.parse(config.methods or DEFAULT)
    chains, length = PRESETS[config.preset]
    data, other = two_moons(0), two_moons(1)
    dataset = Dataset("two moons", ("0", "1"), data, other, other)
    keys = tuple(jax.random.key(seed) for seed in range(config.seeds))

    exact, _ = _reference(chains, data, 0)
    second, seconds = _reference(chains, data, 1)
    floor = row(NUTS, second.probs[None], exact.probs, seconds)
    rows, planes = [], {"NUTS": (exact.probs, "the reference")}
    for method in methods:
        sampled = recipes.with_options(method, num_samples=length.num_samples)
        fitted = fit(sampled, network_of(method), dataset, PRECISION, length.epochs, keys)
        probs = predictives(fitted, plane(), keys)
        if not np.all(np.isfinite(probs)):
            problem = "its predictions are not finite"
            raise UserError("methods", problem, "give it a smaller learning_rate", value=method)
        rows.append(row(str(method), probs, exact.probs, fitted.seconds))
        planes[str(method)] = probs[0], f"TV {rows[-1]['total_variation']:.3f}"
        print(f"{method}: total variation {rows[-1]['total_variation']:.4f}", flush=True)

    result = {
        "preset": config.preset,
        "seeds": config.seeds,
        "r_hat": exact.r_hat,
        "effective_draws": exact.effective_draws,
        "divergences": exact.divergences,
        "rows": [floor, *rows],
        "surprises": surprises(rows),
    }
    write_json(config.out / "result.json", result)
    write_whole(config.out / "fidelity.png", lambda part: draw_planes(part, planes, data, EXTENT))
    print(f"\n{of_rows(result['rows'])}\n")
    for sentence in result["surprises"]:
        print(f"Not as expected: {sentence}.")
    if not result["surprises"]:
        print("The order is the expected one.")
    if exact.r_hat > R_HAT:
        print(f"R-hat {exact.r_hat:.3f} is above {R_HAT}: the reference has not converged.")
    longer = (
        "--preset full --seeds 3" if config.preset == "quick" else "--methods and their options"
    )
    print(f"Next: look at {config.out / 'fidelity.png'}; then try {longer}.")


if __name__ == "__main__":
    cli.run(main, Config)
