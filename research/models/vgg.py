"""VGG16: configuration D of Simonyan & Zisserman 2015, in Keras' names.

Thirteen 3x3 convolutions with ReLU in five blocks, a 2x2 max pool after each block, and a head; no
normalisation.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from research.models.chain import apply_layers
from research.models.layers import Conv, Dense, Dropout, Flatten, Layer, Pool

BLOCKS = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))  # (convolutions, channels)


def convolutions(width: float = 1.0) -> tuple[Layer, ...]:
    """The five blocks, block1_conv1 to the pool of block 5; `width` scales every channel count."""
    layers = []
    for block, (repeats, channels) in enumerate(BLOCKS, start=1):
        features = max(1, round(channels * width))
        layers += [Conv(f"block{block}_conv{i}", features) for i in range(1, repeats + 1)]
        layers.append(Pool("max"))
    return tuple(layers)


def published(num_classes: int) -> tuple[Layer, ...]:
    """fc1, fc2, predictions: Simonyan & Zisserman 2015, in Keras' names and without its softmax.

    Dropout 0.5 after each hidden layer, as in the paper; Keras' own has none. It holds no weights.
    """
    return (
        Flatten(),
        Dense("fc1", 4096, "relu"),
        Dropout(0.5),
        Dense("fc2", 4096, "relu"),
        Dropout(0.5),
        Dense("predictions", num_classes),
    )


def asker(num_classes: int) -> tuple[Layer, ...]:
    """The widespread transfer-learning head; its 4x4 pool needs images of 128 pixels or more."""
    return (
        Pool("average", (4, 4), (4, 4)),
        Flatten(),
        Dense("fc1", 256, "relu"),
        Dropout(0.5),
        Dense("predictions", num_classes),
    )


def cifar(num_classes: int) -> tuple[Layer, ...]:
    """Two layers of 512, dropout before each: the VGG16 of SWAG (Maddox et al. 2019)."""
    return (
        Flatten(),
        Dropout(0.5),
        Dense("fc1", 512, "relu"),
        Dropout(0.5),
        Dense("fc2", 512, "relu"),
        Dense("predictions", num_classes),
    )


HEADS = {f.__name__: f for f in (published, asker, cifar)}


class VGG16(nn.Module):
    """VGG16 as a Flax module; parameters are a flat dict by Keras' layer names.

    Attributes:
        num_classes: K; None leaves out the head ("no top").
        head: "published", "asker" or "cifar".
        width: scales the channels of the convolutions; 1.0 is the published network.
        dtype: the type to compute in; parameters and logits stay float32.
    """

    num_classes: int | None
    head: str = "asker"
    width: float = 1.0
    dtype: jnp.dtype | None = None

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Every layer, from block1_conv1 to predictions."""
        top = () if self.num_classes is None else HEADS[self.head](self.num_classes)
        return convolutions(self.width) + top

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps preprocessed images [B, H, W, 3] to logits [B, K]; without a head, to its maps.

        Dropout is active exactly when the caller gives a "dropout" key.

        Raises:
            UserError: the images are too small for the pools (32 pixels; 128 for the asker's head).
        """
        return apply_layers(self.layers, x, self.dtype, self.has_rng("dropout"))
