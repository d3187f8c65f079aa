"""What sits on top of VGG16's convolutions: three published heads, each a tuple of layers."""

from research.models.chain import Dense, Dropout, Flatten, Layer, Pool


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
