"""What `experiments.diagnose` can be told, and what contradicts itself.

An option that would do nothing is refused: whoever gave it believes that it does something.
"""

import math
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Literal

from research.calibrators.fit import parse as calibrators
from research.runtime.errors import UserError
from research.training.recipe import options_of, parse

PRESETS = {"quick": {"width": 0.25, "epochs": 15}, "full": {"width": 1.0, "epochs": 100}}
ABOVE_0 = ("batch_size", "epochs", "width", "learning_rate", "dropout_samples", "patience")
FROM_0 = (
    "seed",
    "crop",
    "momentum",
    "weight_decay",
    "warmup_epochs",
    "save_seconds",
    "memory_gb",
    "budget",
)
TRAINING = (
    *("preset", "epochs", "batch_size", "optimizer", "learning_rate", "momentum", "weight_decay"),
    *("schedule", "warmup_epochs", "patience", "save_seconds", "flip", "crop"),
)
WITH_PREDICTIONS = (
    *("predictions", "out", "overwrite", "seed", "label_column", "logits"),
    *("calibrate", "max_error"),
)


@dataclass(frozen=True)
class Config:
    """How sure may this classifier be?

    Trains or imports a classifier, judges it on images that it has not seen: as it is, with Monte
    Carlo dropout, after temperature scaling. Writes a page: what it claims, what it delivers.
    """

    data: str = "digits"
    """digits, tfds:NAME, a folder of class folders (or of train/valid/test folders), or an .npz"""
    model: Path | None = None
    """your own saved Keras model (.keras or .h5) to judge"""
    weights: str | None = None
    """ImageNet weights to start from: imagenet, or a .h5 or .safetensors file"""
    predictions: Path | None = None
    """predictions of any classifier (.npz or .csv) to judge; no images needed"""
    out: Path | None = None
    """where to write; default: a folder in runs/ named after the data and these options"""
    overwrite: bool = False
    """replace an earlier run of other options in --out"""
    preset: Literal["quick", "full"] = "quick"
    """quick: a quarter of VGG16's width, 15 epochs; full: all of it, 100 epochs"""
    seed: int = 0
    """decides splits, initial weights, order and noise"""

    methods: str | None = None
    """cures to train and judge besides: names and options, such as
    swag,ensemble(bayes_by_backprop(estimator=local),num_members=3)"""
    calibrate: str | None = None
    """calibrators to fit besides temperature: vector, platt, isotonic, histogram; default: platt
    where there are two classes"""
    budget: float = 0.0
    """minutes for cures of the whole network (swag, an ensemble, Bayes by Backprop); the head's
    take seconds and are tried wherever they fit a cause that was found"""
    max_error: float = 0.05
    """find how much to refuse so that the rest is wrong at most so often, with 95 % certainty"""
    bayes: Literal["head", "last", "all"] | None = None
    """which weights are uncertain, in the methods that can choose; default: each method's own"""
    init: Path | None = None
    """trained weights (weights.safetensors of an earlier run) instead of training the network"""

    train: Literal["none", "head", "all"] | None = None
    """which weights to train; default: none with --model, head with --weights, else all"""
    head: Literal["published", "asker", "cifar"] | None = None
    """VGG16's head; default: asker from 128 pixels up, else cifar"""
    width: float | None = None
    """scales VGG16's channels; default: the preset's"""
    image_size: int | None = None
    """side in pixels; default: the model's own, 224 with --weights, else the data's"""
    preprocess: Literal["caffe", "unit", "symmetric", "torch", "raw"] | None = None
    """what --model wants done to the pixels; default: what its file says, or fits best"""
    bfloat16: bool = False
    """compute in bfloat16, keep parameters in float32"""

    classes: str | None = None
    """only images of these classes, separated by commas; default: all"""
    compare: Path | None = None
    """a folder of images that it is asked about now, without labels: are they of the same kind?"""
    limit: int | None = None
    """at most so many images in each split"""
    data_dir: str | None = None
    """where TFDS sets lie; default: TFDS_DATA_DIR"""
    skip_bad_images: bool = False
    """go on without images that cannot be read"""
    memory_gb: float = 4.0
    """decoded images beyond this are streamed"""
    label_column: str = "label"
    """of a .csv of --predictions: name, or number from 0"""
    logits: bool = False
    """the columns of a .csv of --predictions are logits"""

    epochs: int | None = None
    """default: the preset's"""
    batch_size: int = 32
    """images a step"""
    optimizer: Literal["adam", "sgd"] = "adam"
    """adam (decoupled weight decay), or sgd with momentum"""
    learning_rate: float | None = None
    """the peak; default: 1e-3, or 1e-4 when all of a trained network is trained further"""
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
    save_seconds: float = 30.0
    """at least so long between checkpoints"""
    flip: bool = False
    """augmentation: random horizontal flips"""
    crop: int = 0
    """augmentation: pad by so many pixels and crop at random"""
    dropout_samples: int = 30
    """draws of Monte Carlo dropout"""


def _refuse(config: Config, names, why: str) -> None:
    """Raises a `UserError` where one of these options was given: it would do nothing."""
    for field in fields(config):
        if field.name in names and getattr(config, field.name) != field.default:
            raise UserError(f"--{field.name}: {why}; leave it out")


def _method_options(config: Config) -> list[dict]:
    recipes = parse(config.methods) if config.methods else ()
    return [options_of(recipe.base.name) for recipe in recipes]


def _check_ranges(config: Config) -> None:
    for field in fields(config):
        name, value = field.name, getattr(config, field.name)
        if value is None or name not in ABOVE_0 + FROM_0:
            continue
        if name in ABOVE_0 and not 0 < value < math.inf:
            raise UserError(f"--{name} {value}: give a number above 0")
        if name in FROM_0 and not 0 <= value < math.inf:
            raise UserError(f"--{name} {value}: give 0 or more")
    if not 0 < config.max_error < 1:
        raise UserError(f"--max_error {config.max_error}: give a number between 0 and 1")
    if config.seed >= 2**32:
        raise UserError(f"--seed {config.seed}: give less than 2^32")


def _check_together(config: Config, kind: str) -> None:
    given = [n for n in ("model", "weights", "predictions") if getattr(config, n) is not None]
    if len(given) > 1:
        raise UserError(f"--{given[0]} and --{given[1]}: give one of them")
    if config.predictions:
        others = {field.name for field in fields(config)} - set(WITH_PREDICTIONS)
        _refuse(config, others, "does nothing with --predictions")
        return
    _refuse(config, ("label_column", "logits"), "goes with --predictions")
    if kind == "none" and not config.model:
        raise UserError("--train none: needs a whole trained network; give --model")
    if kind == "head" and not (config.model or config.weights):
        raise UserError("--train head: needs a trained network below it; give --model or --weights")
    if (kind == "none" or config.init) and not config.methods:
        _refuse(config, TRAINING, "trains nothing without --train head or all, or --methods")
    if config.init and kind == "none":
        raise UserError("--init: the weights are in --model already; leave it out")
    if config.bayes and not any("bayes" in options for options in _method_options(config)):
        raise UserError(f"--bayes {config.bayes}: no method of --methods can choose; leave it out")
    if kind != "all" and config.budget:
        raise UserError("--budget: all below the head is frozen here; add --train all")
    if kind == "head" and (config.flip or config.crop):
        raise UserError("--flip, --crop: a head is trained on fixed features; add --train all")
    if config.model:
        _refuse(config, ("head", "width"), "--model brings its own network")
    else:
        _refuse(config, ("preprocess",), "goes with --model")
    if config.weights and config.width not in (None, 1.0):
        raise UserError(f"--width {config.width}: --weights have the full width; leave it out")


def resolve(config: Config) -> Config:
    """Fills in what was left open and refuses what contradicts itself.

    Raises:
        UserError: options that do not go together, or are out of range.
    """
    kind = config.train or ("none" if config.model else "head" if config.weights else "all")
    _check_ranges(config)
    _check_together(config, kind)
    calibrators(config.calibrate or "")
    parse(config.methods or "point")
    preset = PRESETS[config.preset]
    is_further = kind == "all" and (config.model or config.weights)
    return replace(
        config,
        train=kind,
        width=1.0 if config.weights else config.width or preset["width"],
        epochs=config.epochs or preset["epochs"],
        learning_rate=config.learning_rate or (1e-4 if is_further else 1e-3),
    )
