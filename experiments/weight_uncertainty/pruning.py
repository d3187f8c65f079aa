"""How many weights can go? Table 2 and Figure 4: pruning by signal to noise.

    launch/run.sh experiments.weight_uncertainty.pruning
    launch/run.sh experiments.weight_uncertainty.pruning --preset paper

Removes the weights of lowest |μ|/σ from the last network of the scale mixture (μ and σ both set to
0), and for comparison the smallest weights of the plain and the dropout network. Networks come from
`classification` in the same folder, or are trained now. Expected at --preset paper: 1.24 % error at
0 to 75 % removed, 1.29 % at 95 %, 1.39 % at 98 %.

The paper calls the ratio's axis dB and does not define it; here it is 20 log10(|μ|/σ), the
decibels of an amplitude.
"""

from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np

from experiments import cli
from experiments.weight_uncertainty import mnist, records
from experiments.weight_uncertainty.classification import interval
from experiments.weight_uncertainty.figures import draw_pruning, draw_ratios
from experiments.weight_uncertainty.records import Target
from experiments.weight_uncertainty.rows import is_bayes, label, mean_network, row_of, split
from experiments.weight_uncertainty.training import (
    Cell,
    TrainingConfig,
    configuration,
    is_as_paper,
    load,
    resolve,
    train_cell,
)
from research.method import Method
from research.methods.point import point
from research.posteriors import mean_field
from research.posteriors.parameters import join
from research.posteriors.predictive import predictor
from research.runtime.errors import UserError
from research.runtime.mesh import data_mesh
from research.runtime.run_folder import open_run

PAPER = {0.0: 1.24, 0.5: 1.24, 0.75: 1.24, 0.95: 1.29, 0.98: 1.39}
WITHIN = {0.0: 0.2, 0.5: 0.2, 0.75: 0.2, 0.95: 0.2, 0.98: 0.4}  # points above the paper's error
SWEEP = (0.0, 0.25, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.925, 0.95, 0.96, 0.97, 0.98, 0.99, 0.995)
DECIBELS = np.linspace(-60, 40, 201)


@dataclass(frozen=True)
class Config(TrainingConfig):
    """Reproduces Table 2 and Figure 4."""

    units: int | None = None
    """of each hidden layer; default: the preset's widest"""
    methods: str = "mixture,sgd,dropout"
    """rows of Table 1 to prune, as `classification` names them"""
    out: Path = Path("runs/weight_uncertainty")
    """folder of the run of `classification`"""


def prune_by_size(params: dict, fraction: float) -> dict:
    """Sets the smallest weights of a plain network to 0.

    Args:
        params: nested dicts of arrays.
        fraction: share of all weights together, from 0 to 1.
    """
    sizes = np.abs(np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(params)]))
    count = round(fraction * sizes.size)
    threshold = np.inf if count == sizes.size else np.partition(sizes, count)[count]
    return jax.tree.map(lambda leaf: np.where(np.abs(leaf) < threshold, 0.0, leaf), params)


def _flat(leaves: dict[str, jax.Array]) -> np.ndarray:
    return np.concatenate([np.ravel(leaf) for leaf in leaves.values()])


def decibels(posterior: mean_field.MeanField) -> np.ndarray:
    """20 log10(|μ|/σ) of every weight, -inf where μ is 0."""
    with np.errstate(divide="ignore"):
        return 20 * np.log10(_flat(mean_field.signal_to_noise(posterior)))


def valley(density: np.ndarray, centres: np.ndarray) -> float | None:
    """Where a density with two modes is lowest between them; None where it has one mode.

    Args:
        density: its values at `centres`; they are smoothed here over five neighbours.
        centres: increasing values.
    """
    smooth = np.convolve(density, np.ones(5) / 5, mode="same")
    inner = smooth[1:-1]
    peaks = 1 + np.flatnonzero((inner >= smooth[:-2]) & (inner > smooth[2:]))
    peaks = peaks[smooth[peaks] > 0.02 * smooth.max()]
    if len(peaks) < 2:
        return None
    first, second = sorted(peaks[np.argsort(smooth[peaks])[-2:]])
    lowest = first + int(np.argmin(smooth[first : second + 1]))
    is_deep = smooth[lowest] < 0.95 * min(smooth[first], smooth[second])
    return float(centres[lowest]) if is_deep else None


def curve(cell: Cell, images: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Test errors [levels, seeds] of the average over draws and of the mean weights."""
    plain = point(mnist.network(cell.units), None)
    has_posterior = is_bayes(row_of(cell.method))

    def forward(apply_method: Method):
        return predictor(apply_method, jax.random.key(11), 1_000 * data_mesh().size, data_mesh())

    def draw(key, posterior, index):
        return join(mean_field.sample(jax.random.fold_in(key, index), posterior), {})

    drawn = plain._replace(draw=draw, num_draws=cell.size.draws)
    of_draws = forward(drawn)
    of_mean = forward(plain._replace(draw=lambda key, params, index: params))
    errors = {"error": [], "mean_error": []}
    for fraction in SWEEP:
        here = {name: [] for name in errors}
        for seed in range(len(cell.swept.best_epoch)):
            state = jax.tree.map(lambda leaf, s=seed: leaf[s], cell.swept.last)
            if has_posterior:
                pruned = mean_field.prune(state.posterior, fraction)
                log_probs = np.logaddexp.reduce(of_draws(pruned, images), axis=0)
                here["error"].append(np.mean(np.argmax(log_probs, axis=-1) != labels))
                params = join(pruned.mean, {})
            else:
                params = prune_by_size(mean_network(state), fraction)
            log_probs = of_mean(params, images)[0]
            here["mean_error"].append(np.mean(np.argmax(log_probs, axis=-1) != labels))
        for name, values in here.items():
            errors[name].append(values or here["mean_error"])
    return {name: np.array(values) for name, values in errors.items()}


def rows(cell: Cell, errors: np.ndarray, num_images: int, as_paper: bool) -> list[dict]:
    """The rows of result.json: the test error in % at every level of `SWEEP`.

    Args:
        cell: what was pruned.
        errors: test errors [levels, seeds].
        num_images: in the test split.
        as_paper: whether the training follows the paper's protocol.
    """
    title = f"{row_of(cell.method).title}, {cell.units} units"
    has_target = cell.method.startswith("mixture") and cell.units == 1200
    lines = []
    for level, values in zip(SWEEP, errors, strict=True):
        ours, low, high = (100 * x for x in interval(values, num_images))
        target = None
        if has_target and level in PAPER:
            target = Target(PAPER[level], WITHIN[level], as_paper)
        removed = f"{100 * level:g} % removed"
        lines.append(records.row("2", title, removed, ours, low, high, target))
    return lines


def ratios_of(posterior: mean_field.MeanField) -> tuple[dict, dict[str, np.ndarray]]:
    """The density of the signal-to-noise ratio: numbers for the JSON file, and arrays to draw."""
    ratios = decibels(posterior)
    density, edges = np.histogram(ratios, DECIBELS, density=True)
    centres = (edges[1:] + edges[:-1]) / 2
    numbers = {
        "valley_decibels": valley(density, centres),
        "median_sd": float(np.median(_flat(mean_field.sigma(posterior)))),
    }
    cut = np.quantile(ratios, 0.75)
    return numbers, {"decibels": centres, "density": density, "cut": cut}


def main(config: Config) -> None:
    """Trains what is missing, prunes, draws and writes.

    Raises:
        UserError: bad input.
    """
    units = max(resolve(config).units) if config.units is None else config.units
    if units < 1:
        raise UserError("units", "give a whole number, 1 or more", value=units)
    names = split(config.methods)
    for name in names:
        row_of(name)
    digits = load(config)
    test = digits.data.test
    with open_run(config.out, configuration(config)) as directory:
        for name in names:
            cell = train_cell(name, units, config, digits.data, directory)
            errors = curve(cell, test.images, test.labels)
            lines = rows(cell, errors["error"], len(test.labels), is_as_paper(config))
            found, arrays = {"rows": lines, "units": units}, {"removed": np.array(SWEEP), **errors}
            if is_bayes(row_of(name)):
                state = jax.tree.map(lambda leaf: leaf[0], cell.swept.last)
                numbers, densities = ratios_of(state.posterior)
                found, arrays = found | numbers, arrays | densities
            records.write(directory, f"pruning-{label(name)}", found, arrays)
        drawn = records.read(directory, "pruning-")
        draw_pruning(directory / "table2.png", drawn)
        draw_ratios(directory / "figure4.png", drawn)
    print(records.comparison([line for record in drawn for line in record.found["rows"]]))
    for record in drawn:
        if "valley_decibels" in record.found:
            place = record.found["valley_decibels"]
            modes = "one mode" if place is None else f"two modes with the valley at {place:.1f} dB"
            print(f"\n{record.name}: the density of 20 log10(|μ|/sd) has {modes}.")
            print(f"Half of the weights have an sd below {record.found['median_sd']:.2g}.")
    print(f"\nWritten to {config.out}.")
    print("Next: launch/run.sh experiments.weight_uncertainty.regression")


if __name__ == "__main__":
    cli.run(main, Config)
