"""The classifier that a run recommends, saved so that it can be used on new images.

`export/classifier.json` holds the network as a list of layers, the recipe and the threshold of
abstention; `export/*.safetensors` hold the arrays of the method's state and of a frozen base. A
calibrator is saved as the predictions that it was fitted to, and is fitted again when it is loaded,
in milliseconds. Nothing in the files is executed. What only training needs, the optimiser's state,
is left out.
"""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from research.calibrators.fit import calibrate_in_turn, calibrator_names
from research.data.batches import map_batches
from research.models import chain
from research.models.classifier import Classifier
from research.models.layers import cut, from_json, to_json
from research.models.preprocess import PREPROCESS
from research.posteriors.predictive import predictor
from research.report import result
from research.runtime.errors import UserError
from research.runtime.files import write_json, write_whole
from research.runtime.mesh import data_mesh
from research.runtime.run import Run
from research.training.fit import Fitted
from research.training.recipe import Context, build, parse

FOLDER = "export"
VALIDATION = "validation.safetensors"
ONLY_TRAINING = "opt_state"


class Calibration(NamedTuple):
    """Calibrators after the method, by what they are fitted to."""

    names: tuple[str, ...]  # of research/calibrators, in the order they are applied in
    log_probs: np.ndarray  # [S, N, K], the method's own of the validation split
    labels: np.ndarray  # [N] int


class Recommendation(NamedTuple):
    """What is saved beside the network and the method."""

    title: str  # of the method
    classes: tuple[str, ...]
    image_size: int  # side in pixels
    seed: int  # of the run: it decides what is drawn
    threshold: float | None  # uncertainty from which there is no answer; None: there always is
    bound: float | None  # on the error rate of the answers, with 95 % certainty
    calibration: Calibration | None = None


class Exported(NamedTuple):
    """A classifier that is ready to use."""

    title: str
    classes: tuple[str, ...]
    image_size: int
    threshold: float | None
    bound: float | None
    predict: Callable[[np.ndarray], np.ndarray]  # images [N, H, W, 3] -> log_probs [S, N, K]


def _leaves(state) -> dict[str, np.ndarray]:
    """The arrays that predictions need, by their place in the state."""
    paths = jax.tree_util.tree_flatten_with_path(state)[0]
    named = {jax.tree_util.keystr(path): leaf for path, leaf in paths}
    return {n: np.array(leaf, order="C") for n, leaf in named.items() if ONLY_TRAINING not in n}


def save(
    directory: Path, classifier: Classifier, fitted: Fitted, recommendation: Recommendation
) -> bool:
    """Writes a fitted method and the network below it.

    Args:
        directory: the run's folder.
        classifier: the classifier that the method was fitted to.
        fitted: the method that is recommended.
        recommendation: what is saved beside them.

    Returns:
        Whether it could be written: a black box cannot.
    """
    if classifier.layers is None:
        return False
    folder, calibration = directory / FOLDER, recommendation.calibration
    folder.mkdir(exist_ok=True)
    arrays = {"state": _leaves(fitted.state), "base": _leaves(classifier.frozen)}
    if calibration:
        fitted_to = {"log_probs": calibration.log_probs, "labels": calibration.labels}
        arrays["validation"] = {n: np.array(a, order="C") for n, a in fitted_to.items()}
    for name, tensors in arrays.items():
        write_whole(folder / f"{name}.safetensors", partial(save_file, tensors))
    described = {
        "layers": to_json(classifier.layers),
        "is_frozen": classifier.trainable != "all",
        "preprocess": classifier.preprocess,
        "bfloat16": classifier.dtype is not None,
        "recipe": str(fitted.recipe),
        "num_train": classifier.inputs.num_train,
        "num_steps": fitted.num_steps,
        **{name: getattr(recommendation, name) for name in recommendation._fields[:-1]},
        "calibrators": list(calibration.names) if calibration else [],
    }
    write_json(folder / "classifier.json", described)
    return True


def load(run: Path, batch_size: int) -> Exported:
    """The classifier that a run recommends.

    Args:
        run: its folder.
        batch_size: images at a time.

    Raises:
        UserError: there is none.
    """
    folder = run / FOLDER
    if (run / result.FILE).exists():
        result.read(run)  # a run of an earlier version says so
    try:
        described = json.loads((folder / "classifier.json").read_text())
        state, base = (load_file(folder / f"{n}.safetensors") for n in ("state", "base"))
        method = _build(described, state, base, batch_size)
        calibrators = described["calibrators"]
        if not set(calibrators) <= set(calibrator_names()):
            raise ValueError(calibrators)
        if calibrators:
            apply = calibrate_in_turn(calibrators, **load_file(folder / VALIDATION))
        return Exported(
            described["title"],
            tuple(described["classes"]),
            described["image_size"],
            described["threshold"],
            described["bound"],
            (lambda images: apply(method(images))) if calibrators else method,
        )
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            "run",
            "no exported classifier can be read there",
            "give the folder of a finished run of experiments.diagnose that judged images",
            value=run,
        ) from error


def _filled(like, arrays: dict[str, np.ndarray]):
    """A tree of the arrays, with zeros in the leaves that only training needs.

    Raises:
        KeyError: an array is missing, or has another shape.
    """

    def fill(path, leaf):
        name = jax.tree_util.keystr(path)
        if ONLY_TRAINING in name:
            return jnp.zeros(leaf.shape, leaf.dtype)
        if arrays[name].shape != leaf.shape:
            raise KeyError(name)
        return jnp.asarray(arrays[name])

    return jax.tree_util.tree_map_with_path(fill, like)


def _build(
    described: dict, arrays: dict, frozen: dict, batch_size: int
) -> Callable[[np.ndarray], np.ndarray]:
    """The method's own predictions: images [N, H, W, 3] -> log_probs [S, N, K]."""
    layers = from_json(described["layers"])
    dtype = jnp.bfloat16 if described["bfloat16"] else None
    preprocess = PREPROCESS[described["preprocess"]]
    side, run = described["image_size"], Run(Path(), data_mesh(), described["seed"])
    size = run.batch(batch_size)
    example = jax.ShapeDtypeStruct((1, side, side, 3), jnp.uint8)
    key = jax.random.key(0)
    features = None
    if described["is_frozen"]:
        base, head = cut(layers)
        below = chain.as_model(chain.Chain(base, dtype), preprocess)
        shapes = jax.eval_shape(below.init, key, example)
        params = _filled(shapes, frozen) if shapes else {}
        features = jax.jit(lambda images: below.apply(params, images))
        example = jax.eval_shape(features, example)
        model = chain.as_model(chain.Chain(head, dtype))
    else:
        model = chain.as_model(chain.Chain(layers, dtype), preprocess)
    (recipe,) = parse(described["recipe"])
    steps = max(1, described["num_steps"])
    method = build(recipe, Context(model, described["num_train"], steps, steps))
    state = _filled(jax.eval_shape(method.init, key, example), arrays)
    predict = predictor(method, run.key("draw"), size, run.mesh)

    def of_images(images):
        inputs = images if features is None else map_batches(features, images, size)
        return predict(state, inputs)

    return of_images
