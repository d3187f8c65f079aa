"""Trains the rows of Table 1: a short search over hyper-parameters, then several seeds in full.

Both are sweeps (`research/training/sweep.py`): every combination, or every seed, is a run of one
compiled program. Hyper-parameters are chosen by the validation error. `pruning` takes its networks
from here.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.weight_uncertainty import mnist
from experiments.weight_uncertainty.rows import (
    ROWS,
    Hyper,
    Row,
    Size,
    is_bayes,
    label,
    mean_network,
    points,
    row_of,
    with_fixed,
)
from research.method import Batch, Method
from research.runtime.errors import UserError
from research.runtime.files import write_json
from research.runtime.mesh import data_mesh
from research.training.sweep import Data, SweepPlan, Swept, sweep

BATCH_SIZE = 128
UNITS = (400, 800, 1200)
EVALUATION_DRAWS = 10  # S
IMAGES_AT_ONCE = 1_000  # of an evaluation


@dataclass(frozen=True)
class TrainingConfig:
    """The options that decide the numbers of every run in a folder."""

    preset: Literal["quick", "paper"] = "quick"
    """quick: minutes on a CPU, far from the paper's length; paper: its protocol"""
    epochs: int | None = None
    """of the full trainings; default: the preset's"""
    search_epochs: int | None = None
    """of the search"""
    seeds: int | None = None
    """full trainings of each cell"""
    grid: Literal["few", "paper"] | None = None
    """what is searched: a few rates and priors, or the paper's whole grid"""
    data_dir: str | None = None
    """where TFDS sets lie; default: TFDS_DATA_DIR"""


class Preset(NamedTuple):
    """A preset's values."""

    epochs: int
    search_epochs: int
    seeds: int
    grid: str
    units: tuple[int, ...]
    methods: tuple[str, ...]
    train: int | None  # at most so many training images
    other: int | None  # and of validation, test and images of another kind


PRESETS = {
    "quick": Preset(8, 2, 2, "few", (400,), tuple(ROWS), 10_000, 2_000),
    "paper": Preset(600, 40, 5, "paper", UNITS, tuple(ROWS), None, None),
}


class Cell(NamedTuple):
    """A row of the table at one width, trained."""

    method: str
    units: int
    hyper: Hyper  # chosen
    train_draws: int
    size: Size
    searched: int  # combinations
    swept: Swept  # over the seeds
    parameters: int


def resolve(config: TrainingConfig) -> Preset:
    """The preset, with the values that the config changes.

    Raises:
        UserError: a number below 1.
    """
    preset = PRESETS[config.preset]
    for name in ("epochs", "search_epochs", "seeds"):
        value = getattr(config, name)
        if value is not None and value < 1:
            raise UserError(name, "give a whole number, 1 or more", value=value)
    changed = {
        name: getattr(config, name)
        for name in ("epochs", "search_epochs", "seeds", "grid")
        if getattr(config, name) is not None
    }
    return preset._replace(**changed)


def is_as_paper(config: TrainingConfig) -> bool:
    """Whether the trainings are the paper's protocol, and as long."""
    paper = PRESETS["paper"]
    return config.preset == "paper" and resolve(config).epochs >= paper.epochs


def configuration(config: TrainingConfig) -> dict[str, Any]:
    """What a folder's configuration holds; methods and widths can be added later."""
    preset = resolve(config)
    names = ("epochs", "search_epochs", "seeds", "grid", "train", "other")
    return {"preset": config.preset} | {name: getattr(preset, name) for name in names}


def evaluate(method: Method, key: jax.Array, state: Any, split: Batch) -> dict[str, jax.Array]:
    """Error and NLL of the average over draws, and the error of the mean network.

    Args:
        method: a classifier.
        key: of the draws.
        state: of the method.
        split: images [N, ...], labels [N].
    """

    # In parts, because a sweep evaluates hundreds of networks at once.
    def log_probs_of(network):  # [N, K]
        def one(image):
            return method.apply(network, image[None])[0]

        return jax.lax.map(one, split.images, batch_size=IMAGES_AT_ONCE)

    log_probs = jax.lax.map(
        lambda index: log_probs_of(method.draw(key, state, index)), jnp.arange(method.num_draws)
    )
    averaged = jax.nn.logsumexp(log_probs, axis=0) - jnp.log(method.num_draws)
    mean = log_probs_of(mean_network(state))
    picked = jnp.take_along_axis(averaged, split.labels[:, None], axis=-1)
    return {
        "error": jnp.mean(jnp.argmax(averaged, axis=-1) != split.labels),
        "nll": -jnp.mean(picked),
        "mean_error": jnp.mean(jnp.argmax(mean, axis=-1) != split.labels),
    }


def _sweep(
    row: Row, size: Size, hypers: list[Hyper], seeds, data: Data, plan: SweepPlan, directory: Path
) -> Swept:
    full = [with_fixed(row, hyper) for hyper in hypers]
    arrays = {name: np.array([hyper[name] for hyper in full]) for name in full[0]}

    def build(hyper):
        return row.build(hyper, size)

    return sweep(build, arrays, np.asarray(seeds), evaluate, data, plan, directory, data_mesh())


def train_cell(name: str, units: int, config: TrainingConfig, data: Data, directory: Path) -> Cell:
    """Searches and trains; goes on where an earlier call with the same folder stopped.

    Args:
        name: of a row, as `row_of` reads it.
        units: of each hidden layer.
        config: length of the search and of the trainings.
        data: the splits.
        directory: folder of the run.
    """
    row, preset = row_of(name), resolve(config)
    n = len(data.train.labels)
    folder = directory / "training" / f"{label(name)}-{units}"

    def size_of(epochs, train_draws):
        steps = epochs * (n // BATCH_SIZE)
        return Size(
            units, n, BATCH_SIZE, steps, EVALUATION_DRAWS if is_bayes(row) else 1, train_draws
        )

    grid = points(row.grid if preset.grid == "paper" else row.few)
    draws = (1, 2, 5, 10) if preset.grid == "paper" and is_bayes(row) else (1,)
    found = []
    for count in draws if len(grid) * len(draws) > 1 else ():
        title = f"{name} {units}: search" + f", {count} draws" * (len(draws) > 1)
        epochs = preset.search_epochs
        plan = SweepPlan(epochs, BATCH_SIZE, epochs, "error", title=title)
        size = size_of(preset.search_epochs, count)
        searching = folder / f"search-{count}"
        swept = _sweep(row, size, grid, [1000] * len(grid), data, plan, searching)
        errors = np.nan_to_num(swept.history["valid_error"][-1], nan=np.inf)
        found += [(error, hyper, count) for error, hyper in zip(errors, grid, strict=True)]
    _, hyper, count = min(found, key=lambda tried: tried[0]) if found else (0.0, grid[0], 1)

    size = size_of(preset.epochs, count)
    every, title = max(1, preset.epochs // 100), f"{name} {units}"
    plan = SweepPlan(preset.epochs, BATCH_SIZE, every, "error", title=title)
    seeds, hypers = range(preset.seeds), [hyper] * preset.seeds
    swept = _sweep(row, size, hypers, seeds, data, plan, folder / "full")
    kernels = jax.tree.leaves(mean_network(swept.last))
    parameters = sum(leaf[0].size for leaf in kernels)
    write_json(folder / "chosen.json", {"hyper": hyper, "train_draws": count})
    return Cell(name, units, hyper, count, size, len(found), swept, parameters)


def load(config: TrainingConfig) -> mnist.Digits:
    """The data at the preset's size.

    Raises:
        UserError: MNIST or Fashion-MNIST is not prepared.
    """
    preset = resolve(config)
    return mnist.load(config.data_dir, preset.train, preset.other)
