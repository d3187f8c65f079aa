"""Turns a Keras model whose layers follow one another into a chain of ours, with its parameters.

Batch normalisation at inference is y = scale * x + shift with scale = gamma / sqrt(var + eps) and
shift = beta - mean * scale (Ioffe & Szegedy 2015), so it is folded into a linear convolution or
dense layer right before it (kernel * scale, bias * scale + shift) and is an `Affine` elsewhere.
Layers that do nothing at inference are left out. Operations at the start of a model are compared
with our preprocessings; the one they equal takes their place.
"""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from research.models import chain
from research.models.activations import ACTIVATIONS
from research.models.layers import (
    Activation,
    Affine,
    Conv,
    Dense,
    Dropout,
    Flatten,
    GlobalPool,
    Layer,
    Pool,
    Preprocess,
    Rescale,
)
from research.models.preprocess import PREPROCESS

_INACTIVE = {
    "InputLayer",
    "Identity",
    "ActivityRegularization",
    "AugMix",
    "RandAugment",
    "GaussianNoise",
    "GaussianDropout",
    "AlphaDropout",
    "SpatialDropout1D",
    "SpatialDropout2D",
}
_POOLS = {"AveragePooling2D": "average", "MaxPooling2D": "max"}
_GLOBAL_POOLS = {"GlobalAveragePooling2D": "average", "GlobalMaxPooling2D": "max"}


class NotAChain(Exception):
    """The model has no equal among our chains; the message says which layer, for the report."""


def _unlike(layer) -> NotAChain:
    return NotAChain(f"its layer '{layer.name}' ({type(layer).__name__}) is none of the plain ones")


def is_inactive(layer) -> bool:
    """Whether a layer does nothing at inference: augmentation, noise."""
    kind = type(layer).__name__
    return kind in _INACTIVE or (kind.startswith("Random") and kind != "RandomCrop")


def last_layer(keras, model):
    """The layer (or operation) that makes the model's output; nested models are opened."""
    while isinstance(model, keras.Model):
        sequential = isinstance(model, keras.Sequential)
        model = model.layers[-1] if sequential else model.outputs[0]._keras_history.operation
    return model


def strip_end(keras, model) -> tuple[str | None, object | None]:
    """Makes the model give what goes into its last softmax or sigmoid, by changing it in place.

    Returns:
        What the end was: "softmax", "sigmoid" or "linear"; None for anything else, which stays as
        it is. And the layer that does nothing any more; None where there is none.
    """
    end = last_layer(keras, model)
    kind = type(end).__name__
    if kind in ("Dense", "Activation"):
        function = keras.activations.serialize(end.activation)
        if function not in ("softmax", "sigmoid", "linear"):
            return None, None
        end.activation = keras.activations.linear
        return function, end if kind == "Activation" else None
    if kind == "Sigmoid" or (kind == "Softmax" and end.axis in (-1, len(model.output_shape) - 1)):
        end.call = lambda inputs, mask=None: inputs
        return kind.lower(), end
    return None, None


def _in_order(keras, model, stripped=None) -> tuple[list, Any]:
    """The layers on the one path to the output, and the tensor where that path begins."""
    if isinstance(model, keras.Sequential):
        return list(model.layers), model.inputs[0]
    layers, tensor = [], model.outputs[0]
    while tensor is not model.inputs[0]:
        operation, index, _ = tensor._keras_history
        parents = operation._inbound_nodes[index].input_tensors
        is_layer = isinstance(operation, keras.layers.Layer) or operation is stripped
        if len(parents) != 1 or not is_layer:
            break
        layers.append(operation)
        tensor = parents[0]
    return layers[::-1], tensor


def _leaves(keras, layers: list, outer: str = "") -> Iterator[tuple[str, Any]]:
    """Yields every layer with the name of the model around it; nested models are opened."""
    for layer in layers:
        if not isinstance(layer, keras.Model):
            yield outer, layer
            continue
        inner, start = _in_order(keras, layer)
        if len(layer.outputs) != 1 or start is not layer.inputs[0]:
            raise NotAChain(f"the layers of its part '{layer.name}' do not follow one another")
        yield from _leaves(keras, inner, layer.name)


def _preprocessing(keras, model, tensor) -> Preprocess:
    """Finds the preprocessing of ours that equals the model's own first operations."""
    height, width = (size or 32 for size in model.input_shape[1:3])
    images = np.random.default_rng(0).integers(0, 256, (2, height, width, 3)).astype(np.float32)
    theirs = np.asarray(keras.Model(model.inputs[0], tensor)(images, training=False))
    for name, function in PREPROCESS.items():
        ours = np.asarray(function(images))
        if ours.shape == theirs.shape and np.allclose(ours, theirs, rtol=0, atol=1e-4):
            return Preprocess(name)
    raise _unlike(tensor._keras_history.operation)


def _activation(keras, layer) -> str:
    name = keras.activations.serialize(layer.activation)
    if not isinstance(name, str) or name not in ACTIVATIONS:
        raise _unlike(layer)
    return name


def _numbers(values) -> tuple[float, ...]:
    """A fixed number, or one for each channel, as a tuple of floats."""
    return tuple(np.asarray(values, np.float64).ravel().tolist())


def _convert(keras, layer, name: str) -> Layer:
    """The record of one layer that is active at inference."""
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        raise NotAChain(f"its layer '{layer.name}' is channels_first")
    kind = type(layer).__name__
    match kind:
        case "Conv2D" if (
            layer.groups == 1
            and layer.dilation_rate == (1, 1)
            and layer.padding in ("same", "valid")
        ):
            return Conv(
                name,
                layer.filters,
                layer.kernel_size,
                layer.strides,
                layer.padding.upper(),
                _activation(keras, layer),
                layer.use_bias,
            )
        case "Dense" if layer.quantization_mode is None:
            return Dense(name, layer.units, _activation(keras, layer), layer.use_bias)
        case "AveragePooling2D" | "MaxPooling2D":
            return Pool(_POOLS[kind], layer.pool_size, layer.strides, layer.padding.upper())
        case "GlobalAveragePooling2D" | "GlobalMaxPooling2D":
            return GlobalPool(_GLOBAL_POOLS[kind], layer.keepdims)
        case "Flatten":
            return Flatten()
        case "Reshape" if len(layer.target_shape) == 1:
            return Flatten()
        case "Dropout":
            return Dropout(layer.rate)
        case "Activation":
            return Activation(_activation(keras, layer))
        case "ReLU" if not layer.negative_slope and not layer.threshold:
            if layer.max_value in (None, 6):
                return Activation("relu6" if layer.max_value else "relu")
        case "LeakyReLU" if layer.negative_slope == 0.2:
            return Activation("leaky_relu")
        case "ELU" if layer.alpha == 1:
            return Activation("elu")
        case "Rescaling" if np.ndim(layer.scale) <= 1 and np.ndim(layer.offset) <= 1:
            return Rescale(_numbers(layer.scale), _numbers(layer.offset))
        case "Normalization" if not layer.invert:
            deviation = np.maximum(np.sqrt(layer.variance), keras.backend.epsilon())
            if np.size(deviation) == (1, *np.shape(deviation))[-1]:  # per channel, or one number
                return Rescale(_numbers(1 / deviation), _numbers(-layer.mean / deviation))
    raise _unlike(layer)


def _batch_norm(layer) -> tuple[np.ndarray, np.ndarray]:
    """Scale and shift of a batch normalisation at inference, one of each per channel."""
    if layer.axis not in (-1, layer.input_spec.ndim - 1):
        raise _unlike(layer)
    scale = 1.0 / np.sqrt(_float64(layer.moving_variance) + layer.epsilon)
    scale = scale * _float64(layer.gamma) if layer.scale else scale
    shift = -_float64(layer.moving_mean) * scale
    return scale, shift + _float64(layer.beta) if layer.center else shift


def _float64(variable) -> np.ndarray:
    return np.asarray(variable.value, np.float64)


def to_chain(keras, model, stripped) -> tuple[tuple[Layer, ...], dict]:
    """The model as a chain.

    Args:
        keras: the module.
        model: one input, one output, its end stripped.
        stripped: the layer that `strip_end` took out of use, or None.

    Returns:
        The records, and the parameters by layer name, float32.

    Raises:
        NotAChain: branches, or a layer that `models/layers.py` does not have.
    """
    layers, start = _in_order(keras, model, stripped)
    records, params, converted = [], {}, set()
    if start is not model.inputs[0]:
        records.append(_preprocessing(keras, model, start))
    for outer, layer in _leaves(keras, layers):
        if is_inactive(layer) or layer is stripped:
            continue
        if layer.weights and id(layer) in converted:
            raise NotAChain(f"its layer '{layer.name}' is used twice")
        converted.add(id(layer))
        name = layer.name
        while name in params or hasattr(chain.Chain, name):  # nested models may repeat a name
            name = f"{outer or 'model'}_{name}"
        if type(layer).__name__ == "BatchNormalization":
            scale, shift = _batch_norm(layer)
            last = records[-1] if records else None
            if isinstance(last, Conv | Dense) and last.activation == "linear":
                weights = params[last.name]
                params[last.name] = {
                    "kernel": weights["kernel"] * scale,
                    "bias": weights.get("bias", 0.0) * scale + shift,
                }
                records[-1] = last._replace(use_bias=True)
            else:
                records.append(Affine(name))
                params[name] = {"scale": scale, "bias": shift}
            continue
        records.append(_convert(keras, layer, name))
        if isinstance(records[-1], Conv | Dense):
            params[name] = {"kernel": _float64(layer.kernel)}
            if layer.use_bias:
                params[name]["bias"] = _float64(layer.bias)
    return tuple(records), jax.tree.map(lambda values: np.asarray(values, np.float32), params)
