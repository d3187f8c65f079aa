"""Runs a tuple of layer records in Flax.

Parameters are a flat dict by layer name (Keras' names), so the weights of base and head are picked,
and weights are copied, by name.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from research.method import Model
from research.models.activations import ACTIVATIONS
from research.models.convolution import convolve
from research.models.layers import (
    Activation,
    Affine,
    BinaryLogit,
    Conv,
    Dense,
    Dropout,
    Flatten,
    GlobalPool,
    Layer,
    Pool,
    Preprocess,
    Rescale,
    cut,
)
from research.models.preprocess import PREPROCESS
from research.runtime.errors import UserError


def _pool(layer: Pool, x: jax.Array) -> jax.Array:
    height, width = x.shape[1:3]
    if layer.padding == "VALID" and (height < layer.size[0] or width < layer.size[1]):
        pool = f"{layer.size[0]}x{layer.size[1]}"
        what = f"the images are too small: a {pool} pool meets a {height}x{width} map"
        raise UserError("image_size", what, "give a larger `image_size`")
    if layer.kind == "max":
        return nn.max_pool(x, layer.size, layer.strides, layer.padding)
    return nn.avg_pool(x, layer.size, layer.strides, layer.padding, count_include_pad=False)


def binary_logits(z: jax.Array) -> jax.Array:
    """Logits z [B, 1] of class 1 as the two logits (0, z) [B, 2], whose softmax is sigmoid(z)."""
    return jnp.concatenate([jnp.zeros_like(z), z], axis=-1)


def _per_channel(values, x: jax.Array) -> jax.Array:
    values = jnp.asarray(values, x.dtype)
    return values.reshape((1,) * (x.ndim - values.ndim) + values.shape)


class _Affine(nn.Module):
    @nn.compact
    def __call__(self, x):
        scale = self.param("scale", nn.initializers.ones, x.shape[-1:])
        bias = self.param("bias", nn.initializers.zeros, x.shape[-1:])
        return x * _per_channel(scale, x) + _per_channel(bias, x)


def _apply_layer(layer: Layer, x: jax.Array, dtype, use_dropout: bool, is_last: bool) -> jax.Array:
    # He initialisation carries the scale through many ReLUs; the logits start near zero.
    kernel_init = nn.initializers.lecun_normal() if is_last else nn.initializers.he_normal()
    match layer:
        case Conv() | Dense():
            options: dict[str, Any] = {
                "use_bias": layer.use_bias,
                "dtype": dtype,
                "kernel_init": kernel_init,
                "name": layer.name,
            }
            if isinstance(layer, Conv):
                window = layer.kernel, layer.strides, layer.padding
                options["conv_general_dilated"] = convolve
                module = nn.Conv(layer.features, *window, **options)
            else:
                module = nn.Dense(layer.features, **options)
            return ACTIVATIONS[layer.activation](module(x))
        case Pool():
            return _pool(layer, x)
        case GlobalPool():
            reduce = jnp.mean if layer.kind == "average" else jnp.max
            return reduce(x, axis=(1, 2), keepdims=layer.keepdims)
        case Flatten():
            return x.reshape(x.shape[0], -1)
        case Dropout():
            return nn.Dropout(layer.rate)(x, deterministic=not use_dropout)
        case Activation():
            return ACTIVATIONS[layer.function](x)
        case Affine():
            return _Affine(name=layer.name)(x)
        case Rescale():
            return x * _per_channel(layer.scale, x) + _per_channel(layer.offset, x)
        case Preprocess():
            return jnp.asarray(PREPROCESS[layer.function](x))
        case BinaryLogit():
            return binary_logits(x)


def apply_layers(layers: tuple[Layer, ...], x: jax.Array, dtype, use_dropout: bool) -> jax.Array:
    """Runs the layers inside the compact method of the Flax module that calls it.

    That module owns the parameters.

    Raises:
        UserError: the images are too small for a pool.
    """
    last = max((i for i, layer in enumerate(layers) if isinstance(layer, Dense)), default=-1)
    x = x if dtype is None else x.astype(dtype)
    for i, layer in enumerate(layers):
        x = _apply_layer(layer, x, dtype, use_dropout, is_last=i == last)
    return x.astype(jnp.float32)


class Chain(nn.Module):
    """Runs a tuple of layers one after another.

    Attributes:
        layers: the network.
        dtype: the type to compute in (bfloat16 halves memory traffic); parameters and result stay
            float32.
    """

    layers: tuple[Layer, ...]
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps preprocessed images [B, H, W, 3] (or features) to logits [B, K] (or features).

        Dropout is active exactly when the caller gives a "dropout" key.
        """
        return apply_layers(self.layers, x, self.dtype, self.has_rng("dropout"))


def _names(layers: tuple[Layer, ...]) -> tuple[str, ...]:
    return tuple(layer.name for layer in layers if isinstance(layer, Conv | Dense | Affine))


def as_model(module: nn.Module, preprocess: Callable = lambda images: images) -> Model:
    """A Flax module and its preprocessing as the `Model` that methods know.

    Args:
        module: the network: images (or features) -> logits; its `layers` are a tuple of records.
        preprocess: [B, H, W, 3] uint8 -> float32, jittable; identity for cached features.
    """

    def init(key, images):
        return module.init(key, preprocess(images))["params"]

    def apply(params, images, key=None) -> Any:
        rngs = None if key is None else {"dropout": key}
        return module.apply({"params": params}, preprocess(images), rngs=rngs)

    return Model(init, apply, _names(module.layers), _names(cut(module.layers)[1]))


def pick(params: dict, names: tuple[str, ...]) -> dict:
    """The parameters of the named layers, such as `Model.layers` of a base or a head."""
    return {name: value for name, value in params.items() if name in names}


def count(params) -> int:
    """How many numbers a tree of parameters holds."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
