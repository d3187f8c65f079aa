"""How sure may this classifier be? From images, a model or predictions to an honest page.

    launch/run.sh experiments.diagnose                                   real handwritten digits
    launch/run.sh experiments.diagnose --data photos/                    train on class folders
    launch/run.sh experiments.diagnose --data photos/ --model my.keras   judge your Keras model
    launch/run.sh experiments.diagnose --predictions probs.csv           judge any predictions

Writes report.html, result.json, predictions.npz and config.json. With nothing given: 1 to 2 minutes
on 2 CPU cores, 95 to 99 % right on the digits' test split. The same command again goes on where it
stopped.
"""

import os
import time
from dataclasses import asdict
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from experiments import cli
from experiments.diagnose_options import Config, resolve
from research import classifier as classifiers
from research import mended
from research.calibrate import check
from research.calibrate import parse as calibrators
from research.classifier import Classifier
from research.data.dataset import Dataset, Split
from research.data.load import load
from research.data.predictions import read_predictions
from research.diagnose import diagnose
from research.errors import UserError
from research.features import identify
from research.fit import Fitted, Options, fit
from research.judge import judge_calibrated, judge_fitted, judge_predictions
from research.mesh import check_batch_size, data_mesh
from research.models.keras_file import check_readable
from research.models.pretrained import import_keras
from research.models.saved_weights import read_weights, save_weights
from research.models.vgg import VGG16
from research.observe import observe, observe_predictions
from research.progress import read_history
from research.recipe import Recipe, base, parse, with_options
from research.report import terminal
from research.report.result import describe_data, describe_model, describe_predictions
from research.report.write import write_report
from research.run_folder import fingerprint, open_run

EVALUATION_BATCH = 32


def get_classifier(config: Config, directory: Path, mesh) -> tuple[Classifier, Dataset]:
    """Loads the images, and builds or imports what is judged."""
    imported = import_keras(config.model) if config.model else None
    if config.weights not in (None, "imagenet"):
        check_readable(Path(config.weights), "--weights")  # before the images, which take longer
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


def fit_methods(
    config: Config, classifier: Classifier, key: jax.Array, directory: Path, mesh
) -> tuple[dict[str, Fitted], dict | None]:
    """Trains the network, unless it is trained already, and every method that was asked for.

    Returns:
        What is to be judged by name, and what training the network took (None: there was none).
    """
    model, dataset = classifier.model, classifier.dataset
    options = Options(**{name: getattr(config, name) for name in Options._fields})
    params = classifier.params
    if config.init:
        like = jax.eval_shape(model.init, jax.random.key(0), dataset.test.images[np.arange(1)])
        params = read_weights(config.init, like, "--init")
    if params is not None:  # a method that started from other weights is not resumed
        dataset = dataset._replace(fingerprint=identify("start", params, dataset))
    recipes = {"point": Recipe("point")}
    if classifier.has_dropout:
        recipes["mc_dropout"] = parse(f"mc_dropout(num_samples={config.dropout_samples})")[0]
    recipes["temperature"] = parse("temperature(point)")[0]
    for recipe in parse(config.methods) if config.methods else ():
        if not model.layers and base(recipe).name != "point":
            raise UserError(
                f"--methods {recipe}: the model's weights cannot be reached (it runs as a black "
                "box); leave it out"
            )
        bayes = {"bayes": config.bayes} if config.bayes else {}
        recipes.setdefault(str(recipe), with_options(recipe, **bayes))
    fitted = {}
    for name, recipe in recipes.items():
        fitted[name] = fit(recipe, model, dataset, options, key, directory, mesh, params)
        params = fitted["point"].state.params
    took, is_trained = fitted["point"], fitted["point"].steps > 0
    if is_trained:
        save_weights(directory.parent / "weights.safetensors", params)
    return fitted, {
        "what": config.train,
        "steps": took.steps,
        "best_step": took.best_step,
        "seconds": took.seconds,
        "stopped_early": took.steps < took.num_steps,
    } if is_trained else None


def keep_best(
    config: Config, directory: Path, classifier: Classifier, fitted: dict[str, Fitted], result: dict
) -> None:
    """Keeps the method of lowest validation NLL, ready for `experiments.predict`."""

    def valid_nll(name):
        nll = result["methods"][name]["splits"]["valid"]["metrics"]["nll"]["value"]
        return np.inf if nll is None else nll

    best = min(fitted, key=valid_nll)
    decided = result["methods"][best]["decisions"]
    refusal = decided and decided["refusal"]["refusal"]
    mended.save(
        directory,
        classifier,
        fitted[best],
        title=result["methods"][best]["title"],
        classes=tuple(result["data"]["classes"]),
        image_size=result["data"]["image_size"],
        bfloat16=config.bfloat16,
        seed=config.seed,
        refusal=refusal and {name: refusal[name] for name in ("threshold", "bound")},
    )


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
    subject = Path(os.path.abspath(config.predictions or config.data)).stem.replace(":", "-")
    out = config.out or Path("runs") / f"diagnose-{subject}-{fingerprint(options)}"
    names = calibrators(config.calibrate or "")
    with open_run(out, options, config.overwrite) as directory:
        if config.predictions:
            file = read_predictions(config.predictions, config.label_column, config.logits)
            check(names, len(file.classes))
            judged = judge_predictions(file, config.seed)
            observed = observe_predictions(file, config.seed)
            data, model = describe_predictions(config.predictions.name, file)
            rows = {name: file.split == name for name in data["counts"]}
            splits = {n: Split(None, file.labels[mask], file.ids[mask]) for n, mask in rows.items()}
            classes = file.classes
        else:
            mesh = data_mesh()
            if config.train != "none":
                check_batch_size(config.batch_size, mesh)
            train_key, draw_key = jax.random.split(jax.random.key(config.seed))
            classifier, dataset = get_classifier(config, directory, mesh)
            check(names, len(dataset.classes))
            fitted, training = fit_methods(
                config, classifier, train_key, directory / "training", mesh
            )
            judged = judge_fitted(
                fitted,
                classifier.dataset,
                draw_key,
                evaluation_batch(mesh),
                mesh,
                classifier.base_milliseconds,
            )
            observed = observe(
                classifier,
                fitted["point"].state.params,
                dataset,
                judged["point"].log_probs,
                read_history(directory / "training" / "point"),
                config.seed,
            )
            data, model = describe_data(dataset), describe_model(classifier, training)
            splits, classes = dataset.splits, dataset.classes
        labels = {name: split.labels for name, split in splits.items()}
        names = tuple(name for name in names if name not in judged)  # a temperature always is
        judged |= judge_calibrated(judged["point"], names, labels, config.seed)
        found = diagnose(observed.evidence)
        result = write_report(
            directory,
            data=data,
            model=model,
            splits=splits,
            classes=classes,
            judged=judged,
            found=found,
            observed=observed,
            seed=config.seed,
            max_error=config.max_error,
            seconds=time.perf_counter() - started,
        )
        if not config.predictions:
            keep_best(config, directory, classifier, fitted, result)
    print(terminal.summary(result, str(out / "report.html")))
    if (out / mended.FOLDER).exists():
        print(f"Ask it about other images: launch/run.sh experiments.predict --run {out} IMAGES")


if __name__ == "__main__":
    cli.run(main, Config)
