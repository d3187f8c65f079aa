"""How sure may this classifier be? From images, a model or predictions to an honest page.

    launch/run.sh experiments.diagnose                                   real handwritten digits
    launch/run.sh experiments.diagnose --data photos/                    train on class folders
    launch/run.sh experiments.diagnose --data photos/ --model my.keras   judge your Keras model
    launch/run.sh experiments.diagnose --predictions probs.csv           judge any predictions

Writes report.html, result.json, predictions.npz and config.json. With nothing given: 2 minutes or
so on 2 CPU cores, 95 to 99 % right on the digits' test split. The same command again goes on where
it stopped.
"""

import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp

from experiments import cli
from research import classifier as classifiers
from research.classifier import Classifier
from research.data.dataset import Dataset, Split
from research.data.load import load
from research.data.predictions import read_predictions
from research.errors import UserError
from research.judge import judge_classifier, judge_predictions
from research.mesh import data_mesh
from research.methods.point import point
from research.models.pretrained import import_keras
from research.models.vgg import VGG16
from research.optimizer import learning_rate_schedule, make_optimizer
from research.report.result import describe_data, describe_model, describe_predictions
from research.report.write import write_report
from research.run_folder import fingerprint, open_run
from research.train import Settings, train

EVALUATION_BATCH = 32
PRESETS = {"quick": {"width": 0.25, "epochs": 15}, "full": {"width": 1.0, "epochs": 100}}


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

    train: Literal["none", "head", "all"] | None = None
    """which weights to train; default: none with --model, head with --weights, else all"""
    head: Literal["published", "asker", "cifar"] | None = None
    """VGG16's head; default: asker from 128 pixels up, else cifar"""
    width: float | None = None
    """scales VGG16's channels; default: the preset's"""
    image_size: int | None = None
    """side in pixels; default: the model's own, 224 with --weights, else the data's"""
    preprocess: Literal["caffe", "unit", "symmetric", "torch", "none"] | None = None
    """what --model wants done to the pixels; default: what its file says, or fits best"""
    bfloat16: bool = False
    """compute in bfloat16, keep parameters in float32"""

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
    schedule: Literal["cosine", "step", "constant"] = "cosine"
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


def resolve(config: Config) -> Config:
    """Fills in what was left open and refuses what contradicts itself.

    Raises:
        UserError: options that do not go together, or are out of range.
    """
    given = [n for n in ("model", "weights", "predictions") if getattr(config, n) is not None]
    if len(given) > 1:
        raise UserError(f"--{given[0]} and --{given[1]}: give one of them")
    for name in ("batch_size", "epochs", "width", "learning_rate", "dropout_samples", "patience"):
        value = getattr(config, name)
        if value is not None and value <= 0:
            raise UserError(f"--{name} {value}: must be above 0")
    kind = config.train or ("none" if config.model else "head" if config.weights else "all")
    if not config.model and (kind == "none" or (kind == "head" and not config.weights)):
        raise UserError(f"--train {kind}: needs a trained network; give --model or --weights")
    if kind == "head" and (config.flip or config.crop):
        raise UserError("--flip, --crop: a head is trained on fixed features; add --train all")
    if config.weights and config.width not in (None, 1.0):
        raise UserError(f"--width {config.width}: --weights have the full width; leave it out")
    preset = PRESETS[config.preset]
    is_further = kind == "all" and (config.model or config.weights)
    return replace(
        config,
        train=kind,
        width=1.0 if config.weights else config.width or preset["width"],
        epochs=config.epochs or preset["epochs"],
        learning_rate=config.learning_rate or (1e-4 if is_further else 1e-3),
    )


def get_classifier(config: Config, directory: Path, mesh) -> tuple[Classifier, Dataset]:
    """Loads the images, and builds or imports what is judged."""
    imported = import_keras(config.model) if config.model else None
    own_size = imported.image_size if imported else 224 if config.weights else None
    if imported and own_size and config.image_size not in (None, own_size):
        raise UserError(
            f"--image_size {config.image_size}: {config.model} takes images of {own_size} pixels; "
            "leave the option out"
        )
    dataset = load(
        config.data,
        image_size=config.image_size or own_size,
        seed=config.seed,
        limit=config.limit,
        data_dir=config.data_dir,
        cache_dir=directory / "data",
        memory_gb=config.memory_gb,
        skip_bad_images=config.skip_bad_images,
    )
    work = classifiers.Work(evaluation_batch(mesh), directory / "features", mesh)
    dtype = jnp.bfloat16 if config.bfloat16 else None
    if imported:
        options = config.model, config.preprocess, config.train, dtype
        return classifiers.from_keras(dataset, imported, *options, work), dataset
    head = config.head or ("asker" if dataset.test.images.shape[1] >= 128 else "cifar")
    network = VGG16(len(dataset.classes), head, config.width, dtype)
    if config.weights:
        is_head = config.train == "head"
        return classifiers.from_weights(dataset, network, config.weights, is_head, work), dataset
    return classifiers.fresh(dataset, network), dataset


def evaluation_batch(mesh) -> int:
    """A batch that the devices can share."""
    return -(-EVALUATION_BATCH // mesh.size) * mesh.size


def fit(config: Config, classifier: Classifier, key: jax.Array, directory: Path, mesh):
    """Trains, unless the classifier is trained already.

    Returns:
        The weights, and what training took (None where there was none).
    """
    if classifier.params is not None:
        return classifier.params, None
    steps_per_epoch = max(1, classifier.dataset.num_train // config.batch_size)
    num_steps = config.epochs * steps_per_epoch
    warmup_steps = min(round(config.warmup_epochs * steps_per_epoch), num_steps // 2)
    schedule = learning_rate_schedule(
        config.schedule, config.learning_rate, num_steps, warmup_steps
    )
    tx = make_optimizer(config.optimizer, schedule, config.weight_decay, config.momentum)
    settings = Settings(
        num_steps=num_steps,
        batch_size=config.batch_size,
        eval_every=steps_per_epoch,
        patience=config.patience,
        flip=config.flip,
        crop=config.crop,
        save_seconds=config.save_seconds,
    )
    method = point(classifier.model, tx)
    trained = train(method, classifier.dataset, settings, key, directory, mesh, schedule)
    return trained.state.params, {
        "what": config.train,
        "steps": trained.steps,
        "best_step": trained.best_step,
        "seconds": trained.seconds,
        "stopped_early": trained.steps < num_steps,
    }


def main(config: Config) -> None:
    """Judges a classifier and writes the report.

    Raises:
        UserError: bad input; nothing of an earlier run is touched.
    """
    started = time.perf_counter()
    config = resolve(config)
    options = {
        name: str(value) if isinstance(value, Path) else value
        for name, value in asdict(config).items()
        if name not in ("out", "overwrite", "save_seconds")
    }
    subject = config.predictions or Path(config.data.replace(":", "-"))
    out = config.out or Path("runs") / f"diagnose-{subject.stem}-{fingerprint(options)}"
    with open_run(out, options, config.overwrite) as directory:
        if config.predictions:
            file = read_predictions(config.predictions, config.label_column, config.logits)
            judged = judge_predictions(file, config.seed)
            data, model = describe_predictions(config.predictions.name, file)
            rows = {name: file.split == name for name in data["counts"]}
            splits = {n: Split(None, file.labels[mask], file.ids[mask]) for n, mask in rows.items()}
            classes = file.classes
        else:
            mesh = data_mesh()
            train_key, draw_key = jax.random.split(jax.random.key(config.seed))
            classifier, dataset = get_classifier(config, directory, mesh)
            params, training = fit(config, classifier, train_key, directory, mesh)
            judged = judge_classifier(
                classifier, params, draw_key, evaluation_batch(mesh), config.dropout_samples, mesh
            )
            data, model = describe_data(dataset), describe_model(classifier, training)
            splits, classes = dataset.splits, dataset.classes
        summary = write_report(
            directory,
            data=data,
            model=model,
            splits=splits,
            classes=classes,
            judged=judged,
            seed=config.seed,
            seconds=time.perf_counter() - started,
        )
    print(summary)


if __name__ == "__main__":
    cli.run(main, Config)
