"""The main job: from a classifier and images, or from predictions, to everything the report says.

`assess` reads from top to bottom: load the images and the classifier, train what is to be trained,
predict, collect the evidence, diagnose, try candidates against what was found. Predictions alone
take a shorter way (`assess_file`).
"""

import time
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np

from research.assessment import remedies
from research.assessment.describe import describe_data, describe_model, describe_predictions
from research.assessment.options import AssessmentOptions
from research.assessment.predictions import (
    Predictions,
    calibrate_predictions,
    predict_splits,
    predictions_of_file,
)
from research.assessment.remedies import Candidate, Trained
from research.assessment.result import Assessment
from research.calibrators import fit as calibrators
from research.data.dataset import Dataset, Split
from research.data.images import decode, find, resize
from research.data.load import DataOptions
from research.data.predictions import PredictionsFile
from research.diagnosis.collect import collect, collect_predictions
from research.diagnosis.diagnose import diagnose
from research.models.classifier import Classifier
from research.models.features import identify
from research.models.network import NetworkOptions, get_classifier
from research.models.saved_weights import read_weights, save_weights
from research.runtime.errors import UserError
from research.runtime.mesh import check_batch_size
from research.runtime.progress import read_history
from research.runtime.run import Run
from research.training.fit import Fitted, Problem, TrainingOptions, fit
from research.training.recipe import POINT, Recipe, calibrators_of, parse, with_options

EVALUATION_BATCH = 32
MOST_COMPARED = 1_000
HISTORY = ("step", "epoch", "loss", "valid_nll", "valid_accuracy", "valid_confidence")


def assess(
    images: DataOptions,
    network: NetworkOptions,
    training: TrainingOptions,
    options: AssessmentOptions,
    run: Run,
) -> Assessment:
    """Assesses a classifier that is trained here, or somebody's own.

    Args:
        images: which images are loaded.
        network: which network is trained or imported.
        training: how the network is trained; methods are trained relative to it.
        options: what is tried beside the network as it is.
        run: the folder of everything that is cached and trained, the devices and the seed.

    Raises:
        UserError: bad input.
        Interrupted: a signal asked for it; the same call goes on there.
    """
    started = time.perf_counter()

    # The images and the classifier.
    if network.trainable != "none":
        check_batch_size(training.batch_size, run.mesh)
    classifier, dataset = get_classifier(images, network, run)
    recipes = _recipes(classifier, options)
    around = (name for recipe in recipes.values() for name in calibrators_of(recipe))
    calibrators.check((*options.calibrators, *around), len(dataset.classes))
    new = _images_to_compare(options.compare, dataset, run.seed) if options.compare else None

    # The network and the methods, fitted, and what they predict.
    problem = _problem(classifier, network)
    trainings = run.folder("training")
    fitted: dict[str, Fitted] = {}
    for name, recipe in recipes.items():
        fitted[name] = fit(run.key("train"), recipe, problem, training, trainings)
        problem = problem._replace(params=fitted["point"].state.params)
    if fitted["point"].steps:
        save_weights(run.directory / "weights.safetensors", problem.params)
    candidates = {name: Candidate(classifier, method) for name, method in fitted.items()}
    predictions = _predict(candidates, classifier, run)

    # Why the network is as sure as it is.
    history = read_history(trainings.directory / "point")
    baseline = predictions["point"].log_probs
    collected = collect(classifier, problem.params, dataset, baseline, history, run.seed, new)
    found = diagnose(collected.evidence)

    # What helps against it: remedies of the causes on the head, and as much as the budget allows.
    trained = Trained(classifier, problem.params, dataset)
    if heads := remedies.fit_heads(found, collected, trained, training, run):
        head, of_head = heads
        candidates |= of_head
        predictions |= _predict(of_head, head, run)
    if options.budget:
        of_network = {
            str(method.recipe): Candidate(classifier, method)
            for method in remedies.fit_networks(
                options.budget,
                fitted["point"].seconds,
                known=fitted,
                fit_one=lambda recipe: fit(run.key("train"), recipe, problem, training, trainings),
            )
        }
        candidates |= of_network
        predictions |= _predict(of_network, classifier, run)

    labels = {name: split.labels for name, split in dataset.splits.items()}
    return Assessment(
        data=describe_data(dataset),
        model=describe_model(classifier, _training(fitted["point"], network.trainable, history)),
        classes=dataset.classes,
        splits=dataset.splits,
        predictions=_calibrate(predictions, labels, options, run.seed),
        collected=collected,
        found=found,
        candidates=candidates,
        seed=run.seed,
        max_error=options.max_error,
        seconds=time.perf_counter() - started,
    )


def assess_file(
    file: PredictionsFile, name: str, options: AssessmentOptions, seed: int = 0
) -> Assessment:
    """Assesses a classifier of which only predictions are known.

    Args:
        file: the predictions.
        name: what the report calls them.
        options: of which `calibrate` and `max_error` are read.
        seed: of the bootstrap and of the halves that calibrators are fitted to.

    Raises:
        UserError: a calibrator is not for so many classes.
    """
    started = time.perf_counter()
    calibrators.check(options.calibrators, len(file.classes))
    collected = collect_predictions(file, seed)
    data, model = describe_predictions(name, file)
    rows = {split: file.split == split for split in data["counts"]}
    images = np.empty((len(file.labels), 0, 0, 3), np.uint8)  # no pixel is known
    splits = {n: Split(images[m], file.labels[m], file.ids[m]) for n, m in rows.items()}
    labels = {n: split.labels for n, split in splits.items()}
    return Assessment(
        data=data,
        model=model,
        classes=file.classes,
        splits=splits,
        predictions=_calibrate(predictions_of_file(file, seed), labels, options, seed),
        collected=collected,
        found=diagnose(collected.evidence),
        seed=seed,
        max_error=options.max_error,
        seconds=time.perf_counter() - started,
    )


def _recipes(classifier: Classifier, options: AssessmentOptions) -> dict[str, Recipe]:
    """The network as it is, its usual changes, and the methods that were named; by name.

    Raises:
        UserError: a method needs weights that cannot be reached.
    """
    recipes = {"point": POINT}
    if classifier.has_dropout:
        recipes["mc_dropout"] = parse(f"mc_dropout(num_samples={options.dropout_samples})")[0]
    recipes["temperature"] = parse("temperature(point)")[0]
    for recipe in options.recipes:
        if not classifier.model.layers and recipe.base.name != "point":
            raise UserError(
                "methods",
                "the model's weights cannot be reached (it runs as a black box)",
                "leave it out",
                value=recipe,
            )
        bayes = {"bayes": options.bayes} if options.bayes else {}
        recipes.setdefault(str(recipe), with_options(recipe, **bayes))
    return recipes


def _problem(classifier: Classifier, network: NetworkOptions) -> Problem:
    """What is trained on what, with weights where the network is trained already.

    Raises:
        UserError: the weights of `init` cannot be read, or do not fit.
    """
    model, dataset, params = classifier.model, classifier.inputs, classifier.params
    if network.init:
        like = jax.eval_shape(model.init, jax.random.key(0), dataset.test.example)
        params = read_weights(network.init, like, "init")
    if params is not None:  # a method that started from other weights is not resumed
        dataset = dataset._replace(fingerprint=identify("start", params, dataset))
    return Problem(model, dataset, params)


def _images_to_compare(folder: Path, dataset: Dataset, seed: int) -> tuple[np.ndarray, np.ndarray]:
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


def _predict(
    candidates: Mapping[str, Candidate], classifier: Classifier, run: Run
) -> dict[str, Predictions]:
    """What candidates predict of all splits as `classifier` has them."""
    return predict_splits(
        {name: candidate.fitted for name, candidate in candidates.items()},
        classifier.inputs,
        run.key("draw"),
        run.batch(EVALUATION_BATCH),
        run.mesh,
        classifier.base_milliseconds,
    )


def _calibrate(
    predictions: dict[str, Predictions],
    labels: dict[str, np.ndarray],
    options: AssessmentOptions,
    seed: int,
) -> dict[str, Predictions]:
    """The predictions, and those of the network as it is after each calibrator."""
    names = options.calibrators
    if options.calibrate is None:
        names = calibrators.default(predictions["point"].log_probs["test"].shape[-1])
    names = tuple(name for name in names if name not in predictions)
    return predictions | calibrate_predictions(predictions["point"], names, labels, seed)


def _training(point: Fitted, trainable: str, history: tuple[dict, ...]) -> dict | None:
    """What training the network took; None where it was not trained here."""
    if not point.steps:
        return None
    return {
        "what": trainable,
        "steps": point.steps,
        "best_step": point.best_step,
        "seconds": point.seconds,
        "stopped_early": point.steps < point.num_steps,
        "history": [{name: row[name] for name in HISTORY} for row in history],
    }
