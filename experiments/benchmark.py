"""Which method is worth its cost on these images? Every method on the same splits, one table.

    launch/run.sh experiments.benchmark                        all methods on handwritten digits
    launch/run.sh experiments.benchmark --data tfds:fashion_mnist --ood tfds:mnist --seeds 3 \\
        --methods "point,swag,ensemble(point,num_members=3)" --limit 12000 --epochs 10

Trains a VGG16 by each method at each seed, and asks it about the test split, about images of
another kind (--ood), and about test images corrupted in 8 ways at 5 levels; prints accuracy, NLL,
ECE, Brier, AURC, OOD AUROC and FPR95 before and after temperature scaling, and what it all costs.
Writes result.json and table.md. The same command goes on where it stopped; more methods or seeds
in the same folder train only what is missing. Everything is compared with `point`, which is always
among the methods.
"""

import json
import math
import os
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import jax.numpy as jnp
import numpy as np
import optax

from experiments import cli
from experiments.benchmark_run import Bench, fit_point, measure_costs, predictions_file, run
from research import classifier as classifiers
from research import recipe as recipes
from research.data.corruptions import CORRUPTIONS, NUM_LEVELS
from research.data.load import load
from research.errors import UserError
from research.files import write_json, write_whole
from research.fit import Options, folder_name
from research.mesh import check_batch_size, data_mesh
from research.method import Method
from research.models.vgg import VGG16
from research.recipe import Given, Recipe
from research.report import words
from research.report.benchmark import rows, table
from research.run_folder import fingerprint, open_run

NOT_DECIDING = ("out", "methods", "seeds", "save_seconds", "memory_gb")  # of a training's numbers
ABOVE_0 = (
    *("seeds", "width", "epochs", "batch_size", "learning_rate", "patience"),
    *("test_limit", "corrupted_limit"),
)
FROM_0 = ("momentum", "weight_decay", "warmup_epochs", "crop", "save_seconds", "memory_gb")


@dataclass(frozen=True)
class Config:
    """Trains methods on the same splits and prints one table of what they are worth."""

    data: str = "digits"
    """digits, tfds:NAME, a folder of class folders (or of train/valid/test folders), or an .npz"""
    ood: str | None = None
    """images of another kind, named likewise; their test split is used"""
    methods: str | None = None
    """such as "point,swag,ensemble(point,num_members=3)"; default: all, and ensemble(point)"""
    seeds: int = 1
    """trainings of each method; each seed has its own splits, initial weights, order and noise"""
    out: Path | None = None
    """where to write; default: a folder in runs/ named after the data and these options"""
    width: float = 0.25
    """scales VGG16's channels"""
    head: Literal["published", "asker", "cifar"] | None = None
    """VGG16's head; default: asker from 128 pixels up, else cifar"""
    image_size: int | None = None
    """side in pixels; default: the data's"""
    bfloat16: bool = False
    """compute in bfloat16, keep parameters in float32"""

    limit: int | None = None
    """at most so many images in each split"""
    test_limit: int | None = None
    """ask about at most so many images of the test splits"""
    corrupted_limit: int = 2000
    """corrupt at most so many of them"""
    data_dir: str | None = None
    """where TFDS sets lie; default: TFDS_DATA_DIR"""
    memory_gb: float = 4.0
    """decoded images beyond this are streamed"""

    epochs: float = 15.0
    """of point; other methods take their multiples of it"""
    batch_size: int = 32
    """images a step"""
    optimizer: Literal["adam", "sgd"] = "adam"
    """adam (decoupled weight decay), or sgd with momentum"""
    learning_rate: float = 1e-3
    """the peak"""
    momentum: float = 0.9
    """of sgd"""
    weight_decay: float = 1e-4
    """on kernels, not on biases"""
    schedule: Literal["cosine", "step", "constant"] = "cosine"
    """of the learning rate, after the warm-up"""
    warmup_epochs: float = 1.0
    """the learning rate rises linearly from 0"""
    patience: int = 10
    """epochs without a better validation NLL before stopping"""
    flip: bool = False
    """augmentation: random horizontal flips"""
    crop: int = 0
    """augmentation: pad by so many pixels and crop at random"""
    save_seconds: float = 30.0
    """at least so long between checkpoints"""


def get_recipes(methods: str | None) -> tuple[Recipe, ...]:
    """The recipes to compare, `point` first.

    Raises:
        UserError: no such method or option.
    """
    names = [name for name in recipes.method_names() if not recipes.is_wrapper(name)]
    asked = recipes.parse(methods or ",".join([*names, "ensemble(point)"]))
    return tuple(dict.fromkeys((Recipe("point"), *asked)))


def check(config: Config, mesh) -> None:
    """Refuses numbers out of range.

    Raises:
        UserError: one is.
    """
    for name, value in asdict(config).items():
        if name in ABOVE_0 and value is not None and not 0 < value < math.inf:
            raise UserError(f"--{name} {value}: give a number above 0")
        if name in FROM_0 and not 0 <= value < math.inf:
            raise UserError(f"--{name} {value}: give 0 or more")
    check_batch_size(config.batch_size, mesh)
    if config.ood == config.data:
        raise UserError(f"--ood {config.ood}: the same as --data; name images of another kind")


def _spread(n: int, most: int | None) -> np.ndarray:
    """At most so many numbers below n, evenly spaced: classes may lie one after another."""
    return np.unique(np.linspace(0, n - 1, min(n, most or n)).astype(int))


def open_bench(config: Config, seed: int, directory: Path, mesh) -> Bench:
    """Loads a seed's data and makes its network.

    Raises:
        UserError: the data cannot be used.
    """
    reading = {
        "seed": seed,
        "data_dir": config.data_dir,
        "memory_gb": config.memory_gb,
    }
    dataset = load(
        config.data,
        image_size=config.image_size,
        limit=config.limit,
        cache_dir=directory / "data",
        **reading,
    )
    size, outside = dataset.test.images.shape[1], None
    if config.ood is not None:
        limit = config.test_limit or config.limit
        folder = directory / "data-ood"
        try:
            found = load(config.ood, image_size=size, limit=limit, cache_dir=folder, **reading)
        except UserError as error:
            raise UserError(str(error).replace("--data", "--ood", 1)) from error
        outside = found.test.images
    head = config.head or ("asker" if size >= 128 else "cifar")
    dtype = jnp.bfloat16 if config.bfloat16 else None
    network = VGG16(len(dataset.classes), head, config.width, dtype)
    told = asdict(config)
    test_index = _spread(len(dataset.test.labels), config.test_limit)
    return Bench(
        seed,
        dataset,
        outside,
        classifiers.fresh(dataset, network).model,
        Options(**{name: told[name] for name in Options._fields}),
        test_index,
        test_index[_spread(len(test_index), config.corrupted_limit)],
        directory / f"seed-{seed}",
        mesh,
    )


def build(recipe: Recipe, bench: Bench) -> Method:
    """The method, to see before anything is trained that its options are right.

    Raises:
        UserError: they are not.
    """
    n, options = bench.dataset.num_train, bench.options
    per_epoch = max(1, n // options.batch_size)
    steps = round(options.epochs * recipes.training(recipe).epochs * per_epoch)
    rate = optax.constant_schedule(options.learning_rate)
    return recipes.build(recipe, Given(bench.model, optax.sgd(rate), rate, n, steps, per_epoch))


def expected_work(recipe: Recipe, bench: Bench) -> float:
    """About how many forward passes of an image training and asking take; for the time left."""
    method, dataset = build(recipe, bench), bench.dataset
    trained = bench.options.epochs * recipes.training(recipe).epochs * dataset.num_train
    asked = len(bench.test_index) + len(CORRUPTIONS) * NUM_LEVELS * len(bench.worse_index)
    return 3 * method.members * trained + (1 if method.together else method.num_draws) * asked


def _costs_file(directory: Path, recipe: Recipe) -> Path:
    return directory / "costs" / f"{folder_name(recipe)}.json"


def run_missing(todo: list[tuple[int, Recipe]], config: Config, first: Bench, out: Path) -> list:
    """Fits and asks what has no predictions yet, seed by seed.

    Returns:
        What went wrong, as sentences: a method that diverges does not stop the others.
    """
    work = {recipe: expected_work(recipe, first) for _, recipe in todo}
    total, done = sum(work[recipe] for _, recipe in todo), 0.0
    bench, point, failures, started = first, None, [], time.monotonic()
    for number, (seed, recipe) in enumerate(todo, start=1):
        if bench.seed != seed:
            bench, point = open_bench(config, seed, out, first.mesh), None
        told = f"[{number}/{len(todo)}] seed {seed}, {recipe}"
        print(f"{told}: training and asking", file=sys.stderr)
        point = point or fit_point(bench)
        try:
            fitted = run(recipe, bench, point)
            costs = _costs_file(out, recipe)
            if not costs.exists():
                image, size = bench.dataset.test.images.shape[1:], bench.options.batch_size
                method, trained = fitted.method, fitted.num_steps > 0
                measured = measure_costs(method, fitted.state, bench.model, image, size, trained)
                write_json(costs, measured)
        except UserError as error:
            failures.append(f"{recipe} at seed {seed}: {error}")
            print(f"{told}: failed: {error}", file=sys.stderr)
        done += work[recipe]
        taken = time.monotonic() - started
        left = words.duration(taken * (total - done) / done)
        print(f"{told}: done after {words.duration(taken)}; about {left} left", file=sys.stderr)
    return failures


def _title(config: Config, out: Path) -> tuple[str, bool]:
    facts = json.loads((out / "data.json").read_text())
    network = f"VGG16 with the {facts['head']} head, {config.width:g} of its width"
    other = f"; {words.count(facts['ood'])} images of {config.ood} as OOD" if config.ood else ""
    title = (
        f"{facts['name']}: {words.count(facts['train'])} training, {words.count(facts['valid'])} "
        f"validation and {words.count(facts['test'])} test images, "
        f"{words.count(facts['corrupted'])} of them corrupted{other}. {network}, "
        f"{config.epochs:g} epochs."
    )
    return title, not facts["given_splits"]


def _write_facts(bench: Bench, config: Config, out: Path) -> None:
    dataset = bench.dataset
    size = dataset.test.images.shape[1]
    facts = {
        "name": dataset.name,
        "classes": dataset.classes,
        "given_splits": dataset.given_splits,
        "train": dataset.num_train,
        "valid": len(dataset.valid.labels),
        "test": len(bench.test_index),
        "corrupted": len(bench.worse_index),
        "ood": None if bench.outside is None else len(bench.outside),
        "head": config.head or ("asker" if size >= 128 else "cifar"),
        "image_size": size,
    }
    write_json(out / "data.json", facts)


def _read(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def main(config: Config) -> None:
    """Fits what is missing and prints the table.

    Raises:
        UserError: bad input; or, after the table, that a method could not be trained.
    """
    started = time.monotonic()
    asked, mesh = get_recipes(config.methods), data_mesh()
    check(config, mesh)
    options = {name: v for name, v in asdict(config).items() if name not in NOT_DECIDING}
    subject = Path(os.path.abspath(config.data)).stem.replace(":", "-")
    out = config.out or Path("runs") / f"benchmark-{subject}-{fingerprint(options)}"
    seeds = range(config.seeds)
    files = {(s, r): predictions_file(out / f"seed-{s}", r) for s in seeds for r in asked}
    # Whatever is refused is refused in here, and leaves no trace; afterwards all work is kept.
    with open_run(out, options):
        todo = [each for each, path in files.items() if not path.exists()]
        if todo:
            bench = open_bench(config, todo[0][0], out, mesh)
            for recipe in asked:
                build(recipe, bench)
            _write_facts(bench, config, out)
    failures = run_missing(todo, config, bench, out) if todo else []

    all_rows = []
    for recipe in asked:
        found = {seed: _read(files[seed, recipe]) for seed in seeds if files[seed, recipe].exists()}
        if found:
            costs = json.loads(_costs_file(out, recipe).read_text())
            all_rows += rows(str(recipe), found, costs)
    title, own_splits = _title(config, out)
    text = table(all_rows, title, own_splits)
    write_whole(out / "table.md", lambda part: part.write_text(text))
    seconds = time.monotonic() - started
    result = {"title": title, "options": options, "seeds": config.seeds, "rows": all_rows}
    write_json(out / "result.json", result)
    print(text)
    if failures:
        raise UserError(f"{len(failures)} of {len(files)} trainings failed: {'; '.join(failures)}")
    print(
        f"{out}: {len(asked)} methods, {words.plural(config.seeds, 'seed')}, "
        f"{words.duration(seconds)}; numbers in result.json. More methods, or more --seeds, with "
        "the same --out train only what is missing."
    )


if __name__ == "__main__":
    cli.run(main, Config)
