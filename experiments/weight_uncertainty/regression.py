"""Is the network uncertain where it had no data? Figure 5: a curve, its median and its band.

    launch/run.sh experiments.weight_uncertainty.regression
    launch/run.sh experiments.weight_uncertainty.regression --preset paper

y = x + 0.3 sin(2π(x + ε)) + 0.3 sin(4π(x + ε)) + ε with ε ~ N(0, 0.02) (section 5.2). The paper
gives neither the range of x, nor the network, nor whether 0.02 is a variance; here x is uniform on
[0, 0.5], 0.02 is the standard deviation and the network 1-100-100-1. Bayes by Backprop is shown
beside a plain network and an ensemble of ten. The number for "the band widens away from data" is
its mean width over x in [-0.4, -0.2] and [0.9, 1.2] by that over the data. Expected: several times
as wide for Bayes by Backprop; the plain network has no band at all. Takes a minute or two on 2 CPU
cores.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments import cli
from experiments.weight_uncertainty import records
from experiments.weight_uncertainty.figures import draw_regression
from research.method import Batch, Method, Model, gaussian
from research.methods.bayes_by_backprop import bayes_by_backprop
from research.methods.point import point
from research.models import chain
from research.models.layers import Dense
from research.runtime.mesh import data_mesh
from research.runtime.run_folder import open_run
from research.training.sweep import Data, SweepPlan, Swept, sweep

NOISE, LOW, HIGH = 0.02, 0.0, 0.5  # of ε; of x
BATCH_SIZE, DRAWS, MEMBERS = 100, 200, 10
PLANE = np.linspace(-0.4, 1.2, 161)
AWAY = (PLANE <= -0.2) | (PLANE >= 0.9)
ON_DATA = (PLANE >= LOW) & (PLANE <= HIGH)
TITLES = {"plain": "plain network", "ensemble": "ensemble of 10", "bayes": "Bayes by Backprop"}
PRESETS = {"quick": (1_000, 1_000), "paper": (5_000, 2_000)}  # points, epochs


@dataclass(frozen=True)
class Config:
    """Reproduces Figure 5."""

    preset: Literal["quick", "paper"] = "quick"
    """quick: 1,000 points, 1,000 epochs; paper: 5,000 points, 2,000 epochs"""
    units: int = 100
    """of the two hidden layers"""
    out: Path = Path("runs/weight_uncertainty-regression")
    """folder of the run"""


def sample(generator: np.random.Generator, count: int) -> Batch:
    """Points of the paper's curve: x [N, 1], y [N], float32."""
    x = generator.uniform(LOW, HIGH, count)
    noise = generator.normal(0.0, NOISE, count)
    y = x + 0.3 * np.sin(2 * np.pi * (x + noise)) + 0.3 * np.sin(4 * np.pi * (x + noise)) + noise
    return Batch(x[:, None].astype(np.float32), y.astype(np.float32))


def network(units: int) -> Model:
    """1-units-units-1, with a known noise."""
    layers = (
        Dense("hidden1", units, "relu"),
        Dense("hidden2", units, "relu"),
        Dense("value", 1),
    )
    # The slope of the curve multiplies ε: the noise of y is about 0.06 where it is steepest.
    return chain.as_model(chain.Chain(layers))._replace(likelihood=gaussian(3 * NOISE))


def evaluate(method: Method, key: jax.Array, state, split: Batch) -> dict[str, jax.Array]:
    """NLL of one draw."""
    outputs = method.apply(method.draw(key, state, 0), split.images)
    return {"nll": gaussian(3 * NOISE).metrics(outputs, split.labels)["nll"]}


def quartiles(curves: np.ndarray) -> np.ndarray:
    """Lower quartile, median and upper quartile [3, X] of curves [S, X]."""
    return np.quantile(curves, [0.25, 0.5, 0.75], axis=0)


def widening(band: np.ndarray) -> tuple[float, float]:
    """Mean width of the inter-quartile band away from data and on it.

    Args:
        band: [3, X] over `PLANE`.
    """
    width = band[2] - band[0]
    return float(width[AWAY].mean()), float(width[ON_DATA].mean())


def curves_of(method: Method, states, count: int) -> np.ndarray:
    """Draws of each run's network over `PLANE`, [runs * count, X]."""
    x = jnp.asarray(PLANE[:, None], jnp.float32)

    def one(state, index):
        return method.apply(method.draw(jax.random.key(3), state, index), x)[:, 0]

    over = jax.vmap(jax.vmap(one, in_axes=(None, 0)), in_axes=(0, None))
    return np.asarray(jax.jit(over)(states, jnp.arange(count))).reshape(-1, len(PLANE))


def main(config: Config) -> None:
    """Fits, draws and writes.

    Raises:
        UserError: bad input.
    """
    num_train, epochs = PRESETS[config.preset]
    generator = np.random.default_rng(0)
    data = Data(*(sample(generator, count) for count in (num_train, 500, 500)))
    model = network(config.units)
    steps_per_epoch = num_train // BATCH_SIZE
    steps = epochs * steps_per_epoch
    plan = SweepPlan(epochs, BATCH_SIZE, max(1, epochs // 20), "nll")

    def rate(hyper):
        return optax.adam(optax.cosine_decay_schedule(hyper["learning_rate"], steps))

    def plain(hyper):
        return point(model, rate(hyper))

    def bayes(hyper):
        choices = {"estimator": "local", "prior": "gaussian", "sigma_relative_to": "fan_in"}
        numbers = {"prior_sigma": 1.0, "initial_sigma": 0.1}
        lengths = num_train, steps_per_epoch, steps
        return bayes_by_backprop(model, rate(hyper), *lengths, **choices, **numbers)

    def fit(build, runs: int, directory: Path, title: str) -> Swept:
        hypers = {"learning_rate": np.full(runs, 1e-2)}
        seeds = np.arange(runs)
        how = plan._replace(title=title)
        return sweep(build, hypers, seeds, evaluate, data, how, directory, data_mesh())

    options = {"preset": config.preset, "units": config.units}
    with open_run(config.out, options) as directory:
        points = fit(plain, MEMBERS, directory / "training" / "plain", "plain")
        posterior = fit(bayes, 1, directory / "training" / "bayes", "bayes")
        fixed = {"learning_rate": 1e-2}
        members = curves_of(plain(fixed), points.last, 1)  # [MEMBERS, X]
        found = {
            "plain": members[:1],
            "ensemble": members,
            "bayes": curves_of(bayes(fixed), posterior.last, DRAWS),
        }
        bands = {name: quartiles(curves) for name, curves in found.items()}
        lines = []
        for name, band in bands.items():
            away, on_data = widening(band)
            place = "figure 5", TITLES[name]
            lines.append(records.row(*place, "band away from data", away))
            lines.append(records.row(*place, "band on data", on_data))
            if on_data > 0:
                lines.append(records.row(*place, "widens by a factor of", away / on_data))
        arrays = {
            "x": PLANE,
            "data_x": data.train.images[:, 0],
            "data_y": data.train.labels,
            **bands,
        }
        seconds = points.seconds + posterior.seconds
        content = {"rows": lines, "titles": TITLES, "seconds": seconds}
        records.write(directory, "regression", content, arrays)
        draw_regression(directory / "figure5.png", records.read(directory, "regression")[0])
    print(records.comparison(lines))
    print(f"\nWritten to {config.out}. Next: launch/run.sh experiments.weight_uncertainty.bandits")


if __name__ == "__main__":
    cli.run(main, Config)
