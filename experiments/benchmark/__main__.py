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
import os
import time
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jax.sharding import Mesh

from experiments import cli
from experiments.benchmark.run import Bench, build, costs_file, predictions_file, run_missing
from experiments.benchmark.table import rows, table
from research.data.dataset import spread
from research.data.load import DataOptions, load
from research.metrics import format
from research.models.classifier import fresh
from research.models.network import NetworkOptions
from research.models.vgg import VGG16
from research.runtime.errors import UserError
from research.runtime.files import write_json, write_whole
from research.runtime.mesh import check_batch_size, data_mesh
from research.runtime.options import check_ranges
from research.runtime.run_folder import fingerprint, open_run
from research.training import recipe as recipes
from research.training.fit import TrainingOptions
from research.training.recipe import POINT, Recipe

NOT_DECIDING = ("out", "methods", "seeds", "save_seconds", "memory_gb")  # of a training's numbers


@cli.fixed("classes", "skip_bad_images")
@dataclass(frozen=True)
class Images(DataOptions):
    """Which images are loaded."""


@cli.fixed("model", "weights", "init", "train", "preprocess")
@dataclass(frozen=True)
class Network(NetworkOptions):
    """Which network is trained."""

    width: float = 0.25
    """scales VGG16's channels"""


@dataclass(frozen=True)
class Config:
    """Trains methods on the same splits and prints one table of what they are worth."""

    ood: str | None = None
    """images of another kind, named likewise; their test split is used"""
    methods: str | None = None
    """such as "point,swag,ensemble(point,num_members=3)"; default: all, and ensemble(point)"""
    seeds: int = 1
    """trainings of each method; each seed has its own splits, initial weights, order and noise"""
    out: Path | None = None
    """where to write; default: a folder in runs/ named after the data and these options"""
    test_limit: int | None = None
    """ask about at most so many images of the test splits"""
    corrupted_limit: int = 500
    """corrupt at most so many of them, 40 times each"""
    images: Images = field(default_factory=Images)
    network: Network = field(default_factory=Network)
    training: TrainingOptions = field(default_factory=TrainingOptions)


def get_recipes(methods: str | None) -> tuple[Recipe, ...]:
    """The recipes to compare, `point` first.

    Raises:
        UserError: no such method or option.
    """
    names = [name for name in recipes.method_names() if not recipes.is_wrapper(name)]
    named = recipes.parse(methods or ",".join([*names, "ensemble(point)"]))
    return tuple(dict.fromkeys((POINT, *named)))


def check(config: Config, mesh: Mesh) -> None:
    """Refuses options that are out of range.

    Raises:
        UserError: an option is refused.
    """
    check_ranges(config, above_0=("seeds", "test_limit", "corrupted_limit"))
    config.images.check()
    config.network.check()
    config.training.check()
    check_batch_size(config.training.batch_size, mesh)
    if config.ood == config.images.data:
        problem = "the same as `data`; name images of another kind"
        raise UserError("ood", problem, value=config.ood)


def open_bench(config: Config, directory: Path, mesh: Mesh, seed: int) -> Bench:
    """Loads a seed's data and makes its network.

    Raises:
        UserError: the data cannot be used.
    """
    images, network = config.images, config.network
    dataset = load(images, seed=seed, cache_dir=directory / "data")
    size, ood = dataset.test.images.shape[1], None
    if config.ood is not None:
        limit = config.test_limit or images.limit
        images = replace(images, data=config.ood, image_size=size, limit=limit)
        try:
            ood = load(images, seed=seed, cache_dir=directory / "data-ood").test.images
        except UserError as error:
            option = "ood" if error.option == "data" else error.option
            raise UserError(option, error.problem, error.way_out, value=error.value) from error
    head = network.resolved_head(size)
    vgg = VGG16(len(dataset.classes), head, network.width, network.dtype)
    test_index = spread(len(dataset.test.labels), config.test_limit)
    return Bench(
        seed,
        dataset,
        head,
        ood,
        fresh(dataset, vgg).model,
        config.training,
        test_index,
        test_index[spread(len(test_index), config.corrupted_limit)],
        directory / f"seed-{seed}",
        mesh,
    )


def _describe(bench: Bench, config: Config) -> dict[str, Any]:
    """The facts in the title of the table, kept for when nothing is left to load."""
    dataset = bench.dataset
    return {
        "name": dataset.name,
        "classes": dataset.classes,
        "given_splits": dataset.given_splits,
        "train": dataset.num_train,
        "valid": len(dataset.valid.labels),
        "test": len(bench.test_index),
        "corrupted": len(bench.corrupted_index),
        "ood_name": config.ood,
        "ood": None if bench.ood is None else len(bench.ood),
        "head": bench.head,
        "width": config.network.width,
        "epochs": config.training.epochs,
    }


def _read(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def main(config: Config) -> None:
    """Fits what is missing and prints the table.

    Raises:
        UserError: bad input; or, after the table, that a method could not be trained.
    """
    started = time.monotonic()
    wanted, mesh = get_recipes(config.methods), data_mesh()
    check(config, mesh)
    options = {name: v for name, v in cli.options_of(config).items() if name not in NOT_DECIDING}
    subject = Path(os.path.abspath(config.images.data)).stem.replace(":", "-")
    out = config.out or Path("runs") / f"benchmark-{subject}-{fingerprint(options)}"
    seeds = range(config.seeds)
    files = {(s, r): predictions_file(out / f"seed-{s}", r) for s in seeds for r in wanted}
    # Bad input raises in here, and leaves no trace; afterwards all work is kept.
    with open_run(out, options):
        todo = [key for key, path in files.items() if not path.exists()]
        if todo:
            opened = partial(open_bench, config, out, mesh)
            bench = opened(todo[0][0])
            for recipe in wanted:
                build(recipe, bench)
            write_json(out / "data.json", _describe(bench, config))
    failures = run_missing(todo, bench, opened) if todo else []

    all_rows = []
    for recipe in wanted:
        there = {seed: files[seed, recipe] for seed in seeds if files[seed, recipe].exists()}
        found = {seed: _read(path) for seed, path in there.items()}
        if found:
            costs = json.loads(costs_file(out, recipe).read_text())
            all_rows += rows(str(recipe), found, costs)
    data = json.loads((out / "data.json").read_text())
    text = table(all_rows, data)
    write_whole(out / "table.md", lambda part: part.write_text(text))
    result = {"data": data, "options": options, "seeds": config.seeds, "rows": all_rows}
    write_json(out / "result.json", result)
    print(text)
    if failures:
        raise UserError(
            None, f"{len(failures)} of {len(files)} trainings failed: {'; '.join(failures)}"
        )
    taken = format.duration(time.monotonic() - started)
    print(
        f"{out}: {len(wanted)} methods, {format.plural(config.seeds, 'seed')}, {taken}; numbers in "
        "result.json. More methods or --seeds with the same --out train only what is missing."
    )


if __name__ == "__main__":
    cli.run(main, Config)
