"""Does Bayes by Backprop classify MNIST as well as in the paper? Table 1, Figures 2 and 3.

    launch/run.sh experiments.weight_uncertainty.classification
    launch/run.sh experiments.weight_uncertainty.classification --preset paper
    launch/run.sh experiments.weight_uncertainty.classification --preset paper --units 400 \\
        --grid few --seeds 1 --methods sgd,dropout,gaussian,mixture

Two hidden layers of 400, 800 or 1200 rectified linear units; SGD, dropout, Bayes by Backprop with
a Gaussian prior and with the scale mixture; beyond the paper the mixture with local
reparameterisation and Flipout, calibration, and uncertainty on Fashion-MNIST. Expected at
--preset paper: the paper's test errors (1.3 to 2.0 %) within 0.2 points. Quick takes about six
minutes on 2 CPU cores and trains on 10,000 images for 8 epochs only, which is far from the paper.

The same command goes on where it stopped; other methods and widths in the same folder train only
what is missing.
"""

from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np

from experiments import cli
from experiments.weight_uncertainty import records
from experiments.weight_uncertainty.figures import draw_curves, draw_densities
from experiments.weight_uncertainty.mnist import Digits
from experiments.weight_uncertainty.records import Target
from experiments.weight_uncertainty.rows import (
    MIXTURE_PAPER,
    as_arrays,
    is_bayes,
    label,
    mean_network,
    row_of,
    split,
    with_fixed,
)
from experiments.weight_uncertainty.training import (
    Cell,
    TrainingConfig,
    configuration,
    is_as_paper,
    load,
    resolve,
    train_cell,
)
from research.metrics.calibration import ece
from research.metrics.detection import auroc
from research.metrics.intervals import Z, student_interval
from research.metrics.scores import predictive, scores
from research.posteriors.predictive import predictor
from research.runtime.errors import UserError
from research.runtime.mesh import data_mesh
from research.runtime.run_folder import open_run

ROUND_ERROR = 2.0  # %; every row reaches it, so that the times until then can be compared
NUM_WEIGHTS = 20_000  # of a network's weights are drawn in Figure 3


@dataclass(frozen=True)
class Config(TrainingConfig):
    """Reproduces Table 1, Figure 2 and Figure 3."""

    methods: str | None = None
    """such as "sgd,dropout,gaussian,mixture,local,flipout"; default: all; hyper-parameters given as
    in "mixture(mixture_sigma_1=0.37)" are not searched"""
    units: tuple[int, ...] = ()
    """widths, of 400, 800 and 1200 in the paper; default: the preset's"""
    out: Path = Path("runs/weight_uncertainty")
    """folder of the run; pruning uses the networks in it"""


def interval(values: np.ndarray, trials: int) -> tuple[float, float, float]:
    """The mean of error rates over seeds and its 95 % interval.

    Two things vary independently: the test images (binomial, the same images for all seeds) and
    the seed (Student). The squares of the half-widths that each of them has alone are added.

    Args:
        values: error rates [seeds], from 0 to 1.
        trials: number of test images.
    """
    mean = float(np.mean(values))
    over_seeds = student_interval(values)
    of_images = Z * (mean * (1 - mean) / trials) ** 0.5
    of_seeds = 0.0 if over_seeds.high is None else over_seeds.high - mean
    half = float(np.hypot(of_images, of_seeds))
    return mean, max(0.0, mean - half), min(1.0, mean + half)


def calibration(cell: Cell, digits: Digits) -> dict[str, np.ndarray]:
    """NLL and ECE on the test split, and the AUROC against Fashion-MNIST, of the chosen networks.

    Returns:
        One number a seed, by name.
    """
    row = row_of(cell.method)
    method = row.build(as_arrays(with_fixed(row, cell.hyper)), cell.size)
    predict = predictor(method, jax.random.key(7), 1_000 * data_mesh().size, data_mesh())
    found = {"nll": [], "ece": [], "auroc": []}
    for seed in range(len(cell.swept.best_epoch)):
        state = jax.tree.map(lambda leaf, s=seed: leaf[s], cell.swept.best)
        test = scores(predict(state, digits.data.test.images), digits.data.test.labels)
        ood = predictive(predict(state, digits.ood))
        found["nll"].append(np.mean(test.nll))
        found["ece"].append(ece(test.confidence, test.correct))
        uncertainty = np.concatenate([test.uncertainty, ood.uncertainty])
        is_ood = np.repeat([False, True], [len(test.uncertainty), len(ood.uncertainty)])
        found["auroc"].append(auroc(uncertainty, is_ood))
    return {name: np.array(values, np.float64) for name, values in found.items()}


def minutes_to(cell: Cell, error: float) -> float | None:
    """Minutes of training until the test error is at most `error` %, as a mean over the seeds.

    The evaluations on the test split are a hundredth of the training apart.

    Returns:
        None where a seed never reaches it.
    """
    of_epoch = cell.swept.seconds / 60 / cell.swept.epochs[-1] / len(cell.swept.best_epoch)
    there = 100 * cell.swept.history["test_error"] <= error  # [evaluations, seeds]
    if not there.any(axis=0).all():
        return None
    return float(of_epoch * np.mean(cell.swept.epochs[there.argmax(axis=0)]))


def rows(cell: Cell, digits: Digits, as_paper: bool) -> list[dict]:
    """The rows of result.json for a cell; errors in %."""
    method, test = row_of(cell.method), len(digits.data.test.labels)
    history, swept = cell.swept.history, cell.swept
    at_best = np.searchsorted(swept.epochs, swept.best_epoch)
    seeds = np.arange(len(at_best))
    cell_name = f"{cell.units}" if as_paper else f"{cell.units}, {swept.epochs[-1]} epochs"
    title, paper = method.title, method.paper.get(cell.units)
    lines = []
    for place, index in (("", at_best), (", last epoch", np.full_like(at_best, -1))):
        for kind, name in (("", "test_error"), (", mean weights", "test_mean_error")):
            if kind and not is_bayes(method):
                continue  # one network is its own mean
            value, low, high = (100 * x for x in interval(history[name][index, seeds], test))
            column = f"{cell_name}{place}{kind}"
            target = None if place + kind or paper is None else Target(paper, 0.2, as_paper)
            lines.append(records.row("1", title, column, value, low, high, target))
    errors = {ROUND_ERROR, paper or MIXTURE_PAPER.get(cell.units, ROUND_ERROR)}
    for error in sorted(errors, reverse=True):
        column = f"{cell_name}, minutes to {error:g} % test error"
        lines.append(records.row("1", title, column, minutes_to(cell, error)))
    for name, values in calibration(cell, digits).items():
        value, low, high, _ = student_interval(values)
        lines.append(records.row("1", title, f"{cell_name}, {name.upper()}", value, low, high))
    return lines


def weights(cell: Cell) -> np.ndarray:
    """Weights of the first seed's last network, or of a draw of its posterior (Figure 3)."""
    state = jax.tree.map(lambda leaf: leaf[0], cell.swept.last)
    drawn = mean_network(state)
    if hasattr(state, "posterior"):
        row = row_of(cell.method)
        hyper = as_arrays(with_fixed(row, cell.hyper))
        drawn = row.build(hyper, cell.size).draw(jax.random.key(0), state, 0)
    flat = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(drawn)])
    return np.random.default_rng(0).choice(flat, min(NUM_WEIGHTS, flat.size), replace=False)


def get_cells(config: Config) -> list[tuple[str, int]]:
    """The rows and widths to train.

    Raises:
        UserError: a method or a hyper-parameter that there is not, or a width below 1.
    """
    preset = resolve(config)
    names = split(config.methods) if config.methods else preset.methods
    for name in names:
        row_of(name)
    units = config.units or preset.units
    if min(units) < 1:
        raise UserError("units", "give whole numbers, 1 or more", value=min(units))
    return [(name, width) for width in units for name in names]


def main(config: Config) -> None:
    """Trains what is missing, measures, draws and writes.

    Raises:
        UserError: bad input.
    """
    cells = get_cells(config)
    digits = load(config)
    with open_run(config.out, configuration(config)) as directory:
        for name, units in cells:
            cell = train_cell(name, units, config, digits.data, directory)
            found = {
                "rows": rows(cell, digits, is_as_paper(config)),
                "hyper": {k: float(v) for k, v in cell.hyper.items()},
                "train_draws": cell.train_draws,
                "searched": cell.searched,
                "seeds": len(cell.swept.best_epoch),
                "best_epochs": cell.swept.best_epoch.tolist(),
                "seconds": cell.swept.seconds,
                "train_images": cell.size.num_train,
            }
            arrays = {"epochs": cell.swept.epochs, "weights": weights(cell), **cell.swept.history}
            records.write(directory, f"classification-{label(name)}-{units}", found, arrays)
        drawn = records.read(directory, "classification-")
        draw_curves(directory / "figure2.png", drawn)
        draw_densities(directory / "figure3.png", drawn)
        lines = [line for record in drawn for line in record.found["rows"]]
    print(records.comparison(lines))
    print(f"\nWritten to {config.out}. Next: launch/run.sh experiments.weight_uncertainty.pruning")


if __name__ == "__main__":
    cli.run(main, Config)
