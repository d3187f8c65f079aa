"""The classifier that is judged: fresh, or on top of somebody's weights.

Somebody's whole model is `imported_classifier.py`'s. Whichever it is, methods get a `Model` and a
`Dataset`. Where the base is frozen they are the head and the base's features; where all weights are
trained, the whole network and the images.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from research.data.dataset import Dataset
from research.method import Model
from research.models import chain
from research.models.features import compute_features, identify
from research.models.imagenet import features, load_weights
from research.models.parity import check_parity
from research.models.preprocess import PREPROCESS
from research.models.vgg import BLOCKS, VGG16
from research.runtime.errors import UserError

PARITY_IMAGES = 8


class Classifier(NamedTuple):
    """What is judged, and how it came about."""

    model: Model  # of the weights that are trained or judged: head or whole network
    dataset: Dataset  # what `model` takes: features or images
    params: Any  # trained already; None: to be trained
    has_dropout: bool
    description: str
    source: str  # "trained here" or a file's name
    parameters: int  # of the whole network
    preprocess: dict[str, str]  # name and reason
    parity: float | None  # relative difference from Keras' own outputs
    saturated_output: bool
    base_milliseconds: float  # of the frozen base, per image
    see: Callable  # (params, images [B, H, W, 3] uint8) -> [B, ...]: what the head sees
    is_frozen: bool  # `model` takes what `see` gives; else it takes images
    layers: tuple[chain.Layer, ...] | None  # of the whole network; None: a black box
    base: dict  # frozen weights below the head
    # The same with pixels prepared otherwise, where nobody knows how it should be: name -> see.
    see_as: Mapping[str, Callable] = MappingProxyType({})
    dtype: Any = None  # to compute in; None: float32


class Work(NamedTuple):
    """Where and how the base is run."""

    batch_size: int
    directory: Path
    mesh: Mesh


def starting_from(model: Model, params: dict, dataset: Dataset) -> tuple[Model, Dataset]:
    """The same model whose initial weights are `params`, where it has them.

    The data set's fingerprint then tells the weights apart too, so that a run is not resumed on
    others.
    """
    started = model._replace(init=lambda key, images: {**model.init(key, images), **params})
    return started, dataset._replace(fingerprint=identify("start", params, dataset))


def has_dropout(layers: tuple[chain.Layer, ...]) -> bool:
    """Whether a network has dropout that does something."""
    return any(isinstance(layer, chain.Dropout) and layer.rate > 0 for layer in layers)


def _fitting(weights: dict, shapes: dict, source: str) -> dict:
    """The weights that the network has a place for; another number of classes starts afresh.

    Raises:
        UserError: a layer has another shape, as fc1 has at another image size.
    """
    kept = {}
    for name, layer in weights.items():
        wanted = {n: leaf.shape for n, leaf in shapes[name].items()}
        if {n: leaf.shape for n, leaf in layer.items()} == wanted:
            kept[name] = layer
        elif name != "predictions":
            raise UserError(
                f"--weights {source}: its layer {name} does not fit images of this size; give "
                "--image_size 224, or another --head"
            )
    return kept


def seeing(layers, preprocess: Callable, dtype, frozen: dict | None = None) -> Callable:
    """What the head sees, by the weights in `params`, or by frozen ones."""
    base = chain.cut(layers)[0]
    model = chain.as_model(chain.Chain(base, dtype), preprocess)

    def see(params, images):
        return model.apply(chain.pick(params if frozen is None else frozen, base), images)

    return see


def on_features(
    layers, params: dict, preprocess: Callable, dataset: Dataset, dtype, work: Work
) -> tuple[Model, Dataset, float]:
    """Cuts the network; the base runs once, the head is the model.

    Returns:
        The head, the features it takes, and what the base took, in milliseconds an image.
    """
    base, head = chain.cut(layers)
    base_model = chain.as_model(chain.Chain(base, dtype), preprocess)
    featured = compute_features(base_model.apply, chain.pick(params, base), dataset, *work)
    model = chain.as_model(chain.Chain(head, dtype))
    return model, featured.dataset, featured.milliseconds_per_image


def fresh(dataset: Dataset, network: VGG16) -> Classifier:
    """A VGG16 with random weights, to be trained whole."""
    preprocess = PREPROCESS["torch"]
    model = chain.as_model(network, preprocess)
    params = jax.eval_shape(model.init, jax.random.key(0), some(dataset, 1))
    return Classifier(
        model=model,
        dataset=dataset,
        params=None,
        has_dropout=has_dropout(network.layers),
        description=_describe(network),
        source="trained here",
        parameters=chain.count(params),
        preprocess={"name": "torch", "reason": "pixels brought to mean 0 and variance 1 or so"},
        parity=None,
        saturated_output=False,
        base_milliseconds=0.0,
        see=seeing(network.layers, preprocess, network.dtype),
        is_frozen=False,
        layers=network.layers,
        base={},
        dtype=network.dtype,
    )


def from_weights(
    dataset: Dataset, network: VGG16, source: str, train_head_only: bool, work: Work
) -> Classifier:
    """A VGG16 on ImageNet weights, its head or all of it to be trained.

    Args:
        dataset: images.
        network: of the width that the file has; layers that the file lacks start at random.
        source: "imagenet", or an `.h5` or `.safetensors` file.
        train_head_only: freeze the convolutions.
        work: where the base runs.

    Raises:
        UserError: the weights cannot be had, or do not fit.
    """
    weights, name, reference = load_weights(source, head_name=network.head)
    preprocess = PREPROCESS[name]
    network = network.clone(width=len(weights["block1_conv1"]["bias"]) / BLOCKS[0][1])
    parity = None
    if reference is not None:
        images = preprocess(some(dataset, PARITY_IMAGES))
        parity = check_parity(f"--weights {source}", features, weights, reference, images)
    whole = chain.as_model(network, preprocess)
    shapes = jax.eval_shape(whole.init, jax.random.key(0), some(dataset, 1))
    weights = _fitting(weights, shapes, source)
    model, used, milliseconds, trained = whole, dataset, 0.0, network.layers
    if train_head_only:
        model, used, milliseconds = on_features(
            network.layers, weights, preprocess, dataset, network.dtype, work
        )
        trained = chain.cut(network.layers)[1]
    model, used = starting_from(model, chain.pick(weights, trained), used)
    return Classifier(
        model=model,
        dataset=used,
        params=None,
        has_dropout=has_dropout(network.layers),
        description=f"{_describe(network)} on the weights {Path(source).name}",
        source="trained here",
        parameters=chain.count(shapes),
        preprocess={"name": name, "reason": "it goes with these weights"},
        parity=parity,
        saturated_output=False,
        base_milliseconds=milliseconds,
        see=seeing(network.layers, preprocess, network.dtype, weights if train_head_only else None),
        is_frozen=train_head_only,
        layers=network.layers,
        base=chain.pick(weights, chain.cut(network.layers)[0]) if train_head_only else {},
        dtype=network.dtype,
    )


def head_of(
    classifier: Classifier, params: dict, dataset: Dataset, work: Work
) -> tuple[Classifier, dict]:
    """A trained classifier with all below its head frozen: the head on cached features.

    Args:
        classifier: of which the layers are known.
        params: its trained weights.
        dataset: of images.
        work: where the base runs.

    Returns:
        The classifier, and the trained weights of its head.
    """
    if classifier.is_frozen:
        return classifier, params
    base, head = chain.cut(classifier.layers)
    featured = compute_features(classifier.see, params, dataset, *work)
    frozen = classifier._replace(
        model=chain.as_model(chain.Chain(head, classifier.dtype)),
        dataset=featured.dataset,
        base_milliseconds=featured.milliseconds_per_image,
        see=lambda _, images: classifier.see(params, images),
        is_frozen=True,
        base=chain.pick(params, base),
    )
    return frozen, chain.pick(params, head)


def spread(n: int, most: int) -> np.ndarray:
    """At most `most` indices below n, evenly spaced, so that all classes are among them."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).astype(int))


def some(dataset: Dataset, n: int) -> np.ndarray:
    """At most n of the test images, evenly spaced."""
    return dataset.test.images[spread(len(dataset.test.labels), n)]


def _describe(network: VGG16) -> str:
    width = "" if network.width == 1 else f", {network.width:g} of its width"
    return f"VGG16 with the {network.head} head{width}"
