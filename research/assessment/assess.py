"""What `experiments.diagnose` judges, from wherever it came: predictions, images, somebody's model.

Everything that the report says follows from a `Subject`.
"""

import sys
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from research.assessment import remedies
from research.assessment.describe import describe_data, describe_model, describe_predictions
from research.assessment.predictions import Predictions, predict_splits, predictions_of_file
from research.assessment.remedies import Cure
from research.calibrators.fit import check
from research.calibrators.fit import parse as calibrators
from research.data.dataset import Dataset, Split
from research.data.images import decode, find, resize
from research.data.load import load
from research.data.predictions import read_predictions
from research.diagnosis.collect import Collected, collect, collect_predictions
from research.diagnosis.diagnose import Found, diagnose
from research.models import classifier as classifiers
from research.models.classifier import Classifier
from research.models.features import identify
from research.models.imported import from_keras
from research.models.keras.file import check_readable
from research.models.keras.importer import import_keras
from research.models.saved_weights import read_weights, save_weights
from research.models.vgg import VGG16
from research.runtime.errors import UserError
from research.runtime.mesh import check_batch_size, data_mesh
from research.runtime.progress import read_history
from research.runtime.run import Run
from research.training.fit import Fitted, Problem, TrainingOptions, fit
from research.training.recipe import POINT, calibrators_of, parse, with_options

EVALUATION_BATCH = 32
MOST_COMPARED = 1_000
HISTORY = ("step", "epoch", "loss", "valid_nll", "valid_accuracy", "valid_confidence")


def get_classifier(config, run: Run) -> tuple[Classifier, Dataset]:
    """Loads the images, and builds or imports what is judged."""
    imported = import_keras(config.model) if config.model else None
    if config.weights not in (None, "imagenet"):
        check_readable(Path(config.weights), "weights")  # before the images, which take longer
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
        cache_dir=run.directory / "data",
        memory_gb=config.memory_gb,
        skip_bad_images=config.skip_bad_images,
        classes=config.classes,
    )
    dtype = jnp.bfloat16 if config.bfloat16 else None
    if imported:
        options = config.model, config.preprocess, config.train, dtype
        return from_keras(dataset, imported, *options, run), dataset
    head = config.head or ("asker" if dataset.test.images.shape[1] >= 128 else "cifar")
    network = VGG16(len(dataset.classes), head, config.width, dtype)
    if config.weights:
        start = config.weights, config.train
        return classifiers.from_weights(dataset, network, *start, run), dataset
    return classifiers.fresh(dataset, network), dataset


def fit_methods(
    config, classifier: Classifier, options: TrainingOptions, run: Run
) -> tuple[dict[str, Fitted], dict | None]:
    """Trains the network, unless it is trained already, and every method that was asked for.

    Returns:
        What is to be judged by name, and what training the network took (None: there was none).
    """
    model, dataset = classifier.model, classifier.dataset
    params = classifier.params
    if config.init:
        like = jax.eval_shape(model.init, jax.random.key(0), dataset.test.example)
        params = read_weights(config.init, like, "init")
    if params is not None:  # a method that started from other weights is not resumed
        dataset = dataset._replace(fingerprint=identify("start", params, dataset))
    recipes = {"point": POINT}
    if classifier.has_dropout:
        recipes["mc_dropout"] = parse(f"mc_dropout(num_samples={config.dropout_samples})")[0]
    recipes["temperature"] = parse("temperature(point)")[0]
    for recipe in parse(config.methods) if config.methods else ():
        if not model.layers and recipe.base.name != "point":
            raise UserError(
                f"--methods {recipe}: the model's weights cannot be reached (it runs as a black "
                "box); leave it out"
            )
        bayes = {"bayes": config.bayes} if config.bayes else {}
        recipes.setdefault(str(recipe), with_options(recipe, **bayes))
    fitted = {}
    for name, recipe in recipes.items():
        problem = Problem(model, dataset, params)
        fitted[name] = fit(run.key("train"), recipe, problem, options, run)
        params = fitted["point"].state.params
    took, is_trained = fitted["point"], fitted["point"].steps > 0
    if is_trained:
        save_weights(run.directory.parent / "weights.safetensors", params)
    return fitted, {
        "what": config.train,
        "steps": took.steps,
        "best_step": took.best_step,
        "seconds": took.seconds,
        "stopped_early": took.steps < took.num_steps,
        "history": [
            {name: row[name] for name in HISTORY} for row in read_history(run.directory / "point")
        ],
    } if is_trained else None


class Subject(NamedTuple):
    """What is judged, from wherever it came."""

    data: dict  # the parts of result.json of that name
    model: dict
    splits: dict[str, Split]
    classes: tuple[str, ...]
    judged: dict[str, Predictions]
    observed: Collected
    found: list[Found]
    cures: dict[str, Cure] = MappingProxyType({})  # what could be kept for new images, by method


def subject_of_predictions(config) -> Subject:
    """A predictions file."""
    file = read_predictions(config.predictions, config.label_column, config.logits)
    check(calibrators(config.calibrate or ""), len(file.classes))
    observed = collect_predictions(file, config.seed)
    data, model = describe_predictions(config.predictions.name, file)
    rows = {name: file.split == name for name in data["counts"]}
    splits = {n: Split(None, file.labels[mask], file.ids[mask]) for n, mask in rows.items()}
    judged = predictions_of_file(file, config.seed)
    return Subject(data, model, splits, file.classes, judged, observed, diagnose(observed.evidence))


def images_to_compare(config, dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """At most `MOST_COMPARED` images of --compare, as large as the others, and their ids.

    Raises:
        UserError: there are none, or one cannot be read.
    """
    paths = find([config.compare])
    chosen = np.random.default_rng(config.seed).permutation(len(paths))[:MOST_COMPARED]
    kept = [paths[i] for i in np.sort(chosen)]
    size = dataset.test.images.shape[1]
    ids = np.array([str(path.relative_to(config.compare)) for path in kept])
    return np.stack([resize(decode(path, str(path)), size) for path in kept]), ids


def subject_of_images(config, directory: Path) -> Subject:
    """A classifier that is trained here, or somebody's own; the causes, and what cures them."""
    run = Run(directory, data_mesh(), config.seed)
    if config.train != "none":
        check_batch_size(config.batch_size, run.mesh)
    classifier, dataset = get_classifier(config, run)
    asked = parse(config.methods) if config.methods else ()
    around = (name for recipe in asked for name in calibrators_of(recipe))
    check((*calibrators(config.calibrate or ""), *around), len(dataset.classes))
    new = images_to_compare(config, dataset) if config.compare else None
    options = TrainingOptions.of(config)
    training, batch = run.folder("training"), run.batch(EVALUATION_BATCH)
    fitted, trained = fit_methods(config, classifier, options, training)

    def judge(methods, on, milliseconds):
        return predict_splits(methods, on, run.key("draw"), batch, run.mesh, milliseconds)

    judged = judge(fitted, classifier.dataset, classifier.base_milliseconds)
    params = fitted["point"].state.params
    problem = Problem(classifier.model, classifier.dataset, params)
    observed = collect(
        classifier,
        params,
        dataset,
        judged["point"].log_probs,
        read_history(training.directory / "point"),
        config.seed,
        new,
    )
    found = diagnose(observed.evidence)
    cures = {name: Cure(classifier, each) for name, each in fitted.items()}
    head = remedies.cure_head(found, observed, classifier, params, dataset, options, run)
    if head is not None:
        cures |= head.cures
        of_head = {name: cure.fitted for name, cure in head.cures.items()}
        judged |= judge(of_head, head.dataset, head.milliseconds)
    if config.budget:
        of_network, left = remedies.cure_network(
            config.budget,
            fitted["point"].seconds,
            fitted,
            lambda recipe: fit(run.key("train"), recipe, problem, options, training),
        )
        cures |= {name: Cure(classifier, each) for name, each in of_network.items()}
        judged |= judge(of_network, classifier.dataset, classifier.base_milliseconds)
        if left:
            print(
                f"--budget {config.budget:g}: no time for {', '.join(left)}; the same command with "
                "a larger one goes on",
                file=sys.stderr,
            )
    return Subject(
        describe_data(dataset),
        describe_model(classifier, trained),
        dataset.splits,
        dataset.classes,
        judged,
        observed,
        found,
        cures,
    )
