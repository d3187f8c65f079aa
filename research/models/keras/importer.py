"""Networks that somebody else trained: a whole Keras model, with a proof that ours equals theirs.

A Keras model whose layers follow one another becomes a chain of ours, so every method of Candor
can work on it. Any other runs as a black box, through Keras on JAX. Either way the softmax or
sigmoid at its end is taken off: float32 probabilities of 1.000000 have lost what logits still know.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import logsumexp

from research.models import chain, vgg
from research.models.keras.convert import NotAChain, is_inactive, strip_end, to_chain
from research.models.keras.file import (
    KERAS_ERRORS,
    WAY_OUT,
    bad_model,
    every_layer,
    import_keras_on_jax,
    open_model,
    run_keras,
)
from research.models.layers import BinaryLogit, Conv, Layer, Pool
from research.models.preprocess import PREPROCESS

_SMALLEST = float(np.finfo(np.float32).tiny)


class Imported(NamedTuple):
    """A classifier read from a file, as pure functions."""

    description: str  # for the report
    classes: int  # K
    image_size: int | None  # what the file asks for; None: any
    layers: tuple[Layer, ...] | None  # None: a black box
    params: dict  # float32 by layer name; a black box: what Keras' `stateless_call` takes
    preprocess: str | None  # a name in PREPROCESS; None: the file does not say
    raw_apply: Callable  # (params, preprocessed images [B, H, W, 3], key=None) -> logits [B, K]
    reference: Callable  # preprocessed images -> logits [B, K] as Keras itself computes them
    saturated_output: bool  # the end could not be taken off: the logits are logs of probabilities


def _two_logits(outputs):
    """[B, 1] logits of class 1 -> [B, 2]; [B, K] as they are."""
    return outputs if outputs.shape[-1] > 1 else chain.binary_logits(outputs)


def _log_of_probabilities(outputs):
    """The logs [B, K] of probabilities [B, K], or of probabilities [B, 1] of class 1."""
    if outputs.shape[-1] == 1:
        outputs = jnp.concatenate([1.0 - outputs, outputs], axis=-1)
    return jnp.log(jnp.clip(outputs, _SMALLEST, 1.0))


def _check_shapes(model, path: Path) -> tuple[int | None, bool]:
    """The image size of a classifier of colour images, and whether channels come first.

    Raises:
        UserError: the model is no such classifier.
    """
    try:
        shapes = [tensor.shape for tensor in (*model.inputs, *model.outputs)]
    except KERAS_ERRORS as error:
        what = "the model was saved before it saw an image, so it has no shapes"
        raise bad_model(path, what, f"call it on one and save it again, {WAY_OUT}") from error
    if len(shapes) != 2 or len(shapes[0]) != 4:
        what = f"not a model from one image to one answer (its inputs and outputs are {shapes})"
        raise bad_model(path, what, f"cut such a model out of it, {WAY_OUT}")
    (_, *image), output = shapes
    channels_first = image[0] == 3 and image[2] != 3
    *size, channels = [*image[1:], 3] if channels_first else image
    if channels != 3 or len(set(size) - {None}) > 1:
        way_out = "Candor gives square RGB images [size, size, 3]; build the model for those"
        raise bad_model(path, f"takes images of shape {tuple(image)}", f"{way_out}, {WAY_OUT}")
    if len(output) != 2 or output[1] is None:
        what = f"gives {output} and not one row of class scores for each image"
        way_out = "add the head to it, or give a headless VGG16 as a weights file with `weights`"
        raise bad_model(path, what, way_out)
    return size[0] or size[1], channels_first


def _prepares_by_itself(keras, model) -> bool:
    """Whether the model rescales its input: by a layer anywhere, or by its first operation."""
    if any(type(layer).__name__ in ("Rescaling", "Normalization") for layer in every_layer(model)):
        return True
    operations = [] if isinstance(model, keras.Sequential) else model.operations
    first = next((operation for operation in operations if not is_inactive(operation)), None)
    return first is not None and not isinstance(first, keras.layers.Layer)


def _describe(layers: tuple[Layer, ...]) -> str:
    """What a person would call the network: VGG16 is known by its blocks of convolutions."""
    blocks, head = [0], 0
    for layer in layers:
        if isinstance(layer, Conv):
            blocks[-1] += 1
        if isinstance(layer, Pool) and layer.kind == "max" and len(blocks) <= len(vgg.BLOCKS):
            blocks.append(0)
            head = 0
        elif not isinstance(layer, BinaryLogit):
            head += 1
    if blocks == [repeats for repeats, _ in vgg.BLOCKS] + [0]:
        return f"VGG16 with a head of {head} layers"
    return f"a network of {len(layers)} layers"


def import_keras(path: str | Path) -> Imported:
    """Reads a person's whole saved Keras model, `.keras` or legacy `.h5`.

    A softmax at the end is taken off; one unit (sigmoid, or linear) becomes the two logits (0, z),
    class 1 being the positive one; K linear units are logits already.

    Raises:
        UserError: the file cannot be read, holds code, or is not a classifier of square RGB images.
    """
    path = Path(path)
    model, keras = open_model(path), import_keras_on_jax()
    image_size, channels_first = _check_shapes(model, path)
    units = model.output_shape[-1]
    end, stripped = strip_end(keras, model)
    if (end, units > 1) in (("sigmoid", True), ("softmax", False)):
        what = f"{units} {end} unit(s) at the end are no distribution over classes"
        way_out = f"end it in a softmax of K units or in one sigmoid unit, {WAY_OUT}"
        raise bad_model(path, what, way_out)

    def run(call, images):
        images = jnp.moveaxis(images, -1, 1) if channels_first else jnp.asarray(images)
        return run_keras(call, images)

    def is_distribution():
        size = image_size or 224
        noise = np.random.default_rng(0).uniform(0, 255, (4, size, size, 3)).astype(np.float32)
        outputs = np.asarray(run(model, noise), np.float64)
        whole = units == 1 or np.allclose(outputs.sum(-1), 1.0, atol=1e-3)
        return bool(whole and outputs.min() >= 0.0 and outputs.max() <= 1.0 + 1e-3)

    saturated = end is None and is_distribution()
    finish = _log_of_probabilities if saturated else _two_logits
    try:
        if saturated:
            raise NotAChain("its probabilities cannot be traced back to logits")
        layers, params = to_chain(keras, model, stripped)
        layers += (BinaryLogit(),) if units == 1 else ()
        raw_apply = chain.as_model(chain.Chain(layers)).apply
        description = f"{_describe(layers)}, from {path.name}"
    except NotAChain as reason:
        layers = None
        params = {
            "trainable": [variable.value for variable in model.trainable_variables],
            "non_trainable": [variable.value for variable in model.non_trainable_variables],
        }
        description = f"a Keras model run as a black box ({reason}), from {path.name}"

        def raw_apply(params, images, key=None):
            del key  # Keras' dropout cannot be told apart from its batch statistics
            call = partial(model.stateless_call, params["trainable"], params["non_trainable"])
            return finish(run(call, images)[0])

    return Imported(
        description=description,
        classes=max(units, 2),
        image_size=image_size,
        layers=layers,
        params=params,
        preprocess="raw" if _prepares_by_itself(keras, model) else None,
        raw_apply=raw_apply,
        reference=lambda images: np.asarray(finish(run(model, images))),
        saturated_output=saturated,
    )


def choose_preprocess(
    apply: Callable, params, images: np.ndarray, labels: np.ndarray, batch_size: int = 64
) -> tuple[str, dict[str, tuple[float, float]]]:
    """Finds out what was done to the pixels, where the model file does not say.

    Every preprocessing is tried on labelled images the model can be judged by (validation); the
    wrong ones show as a higher negative log-likelihood. Where the model makes no mistake at all on
    these images, two that differ only in scale cannot be told apart for certain: show all scores.

    Args:
        apply: (params, preprocessed images [B, H, W, 3]) -> logits [B, K].
        params: parameters of `apply`.
        images: [N, H, W, 3] uint8.
        labels: [N] int, 0..K-1.
        batch_size: number of images that go through at once.

    Returns:
        The name of the preprocessing with the lowest NLL, and (accuracy 0..1, NLL in nats) of each.
    """
    compiled, scores = jax.jit(apply), {}
    starts = range(0, len(labels), batch_size)
    for name, function in PREPROCESS.items():
        batches = (function(images[start : start + batch_size]) for start in starts)
        logits = np.concatenate([np.asarray(compiled(params, batch)) for batch in batches])
        logits = logits.astype(np.float64)  # [N, K]
        log_probs = logits - logsumexp(logits, axis=-1, keepdims=True)
        nll = -float(np.mean(log_probs[np.arange(len(labels)), labels]))
        scores[name] = (float(np.mean(logits.argmax(-1) == labels)), nll)
    best = min(scores, key=lambda name: np.nan_to_num(scores[name][1], nan=np.inf))
    return best, scores
