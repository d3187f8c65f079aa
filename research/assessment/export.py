"""The classifier that a run recommends, kept so that it can be used on new images.

`mended/classifier.json` holds the network as a list of layers, the recipe and the refusal
threshold; `mended/*.safetensors` the arrays of the method's state and of a frozen base. A
calibrator is kept as what it was fitted to, and fitted again when it is read, in milliseconds.
Nothing in the files is executed. What only training needs (the optimiser's state) is left out.
"""

import json
from collections.abc import Callable
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
from research.runtime.errors import UserError
from research.runtime.files import write_json, write_whole
from research.runtime.mesh import data_mesh
from research.runtime.run import Run
from research.training.fit import Fitted
from research.training.recipe import Context, build, parse

FOLDER = "mended"
VALIDATION = "validation.safetensors"
ONLY_TRAINING = "opt_state"


class Calibration(NamedTuple):
    """Calibrators after the method, by what they are fitted to."""

    names: tuple[str, ...]  # of research/calibrators, in the order they are applied in
    log_probs: np.ndarray  # [S, N, K], the method's own of the validation split
    labels: np.ndarray  # [N] int


class Mended(NamedTuple):
    """A classifier that is ready to use."""

    title: str
    classes: tuple[str, ...]
    image_size: int
    threshold: float | None  # of doubt: from there on it is refused; None: nothing is
    bound: float | None  # on the error rate among the rest, with 95 % certainty
    predict: Callable[[np.ndarray], np.ndarray]  # images [N, H, W, 3] -> log_probs [S, N, K]


def _leaves(state) -> dict[str, jax.Array]:
    """The arrays that predictions need, by their place in the state."""
    paths = jax.tree_util.tree_flatten_with_path(state)[0]
    named = {jax.tree_util.keystr(path): leaf for path, leaf in paths}
    return {name: leaf for name, leaf in named.items() if ONLY_TRAINING not in name}


def save(
    directory: Path,
    classifier: Classifier,
    fitted: Fitted,
    *,
    title: str,
    classes: tuple[str, ...],
    image_size: int,
    bfloat16: bool,
    seed: int,
    refusal: dict | None,
    calibration: Calibration | None = None,
) -> bool:
    """Writes a fitted method and the network below it.

    Args:
        directory: of the run.
        classifier: what was judged.
        fitted: the method that is recommended.
        title: what it is called.
        classes: names.
        image_size: side in pixels.
        bfloat16: whether it computes so.
        seed: of the run, for the draws.
        refusal: `threshold` and `bound`; None: nothing is refused.
        calibration: what comes after the method; None: nothing.

    Returns:
        Whether it could be written: a black box cannot.
    """
    if classifier.layers is None:
        return False
    folder = directory / FOLDER
    folder.mkdir(exist_ok=True)
    told = {
        "layers": to_json(classifier.layers),
        "is_frozen": classifier.trainable != "all",
        "preprocess": classifier.preprocess,
        "bfloat16": bfloat16,
        "recipe": str(fitted.recipe),
        "num_train": classifier.dataset.num_train,
        "num_steps": fitted.num_steps,
        "title": title,
        "classes": list(classes),
        "image_size": image_size,
        "seed": seed,
        "refusal": refusal,
        "calibrators": list(calibration.names) if calibration else [],
    }
    if calibration:
        arrays = {"log_probs": calibration.log_probs, "labels": calibration.labels}
        arrays = {name: np.array(array, order="C") for name, array in arrays.items()}
        write_whole(folder / VALIDATION, lambda part: save_file(arrays, part))
    state = {n: np.array(leaf, order="C") for n, leaf in _leaves(fitted.state).items()}
    write_whole(folder / "state.safetensors", lambda part: save_file(state, part))
    base = {n: np.array(leaf, order="C") for n, leaf in _leaves(classifier.frozen).items()}
    write_whole(folder / "base.safetensors", lambda part: save_file(base, part))
    write_json(folder / "classifier.json", told)
    return True


def _filled(like, arrays: dict[str, np.ndarray]):
    """A tree of the arrays where there are any of that name and shape, and of zeros elsewhere."""

    def fill(path, leaf):
        name = jax.tree_util.keystr(path)
        if ONLY_TRAINING in name:
            return jnp.zeros(leaf.shape, leaf.dtype)
        if arrays[name].shape != leaf.shape:
            raise KeyError(name)
        return jnp.asarray(arrays[name])

    return jax.tree_util.tree_map_with_path(fill, like)


def load(run: Path, batch_size: int) -> Mended:
    """The classifier that a run recommends.

    Args:
        run: its folder.
        batch_size: images at a time.

    Raises:
        UserError: there is none.
    """
    folder = run / FOLDER
    try:
        told = json.loads((folder / "classifier.json").read_text())
        arrays, frozen = (load_file(folder / f"{n}.safetensors") for n in ("state", "base"))
        found = _build(told, arrays, frozen, folder, batch_size)
        if not told["calibrators"]:
            return found
        if not set(told["calibrators"]) <= set(calibrator_names()):
            raise ValueError(told["calibrators"])
        apply = calibrate_in_turn(told["calibrators"], **load_file(folder / VALIDATION))
        return found._replace(predict=lambda images: apply(found.predict(images)))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"--run {run}: no mended classifier can be read there; give the folder of a finished "
            "run of experiments.diagnose that judged images"
        ) from error


def _build(told: dict, arrays: dict, frozen: dict, folder: Path, batch_size: int) -> Mended:
    layers = from_json(told["layers"])
    dtype = jnp.bfloat16 if told["bfloat16"] else None
    preprocess = PREPROCESS[told["preprocess"]]
    side, run = told["image_size"], Run(folder, data_mesh(), told["seed"])
    size = run.batch(batch_size)
    example = jax.ShapeDtypeStruct((1, side, side, 3), jnp.uint8)
    key = jax.random.key(0)
    if told["is_frozen"]:
        base, head = cut(layers)
        below = chain.as_model(chain.Chain(base, dtype), preprocess)
        shapes = jax.eval_shape(below.init, key, example)
        params = _filled(shapes, frozen) if shapes else {}
        look = jax.jit(lambda images: below.apply(params, images))
        example = jax.eval_shape(look, example)
        model = chain.as_model(chain.Chain(head, dtype))
    else:
        look, model = None, chain.as_model(chain.Chain(layers, dtype), preprocess)
    (recipe,) = parse(told["recipe"])
    steps = max(1, told["num_steps"])
    method = build(recipe, Context(model, told["num_train"], steps, steps))
    state = _filled(jax.eval_shape(method.init, key, example), arrays)
    says = predictor(method, run.key("draw"), size, run.mesh)

    def predict(images):
        return says(state, images if look is None else map_batches(look, images, size))

    refusal = told["refusal"] or {"threshold": None, "bound": None}
    return Mended(
        told["title"],
        tuple(told["classes"]),
        side,
        refusal["threshold"],
        refusal["bound"],
        predict,
    )
