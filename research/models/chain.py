"""A network as a list of layers, in Flax.

VGG16, every head, and every Keras model whose layers follow one another are a tuple of the small
records below; `Chain` runs them. Parameters are a flat dict by layer name (Keras' names), so a
network is cut into base and head by cutting the tuple, and weights are copied by name.
"""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from research.method import Model
from research.models.activations import ACTIVATIONS
from research.models.convolution import convolve
from research.models.preprocess import PREPROCESS
from research.runtime.errors import UserError


class Conv(NamedTuple):
    """Convolution, NHWC."""

    name: str
    features: int
    kernel: tuple[int, int] = (3, 3)
    strides: tuple[int, int] = (1, 1)
    padding: str = "SAME"
    activation: str = "relu"
    use_bias: bool = True


class Dense(NamedTuple):
    """Fully connected layer on the last axis."""

    name: str
    features: int
    activation: str = "linear"
    use_bias: bool = True


class Pool(NamedTuple):
    """Average pooling (padding not counted, as in Keras) or max pooling."""

    kind: str  # "average" or "max"
    size: tuple[int, int] = (2, 2)
    strides: tuple[int, int] = (2, 2)
    padding: str = "VALID"


class GlobalPool(NamedTuple):
    """Average or maximum over the whole map; `keepdims` leaves 1x1."""

    kind: str
    keepdims: bool = False


class Flatten(NamedTuple):
    """[B, H, W, C] -> [B, H*W*C], in that order."""


class Dropout(NamedTuple):
    """Active only where a dropout key is given."""

    rate: float


class Activation(NamedTuple):
    """A non-linearity of its own."""

    function: str


class Affine(NamedTuple):
    """x * scale + bias per channel: an imported batch normalisation that no layer could take in."""

    name: str


class Rescale(NamedTuple):
    """x * scale + offset with fixed numbers."""

    scale: float | tuple[float, ...]
    offset: float | tuple[float, ...] = 0.0


class Preprocess(NamedTuple):
    """One of `models/preprocess.py`, done by the network itself."""

    function: str


class BinaryLogit(NamedTuple):
    """One logit z [B, 1] of class 1 -> two logits (0, z) [B, 2]: softmax then equals sigmoid(z)."""


Layer = (
    Conv
    | Dense
    | Pool
    | GlobalPool
    | Flatten
    | Dropout
    | Activation
    | Affine
    | Rescale
    | Preprocess
    | BinaryLogit
)


KINDS = {kind.__name__: kind for kind in Layer.__args__}


def to_json(layers: tuple[Layer, ...]) -> list[dict]:
    """The layers as JSON holds them: each record's kind and fields."""
    return [{"layer": type(layer).__name__, **layer._asdict()} for layer in layers]


def from_json(records: list[dict]) -> tuple[Layer, ...]:
    """The layers that `to_json` wrote.

    Raises:
        KeyError, TypeError: there is no such kind, or it has no such field.
    """

    def build(record):
        fields = {n: tuple(v) if isinstance(v, list) else v for n, v in record.items()}
        return KINDS[fields.pop("layer")](**fields)

    return tuple(build(record) for record in records)


def has_weights_or_noise(layer: Layer) -> bool:
    """Whether a layer has parameters or draws random numbers."""
    return isinstance(layer, Conv | Dense | Dropout | Affine)


def cut(layers: tuple[Layer, ...]) -> tuple[tuple[Layer, ...], tuple[Layer, ...]]:
    """Cuts a network into (base, head).

    The base ends after the last convolution and what follows it without weights or noise (pools,
    Flatten): it gives every image one fixed array of features, which can be cached.
    """
    last = max((i for i, layer in enumerate(layers) if isinstance(layer, Conv)), default=-1)
    end = last + 1
    while 0 < end < len(layers) and not has_weights_or_noise(layers[end]):
        end += 1
    return layers[:end], layers[end:]


def _pool(layer: Pool, x: jax.Array) -> jax.Array:
    height, width = x.shape[1:3]
    if layer.padding == "VALID" and (height < layer.size[0] or width < layer.size[1]):
        raise UserError(
            f"--image_size: the images are too small: a {layer.size[0]}x{layer.size[1]} pool meets "
            f"a {height}x{width} map; give a larger --image_size"
        )
    if layer.kind == "max":
        return nn.max_pool(x, layer.size, layer.strides, layer.padding)
    return nn.avg_pool(x, layer.size, layer.strides, layer.padding, count_include_pad=False)


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
        case Conv():
            x = nn.Conv(
                layer.features,
                layer.kernel,
                layer.strides,
                layer.padding,
                use_bias=layer.use_bias,
                dtype=dtype,
                kernel_init=kernel_init,
                conv_general_dilated=convolve,
                name=layer.name,
            )(x)
            return ACTIVATIONS[layer.activation](x)
        case Dense():
            x = nn.Dense(
                layer.features,
                use_bias=layer.use_bias,
                dtype=dtype,
                kernel_init=kernel_init,
                name=layer.name,
            )(x)
            return ACTIVATIONS[layer.activation](x)
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
            return PREPROCESS[layer.function](x)
        case BinaryLogit():
            return jnp.concatenate([jnp.zeros_like(x), x], axis=-1)


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

    def apply(params, images, key=None):
        rngs = None if key is None else {"dropout": key}
        return module.apply({"params": params}, preprocess(images), rngs=rngs)

    return Model(init, apply, _names(module.layers), _names(cut(module.layers)[1]))


def pick(params: dict, layers: tuple[Layer, ...]) -> dict:
    """The parameters of the named layers: base or head of a cut network."""
    names = {getattr(layer, "name", None) for layer in layers}
    return {name: value for name, value in params.items() if name in names}


def count(params) -> int:
    """How many numbers a tree of parameters holds."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
