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
import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np

from experiments import cli
from experiments.benchmark.run import POINT, Bench, build, costs_file, predictions_file, run_missing
from experiments.benchmark.table import rows, table
from research.data.dataset import spread
from research.data.load import load
from research.metrics import format
from research.models import classifier as classifiers
from research.models.vgg import VGG16
from research.runtime.errors import UserError
from research.runtime.files import write_json, write_whole
from research.runtime.mesh import check_batch_size, data_mesh
from research.runtime.run_folder import fingerprint, open_run
from research.training import recipe as recipes
from research.training.fit import TrainingOptions
from research.training.recipe import Recipe

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
    corrupted_limit: int = 500
    """corrupt at most so many of them, 40 times each"""
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
    schedule: Literal["cosine", "step", "linear", "constant"] = "cosine"
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
    return tuple(dict.fromkeys((POINT, *asked)))


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


def open_bench(config: Config, directory: Path, mesh, seed: int) -> Bench:
    """Loads a seed's data and makes its network.

    Raises:
        UserError: the data cannot be used.
    """
    reading = {"seed": seed, "data_dir": config.data_dir, "memory_gb": config.memory_gb}
    size, limit = config.image_size, config.limit
    dataset = load(
        config.data, image_size=size, limit=limit, cache_dir=directory / "data", **reading
    )
    size, outside = dataset.test.images.shape[1], None
    if config.ood is not None:
        limit, folder = config.test_limit or limit, directory / "data-ood"
        try:
            found = load(config.ood, image_size=size, limit=limit, cache_dir=folder, **reading)
        except UserError as error:
            raise UserError(str(error).replace("--data", "--ood", 1)) from error
        outside = found.test.images
    head = config.head or ("asker" if size >= 128 else "cifar")
    dtype = jnp.bfloat16 if config.bfloat16 else None
    network = VGG16(len(dataset.classes), head, config.width, dtype)
    test_index = spread(len(dataset.test.labels), config.test_limit)
    return Bench(
        seed,
        dataset,
        head,
        outside,
        classifiers.fresh(dataset, network).model,
        TrainingOptions.of(config),
        test_index,
        test_index[spread(len(test_index), config.corrupted_limit)],
        directory / f"seed-{seed}",
        mesh,
    )


def _describe(bench: Bench, config: Config) -> dict[str, Any]:
    """What the title of the table tells, for when nothing is left to load."""
    dataset = bench.dataset
    return {
        "name": dataset.name,
        "classes": dataset.classes,
        "given_splits": dataset.given_splits,
        "train": dataset.num_train,
        "valid": len(dataset.valid.labels),
        "test": len(bench.test_index),
        "corrupted": len(bench.worse_index),
        "ood_name": config.ood,
        "ood": None if bench.outside is None else len(bench.outside),
        "head": bench.head,
        "width": config.width,
        "epochs": config.epochs,
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
            opened = partial(open_bench, config, out, mesh)
            bench = opened(todo[0][0])
            for recipe in asked:
                build(recipe, bench)
            write_json(out / "data.json", _describe(bench, config))
    failures = run_missing(todo, bench, opened) if todo else []

    all_rows = []
    for recipe in asked:
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
        raise UserError(f"{len(failures)} of {len(files)} trainings failed: {'; '.join(failures)}")
    taken = format.duration(time.monotonic() - started)
    print(
        f"{out}: {len(asked)} methods, {format.plural(config.seeds, 'seed')}, {taken}; numbers in "
        "result.json. More methods or --seeds with the same --out train only what is missing."
    )


if __name__ == "__main__":
    cli.run(main, Config)
