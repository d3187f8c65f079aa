"""Which choices decide the scale mixture's result? One is changed at a time, as one sweep each.

    launch/run.sh experiments.weight_uncertainty.ablations
    launch/run.sh experiments.weight_uncertainty.ablations --preset paper

The prior (the mixture's σ₁ and σ₂, and a Gaussian's σ), the initial σ of the posterior, the weight
of the KL, and the number of draws averaged in a prediction, at 400 units. The values of one sweep
are runs of one compiled program.
Expected: others report 1.6 % with near-delta initial posteriors (σ₀ below 0.005), and that a KL
scaled down fits faster and is more confident. Quick takes about five minutes on 2 CPU cores.
"""

from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np

from experiments import cli
from experiments.weight_uncertainty import records
from experiments.weight_uncertainty.figures import draw_ablations
from experiments.weight_uncertainty.rows import ROWS, Row, Size, as_arrays, with_fixed
from experiments.weight_uncertainty.training import (
    BATCH_SIZE,
    EVALUATION_DRAWS,
    TrainingConfig,
    configuration,
    evaluate,
    load,
    resolve,
)
from research.method import Batch, Method
from research.posteriors.predictive import predictor
from research.runtime.mesh import data_mesh
from research.runtime.run_folder import open_run
from research.training.sweep import SweepPlan, sweep

UNITS = 400
SWEEPS = {  # name: (row of the table, values)
    "mixture_sigma_1": ("mixture", np.exp([1.0, 0.0, -1.0, -2.0, -3.0])),
    "mixture_sigma_2": ("mixture", np.exp([-4.0, -5.0, -6.0, -7.0, -8.0])),
    "prior_sigma": ("gaussian", np.exp([1.0, 0.0, -1.0, -2.0, -3.0])),
    "initial_sigma": ("mixture", np.array([0.002, 0.005, 0.02, 0.05, 0.1])),
    "beta": ("mixture", np.array([0.001, 0.01, 0.1, 0.5, 1.0])),
}
DEFAULT_SIGMA = 2  # index among the values of the initial σ
DRAWS = (1, 2, 5, 10, 30)
RATE = 1e-3


@dataclass(frozen=True)
class Config(TrainingConfig):
    """Sweeps one hyper-parameter at a time."""

    out: Path = Path("runs/weight_uncertainty-ablations")
    """folder of the run"""


def errors_by_draws(method: Method, state, test: Batch) -> np.ndarray:
    """Test error of the average over the first 1, 2, ... draws of `DRAWS`."""
    batch_size = 1_000 * data_mesh().size
    log_probs = predictor(method, jax.random.key(7), batch_size, data_mesh())(state, test.images)
    averaged = np.logaddexp.accumulate(log_probs, axis=0)  # [S, N, K], up to a constant
    return np.array([np.mean(averaged[s - 1].argmax(axis=-1) != test.labels) for s in DRAWS])


def rows(name: str, values: np.ndarray, history: dict[str, np.ndarray]) -> list[dict]:
    """Rows of the test error, and of the NLL where there is one, after the last epoch."""
    return [
        records.row(
            "ablation", name, f"{value:.4g}, {measure}", scale * float(history[key][-1, index])
        )
        for index, value in enumerate(values)
        for measure, key, scale in (("error", "test_error", 100), ("NLL", "test_nll", 1))
        if key in history
    ]


def main(config: Config) -> None:
    """Trains what is missing, draws and writes.

    Raises:
        UserError: bad input.
    """
    preset = resolve(config)
    data = load(config).data
    n = len(data.train.labels)
    plan = SweepPlan(preset.epochs, BATCH_SIZE, max(1, preset.epochs // 20), "error")
    steps = preset.epochs * (n // BATCH_SIZE)

    def run(row: Row, draws: int, hypers: dict[str, np.ndarray], folder: Path, title: str):
        size = Size(UNITS, n, BATCH_SIZE, steps, draws)
        seeds = np.zeros(len(hypers["learning_rate"]), int)

        def build(hyper):
            return row.build(hyper, size)

        how = plan._replace(title=title)
        return sweep(build, hypers, seeds, evaluate, data, how, folder, data_mesh())

    with open_run(config.out, configuration(config)) as directory:
        for name, (method, values) in SWEEPS.items():
            row = ROWS[method]
            full = with_fixed(row, {"learning_rate": RATE})
            hypers = {key: np.full(len(values), value) for key, value in full.items()}
            hypers[name] = values
            swept = run(row, EVALUATION_DRAWS, hypers, directory / "training" / name, name)
            found = {"rows": rows(name, values, swept.history), "seconds": swept.seconds}
            arrays = {"values": values, "epochs": swept.epochs, **swept.history}
            records.write(directory, f"ablation-{name}", found, arrays)
            if name == "initial_sigma":
                hyper = {key: value[DEFAULT_SIGMA] for key, value in hypers.items()}
                state = jax.tree.map(lambda leaf: leaf[DEFAULT_SIGMA], swept.last)
                size = Size(UNITS, n, BATCH_SIZE, steps, max(DRAWS))
                errors = errors_by_draws(row.build(as_arrays(hyper), size), state, data.test)
                found = {"rows": rows("draws", np.array(DRAWS), {"test_error": errors[None]})}
                arrays = {"values": np.array(DRAWS), "test_error": errors[None]}
                records.write(directory, "ablation-draws", found, arrays)
        drawn = records.read(directory, "ablation-")
        draw_ablations(directory / "ablations.png", drawn)
    print(records.comparison([row for record in drawn for row in record.found["rows"]]))
    print(f"\nWritten to {config.out}. Next: launch/run.sh experiments.weight_uncertainty.report")


if __name__ == "__main__":
    cli.run(main, Config)
