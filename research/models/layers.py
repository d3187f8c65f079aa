"""The layers of a network as records.

VGG16, every head, and every Keras model whose layers follow one another are a tuple of these
records. The same records are run (`chain.py`), saved as JSON, imported, and described. A network is
cut into base and head by cutting the tuple.
"""

from typing import NamedTuple


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


def cut(layers: tuple[Layer, ...]) -> tuple[tuple[Layer, ...], tuple[Layer, ...]]:
    """Cuts a network into (base, head).

    The base ends after the last convolution and what follows it without weights or noise (pools,
    Flatten): it gives every image one fixed array of features, which can be cached.
    """
    last = max((i for i, layer in enumerate(layers) if isinstance(layer, Conv)), default=-1)
    end, weights_or_noise = last + 1, Conv | Dense | Dropout | Affine
    while 0 < end < len(layers) and not isinstance(layers[end], weights_or_noise):
        end += 1
    return layers[:end], layers[end:]


def reshape(
    layers: tuple[Layer, ...], dropout: float | None = None, head_width: int | None = None
) -> tuple[Layer, ...]:
    """The same network with more or less dropout, or a wider or narrower head.

    Only what comes after the last convolution changes.

    Args:
        layers: the network, or only its head.
        dropout: the rate of every dropout layer there, 0 to below 1; None: as they are.
        head_width: units of every dense layer there but the last; None: as they are.
    """
    base, head = cut(layers)
    last = max((i for i, layer in enumerate(head) if isinstance(layer, Dense)), default=-1)

    def changed(i, layer):
        if isinstance(layer, Dropout) and dropout is not None:
            return layer._replace(rate=dropout)
        if isinstance(layer, Dense) and i != last and head_width is not None:
            return layer._replace(features=head_width)
        return layer

    return base + tuple(changed(i, layer) for i, layer in enumerate(head))
