"""What does uncertainty cost here? Training steps and predictions as ratios, measured in one run.

    launch/run.sh experiments.speed

Each estimator's training step against the plain one, S draws against S forward passes, M members
against M runs, and XLA's convolution against patches (`models/convolution.py`). All of a group run
in turn, so that ratios hold on a busy machine; each is the median over the rounds. About 6 minutes
on 2 CPU cores. `--out DIR` also writes result.json.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm import tqdm

from experiments import cli
from experiments.markdown import markdown
from research.method import Batch, Method, Model
from research.models import chain, convolution
from research.models.layers import Dense
from research.models.preprocess import PREPROCESS
from research.models.vgg import VGG16
from research.posteriors.predictive import predictor
from research.runtime.errors import UserError
from research.runtime.files import write_json
from research.runtime.mesh import check_batch_size, data_mesh
from research.runtime.run_folder import commit, versions
from research.training.loop import initialise
from research.training.recipe import Context, build, parse

ESTIMATORS = {
    name: f"bayes_by_backprop(estimator={name},prior=gaussian)"
    for name in ("shared", "local", "flipout")
}
SPLITS = {"MLP": 10_000, "VGG16": 1_024}  # images that S draws are applied to: MNIST's test split
TARGETS = {  # of the ratio of a training step, at most; None: no target
    "MLP": {"local": 3.0, "shared": 5.0, "flipout": None, "ensemble": 0.5},
    "VGG16": {"local": None, "shared": 1.35, "flipout": 2.3, "ensemble": None},
}
TITLES = ("what", "against", "time", "ratio", "target")
OPTIONS = ("width", "units", "batch_size", "draws", "members", "repeats")


@dataclass(frozen=True)
class Config:
    """What does uncertainty cost here?"""

    out: Path | None = None
    """where to write result.json"""
    width: float = 1.0
    """scales VGG16's channels"""
    units: int = 1200
    """units of each of the two hidden layers of the dense network"""
    batch_size: int = 128
    """images a step"""
    draws: int = 10
    """draws of a prediction, S"""
    members: int = 3
    """members of an ensemble, M"""
    repeats: int = 7
    """timed rounds; the median is printed"""


class Row(NamedTuple):
    """One comparison."""

    name: str
    seconds: float  # the median
    ratio: float
    against: str
    target: float | None  # the ratio is at most this; None: there is no target
    met: bool | None


class Comparison(NamedTuple):
    """Something to time against `times` runs of something else."""

    name: str
    run: Callable[[], object]
    against: str
    target: float | None
    times: float = 1.0


def compare(
    baselines: dict[str, Callable[[], object]],
    comparisons: list[Comparison],
    repeats: int,
    bar: tqdm,
) -> list[Row]:
    """Runs everything in turn, the first round untimed.

    Args:
        baselines: by the names that the comparisons are against.
        comparisons: what to time.
        repeats: number of timed rounds.
        bar: advanced by one each round.
    """
    runs = baselines | {comparison.name: comparison.run for comparison in comparisons}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(repeats + 1):
        for name, run in runs.items():
            started = time.perf_counter()
            jax.block_until_ready(run())
            if number:
                seconds[name].append(time.perf_counter() - started)
        bar.update()
    rows = []
    for name, _, against, target, times in comparisons:
        ratio = float(np.median(np.divide(seconds[name], seconds[against]) / times))
        met = None if target is None else ratio <= target
        rows.append(Row(name, statistics.median(seconds[name]), ratio, against, target, met))
    return rows


def mlp(units: int) -> Model:
    """784-units-units-10."""
    layers = (
        Dense("hidden1", units, "relu"),
        Dense("hidden2", units, "relu"),
        Dense("predictions", 10),
    )
    return chain.as_model(chain.Chain(layers))


def vgg(width: float) -> Model:
    """VGG16 for 32x32 images."""
    return chain.as_model(VGG16(10, "cifar", width), PREPROCESS["torch"])


def make(recipe: str, model: Model) -> Method:
    """A method as training builds it; its schedules do not matter here."""
    return build(parse(recipe)[0], Context(model, 60_000, 1, 1, optax.adam(1e-3), lambda _: 1e-3))


def stepper(method: Method, images: jax.Array) -> Callable[[], object]:
    """Takes training steps on one batch; buffers are donated as in training."""
    repeated = jnp.tile(images, (method.members, *(1,) * (images.ndim - 1)))
    batch = Batch(repeated, jnp.zeros(len(repeated), jnp.int32))
    held = [initialise(method, jax.random.key(0), images[:1], data_mesh())]
    step = jax.jit(method.step, donate_argnums=1)

    def run():
        held[0], metrics = step(jax.random.key(1), held[0], batch)
        return metrics

    run()  # compiles
    return run


def training_rows(config: Config, name: str, model: Model, images, bar) -> list[Row]:
    """Each estimator's step, and an ensemble's, against the plain step."""
    plain, targets = f"{name}: point", TARGETS[name]
    comparisons = [
        Comparison(
            f"{name}: {estimator}", stepper(make(recipe, model), images), plain, targets[estimator]
        )
        for estimator, recipe in ESTIMATORS.items()
    ]
    target = 1.05 if jax.default_backend() == "cpu" else targets["ensemble"]
    ensemble = stepper(make(f"ensemble(point,num_members={config.members})", model), images)
    title = f"{name}: ensemble of {config.members}, a member"
    comparisons.append(Comparison(title, ensemble, plain, target, config.members))
    baselines = {plain: stepper(make("point", model), images)}
    return compare(baselines, comparisons, config.repeats, bar)


def prediction_rows(config: Config, name: str, model: Model, images, bar) -> list[Row]:
    """S draws against S forward passes of the point network, over a whole split."""
    several = np.resize(images, (SPLITS[name], *images.shape[1:]))

    def whole_split(recipe):
        method = make(recipe, model)
        predict = predictor(method, jax.random.key(0), config.batch_size, data_mesh())
        state = initialise(method, jax.random.key(0), images[:1], data_mesh())
        predict(state, several)  # compiles
        return lambda: predict(state, several)

    plain = f"{name}: forward"
    drawn = whole_split(f"bayes_by_backprop(prior=gaussian,num_samples={config.draws})")
    title = f"{name}: {config.draws} draws over {SPLITS[name]:,} images, a draw"
    comparison = Comparison(title, drawn, plain, 1.1, config.draws)
    return compare({plain: whole_split("point")}, [comparison], config.repeats, bar)


def convolution_rows(config: Config, images, bar) -> list[Row]:
    """XLA's convolution everywhere, against patches on maps of 3x3 and less."""
    runs, usual = {}, convolution.LARGEST_PATCH_MAP
    for name, largest in (("VGG16: XLA's convolution", 0), ("VGG16: patches", usual)):
        convolution.LARGEST_PATCH_MAP = largest  # read while tracing
        runs[name] = stepper(make("point", vgg(config.width)), images)
    (name, run), (plain, baseline) = runs.items()
    return compare({plain: baseline}, [Comparison(name, run, plain, None)], config.repeats, bar)


def of_rows(rows: list[dict], titles: tuple[str, ...] = TITLES) -> str:
    """A Markdown table of rows of result.json; the times are those of the machine."""
    lines = []
    for row in rows:
        missed = " (missed)" if row["met"] is False else ""
        cells = {
            "what": row["name"],
            "against": row["against"],
            "time": f"{1e3 * row['seconds']:.1f} ms",
            "ratio": f"{row['ratio']:.2f}",
            "target": "" if row["target"] is None else f"at most {row['target']:g}{missed}",
        }
        lines.append([cells[title] for title in titles])
    return markdown(titles, lines)


def of_speed(result: dict) -> str:
    """The shorter table of a result.json, without the times."""
    rows = [row | {"against": row["against"].split(": ")[-1]} for row in result["rows"]]
    return of_rows(rows, tuple(title for title in TITLES if title != "time"))


def main(config: Config) -> None:
    """Measures, prints and writes.

    Raises:
        UserError: a number is not above 0, or the devices cannot share a batch.
    """
    for name in OPTIONS:
        if not (value := getattr(config, name)) > 0:
            raise UserError(name, "give a number above 0", value=value)
    check_batch_size(config.batch_size, data_mesh())
    shape = config.batch_size, 32, 32, 3
    photos = jax.random.randint(jax.random.key(0), shape, 0, 256).astype(jnp.uint8)
    digits = jax.random.uniform(jax.random.key(1), (config.batch_size, 784))
    with tqdm(total=5 * (config.repeats + 1), desc="measuring", unit="round", disable=None) as bar:
        rows = training_rows(config, "MLP", mlp(config.units), digits, bar)
        rows += prediction_rows(config, "MLP", mlp(config.units), digits, bar)
        rows += training_rows(config, "VGG16", vgg(config.width), photos, bar)
        rows += prediction_rows(config, "VGG16", vgg(config.width), photos, bar)
        rows += convolution_rows(config, photos, bar)
    device, rows = jax.devices()[0].device_kind, [row._asdict() for row in rows]
    print(
        f"{device}: MLP 784-{config.units}-{config.units}-10, VGG16 32x32 of width "
        f"{config.width:g}, batches of {config.batch_size}\n\n{of_rows(rows)}\n"
    )
    missed = [row["name"] for row in rows if row["met"] is False]
    print(f"Missed: {', '.join(missed)}" if missed else "All targets are met.")
    if config.out:
        options = {name: getattr(config, name) for name in OPTIONS}
        made = {"device": device, "commit": commit(), "versions": versions(), "options": options}
        write_json(config.out / "result.json", made | {"rows": rows})
        print(f"Written to {config.out / 'result.json'}")


if __name__ == "__main__":
    cli.run(main, Config)
