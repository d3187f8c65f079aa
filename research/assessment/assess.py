"""What `experiments.diagnose` judges, from wherever it came: predictions, images, somebody's model.

Everything that the report says follows from a `Subject`.
"""

import sys
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import jax
import numpy as np

from research.assessment import remedies
from research.assessment.describe import describe_data, describe_model, describe_predictions
from research.assessment.options import AssessmentOptions
from research.assessment.predictions import Predictions, predict_splits, predictions_of_file
from research.assessment.remedies import Cure
from research.calibrators.fit import check
from research.data.dataset import Dataset, Split
from research.data.images import decode, find, resize
from research.data.load import DataOptions
from research.data.predictions import PredictionsFile
from research.diagnosis.collect import Collected, collect, collect_predictions
from research.diagnosis.diagnose import Found, diagnose
from research.models.classifier import Classifier
from research.models.features import identify
from research.models.network import NetworkOptions, get_classifier
from research.models.saved_weights import read_weights, save_weights
from research.runtime.errors import UserError
from research.runtime.mesh import check_batch_size
from research.runtime.progress import read_history
from research.runtime.run import Run
from research.training.fit import Fitted, Problem, TrainingOptions, fit
from research.training.recipe import POINT, calibrators_of, parse, with_options

EVALUATION_BATCH = 32
MOST_COMPARED = 1_000
HISTORY = ("step", "epoch", "loss", "valid_nll", "valid_accuracy", "valid_confidence")


def fit_methods(
    classifier: Classifier,
    network: NetworkOptions,
    training: TrainingOptions,
    options: AssessmentOptions,
    run: Run,
) -> tuple[dict[str, Fitted], dict | None]:
    """Trains the network, unless it is trained already, and every method that was named.

    Returns:
        What is to be judged by name, and what training the network took (None: there was none).
    """
    model, dataset = classifier.model, classifier.dataset
    params = classifier.params
    if network.init:
        like = jax.eval_shape(model.init, jax.random.key(0), dataset.test.example)
        params = read_weights(network.init, like, "init")
    if params is not None:  # a method that started from other weights is not resumed
        dataset = dataset._replace(fingerprint=identify("start", params, dataset))
    recipes = {"point": POINT}
    if classifier.has_dropout:
        recipes["mc_dropout"] = parse(f"mc_dropout(num_samples={options.dropout_samples})")[0]
    recipes["temperature"] = parse("temperature(point)")[0]
    for recipe in options.recipes:
        if not model.layers and recipe.base.name != "point":
            raise UserError(
                f"--methods {recipe}: the model's weights cannot be reached (it runs as a black "
                "box); leave it out"
            )
        bayes = {"bayes": options.bayes} if options.bayes else {}
        recipes.setdefault(str(recipe), with_options(recipe, **bayes))
    fitted = {}
    for name, recipe in recipes.items():
        problem = Problem(model, dataset, params)
        fitted[name] = fit(run.key("train"), recipe, problem, training, run)
        params = fitted["point"].state.params
    took, is_trained = fitted["point"], fitted["point"].steps > 0
    if is_trained:
        save_weights(run.directory.parent / "weights.safetensors", params)
    return fitted, {
        "what": network.trainable,
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


def subject_of_predictions(
    file: PredictionsFile, name: str, options: AssessmentOptions, seed: int
) -> Subject:
    """The predictions of a file called `name`."""
    check(options.calibrators, len(file.classes))
    observed = collect_predictions(file, seed)
    data, model = describe_predictions(name, file)
    rows = {name: file.split == name for name in data["counts"]}
    splits = {n: Split(None, file.labels[mask], file.ids[mask]) for n, mask in rows.items()}
    judged = predictions_of_file(file, seed)
    return Subject(data, model, splits, file.classes, judged, observed, diagnose(observed.evidence))


def images_to_compare(folder: Path, dataset: Dataset, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """At most `MOST_COMPARED` images of a folder, as large as the others, and their ids.

    Raises:
        UserError: there are none, or one cannot be read.
    """
    paths = find([folder])
    chosen = np.random.default_rng(seed).permutation(len(paths))[:MOST_COMPARED]
    kept = [paths[i] for i in np.sort(chosen)]
    size = dataset.test.images.shape[1]
    ids = np.array([str(path.relative_to(folder)) for path in kept])
    return np.stack([resize(decode(path, str(path)), size) for path in kept]), ids


def subject_of_images(
    images: DataOptions,
    network: NetworkOptions,
    training: TrainingOptions,
    options: AssessmentOptions,
    run: Run,
) -> Subject:
    """A classifier that is trained here, or somebody's own; the causes, and what cures them.

    Args:
        images: which images are loaded.
        network: which network is trained or imported; its width is given.
        training: how it is trained, as are the methods.
        options: what is tried besides.
        run: the folder, the devices and the seed.
    """
    if network.trainable != "none":
        check_batch_size(training.batch_size, run.mesh)
    classifier, dataset = get_classifier(images, network, run)
    around = (name for recipe in options.recipes for name in calibrators_of(recipe))
    check((*options.calibrators, *around), len(dataset.classes))
    new = images_to_compare(options.compare, dataset, run.seed) if options.compare else None
    trainings, batch = run.folder("training"), run.batch(EVALUATION_BATCH)
    fitted, trained = fit_methods(classifier, network, training, options, trainings)

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
        read_history(trainings.directory / "point"),
        run.seed,
        new,
    )
    found = diagnose(observed.evidence)
    cures = {name: Cure(classifier, each) for name, each in fitted.items()}
    head = remedies.cure_head(found, observed, classifier, params, dataset, training, run)
    if head is not None:
        cures |= head.cures
        of_head = {name: cure.fitted for name, cure in head.cures.items()}
        judged |= judge(of_head, head.dataset, head.milliseconds)
    if options.budget:
        of_network, left = remedies.cure_network(
            options.budget,
            fitted["point"].seconds,
            fitted,
            lambda recipe: fit(run.key("train"), recipe, problem, training, trainings),
        )
        cures |= {name: Cure(classifier, each) for name, each in of_network.items()}
        judged |= judge(of_network, classifier.dataset, classifier.base_milliseconds)
        if left:
            print(
                f"--budget {options.budget:g}: no time for {', '.join(left)}; the same command "
                "with a larger one goes on",
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
