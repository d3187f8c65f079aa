"""The classifier that is evaluated: a network cut once into a base and a head.

The base is the part whose features can be computed once and cached; the head is what follows. A
classifier starts fresh, on top of ImageNet weights, or from somebody's whole model
(`imported.py`). Methods see none of this: they get `model` and `dataset`, which are the head and
the cached features where the base is frozen, and the whole network and the images elsewhere.
"""

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from research.data.dataset import Dataset, spread
from research.method import Model
from research.models import chain
from research.models.features import compute_features, identify
from research.models.imagenet import features, load_weights
from research.models.layers import Dropout, Layer, cut
from research.models.parity import check_parity
from research.models.preprocess import PREPROCESS
from research.models.vgg import BLOCKS, VGG16
from research.runtime.errors import UserError
from research.runtime.run import Run

PARITY_IMAGES = 8


class Origin(NamedTuple):
    """What a classifier is and where it came from, as the report describes it."""

    description: str
    source: str  # "trained here" or the name of a file
    parameters: int  # of the whole network
    preprocess_reason: str  # why the pixels are prepared as they are
    parity: float | None = None  # relative difference from Keras' own outputs
    saturated_output: bool = False


@dataclass(frozen=True, eq=False)
class Classifier:
    """A base, a head, and which of their weights are trained.

    A black box is a base that gives logits, below a head that leaves them as they are.
    """

    base: Model  # prepared images [B, H, W, 3] float32 -> features [B, ...]
    head: Model  # features [B, ...] -> logits [B, K]
    trainable: str  # "none", "head" or "all"
    preprocess: str  # how pixels are prepared: a name in `PREPROCESS`
    origin: Origin
    dataset: Dataset | None  # the inputs of `model`; None: they have not been computed
    layers: tuple[Layer, ...] | None = None  # of the whole network; None: a black box
    dtype: Any = None  # the type to compute in; None: float32
    start: dict = field(default_factory=dict)  # weights that `model` starts from, where it has any
    frozen: dict = field(default_factory=dict)  # weights of the base, unless "all" are trained
    base_milliseconds: float = 0.0  # of the frozen base, per image
    other_preprocess: tuple[str, ...] = ()  # names that are as likely: no file tells which is right

    @cached_property
    def model(self) -> Model:
        """What methods train or evaluate: the head, or the whole network where all is trained."""
        model = self.head
        if self.trainable == "all":
            assert self.layers is not None  # a black box is not trained
            network = chain.Chain(self.layers, self.dtype)
            model = chain.as_model(network, PREPROCESS[self.preprocess])
        if self.trainable == "none":  # what is trained all the same, as a remedy, starts afresh
            return model
        start = self.start
        return model._replace(init=lambda key, inputs: {**model.init(key, inputs), **start})

    @property
    def inputs(self) -> Dataset:
        """The inputs of `model`, of a classifier that has them."""
        assert self.dataset is not None, "no features are cached (see `with_preprocess`)"
        return self.dataset

    @property
    def params(self) -> dict | None:
        """The weights of `model`, if it is not to be trained; None: it is."""
        return self.start if self.trainable == "none" else None

    @property
    def has_dropout(self) -> bool:
        """Whether the network has dropout with a rate above 0."""
        layers = self.layers or ()
        return any(isinstance(layer, Dropout) and layer.rate > 0 for layer in layers)

    def features(self, params, images: jax.Array) -> jax.Array:
        """What the head gets of images.

        Args:
            params: weights of `model`.
            images: [B, H, W, 3] uint8.

        Returns:
            [B, ...] float32.
        """
        weights = chain.pick(params, self.base.layers) if self.trainable == "all" else self.frozen
        return self.base.apply(weights, PREPROCESS[self.preprocess](images))

    def logits(self, params, features: jax.Array) -> jax.Array:
        """Logits [B, K] of features [B, ...], with weights of `model`."""
        return self.head.apply(chain.pick(params, self.head.layers), features)

    def with_preprocess(self, name: str) -> "Classifier":
        """The same weights on pixels prepared otherwise; no features are cached."""
        dataset = self.dataset if self.trainable == "all" else None
        return replace(self, preprocess=name, other_preprocess=(), dataset=dataset)

    def start_from(self, weights: dict) -> "Classifier":
        """The same with those of the weights that `model` has; others start at random.

        The data set's fingerprint then depends on the weights too, so that a run is not resumed
        from others.
        """
        start, dataset = chain.pick(weights, self.model.layers), self.inputs
        fingerprint = identify("start", start, dataset)
        return replace(self, start=start, dataset=dataset._replace(fingerprint=fingerprint))

    def freeze(self, params, dataset: Dataset, run: Run) -> "Classifier":
        """The same with its base frozen: the base runs once, and methods get the head.

        Args:
            params: weights, those of the base among them.
            dataset: images.
            run: where the base runs, and keeps its features.
        """
        frozen = params if self.layers is None else chain.pick(params, self.base.layers)
        preprocess = PREPROCESS[self.preprocess]

        def run_base(weights, images):
            return self.base.apply(weights, preprocess(images))

        featured = compute_features(run_base, frozen, dataset, run)
        return replace(
            self,
            trainable="head" if self.trainable == "all" else self.trainable,
            dataset=featured.dataset,
            start={},
            frozen=frozen,
            base_milliseconds=featured.milliseconds_per_image,
        )


def base_and_head(layers: tuple[Layer, ...], dtype) -> tuple[Model, Model]:
    """A network, given by all its layers, as base and head that compute in `dtype`."""
    base, head = cut(layers)
    return chain.as_model(chain.Chain(base, dtype)), chain.as_model(chain.Chain(head, dtype))


def _fitting(weights: dict, shapes: dict, source: str) -> dict:
    """The weights that fit the network; with another number of classes the last layer is left out.

    Raises:
        UserError: a layer has another shape, as fc1 has at another image size.
    """
    kept = {}
    for name, layer in weights.items():
        wanted = {n: leaf.shape for n, leaf in shapes[name].items()}
        if {n: leaf.shape for n, leaf in layer.items()} == wanted:
            kept[name] = layer
        elif name != "predictions":
            what = f"its layer {name} does not fit images of this size"
            way_out = "give `image_size` 224, or another `head`"
            raise UserError("weights", what, way_out, value=source)
    return kept


def fresh(dataset: Dataset, network: VGG16) -> Classifier:
    """A VGG16 with random weights, to be trained whole."""
    params = jax.eval_shape(network.init, jax.random.key(0), some(dataset, 1))["params"]
    return Classifier(
        *base_and_head(network.layers, network.dtype),
        trainable="all",
        preprocess="torch",
        origin=Origin(
            description=_describe(network),
            source="trained here",
            parameters=chain.count(params),
            preprocess_reason="pixels brought to mean 0 and variance 1 or so",
        ),
        dataset=dataset,
        layers=network.layers,
        dtype=network.dtype,
    )


def from_weights(
    dataset: Dataset, network: VGG16, source: str, trainable: str, run: Run
) -> Classifier:
    """A VGG16 on ImageNet weights, its head or all of it to be trained.

    Args:
        dataset: images.
        network: the network; its width becomes that of the file, and layers that the file lacks
            start at random.
        source: "imagenet", or an `.h5` or `.safetensors` file.
        trainable: "head" freezes the convolutions; "all".
        run: where the base runs, and keeps its features.

    Raises:
        UserError: the weights cannot be had, or do not fit.
    """
    weights, name, reference = load_weights(source, head_name=network.head)
    network = network.clone(width=len(weights["block1_conv1"]["bias"]) / BLOCKS[0][1])
    parity = None
    if reference is not None:
        images = PREPROCESS[name](some(dataset, PARITY_IMAGES))
        parity = check_parity("weights", source, features, weights, reference, images)
    classifier = fresh(dataset, network)
    shapes = jax.eval_shape(classifier.model.init, jax.random.key(0), some(dataset, 1))
    weights = _fitting(weights, shapes, source)
    origin = classifier.origin._replace(
        description=f"{_describe(network)} on the weights {Path(source).name}",
        preprocess_reason="it goes with these weights",
        parity=parity,
    )
    classifier = replace(classifier, preprocess=name, origin=origin)
    if trainable == "head":
        classifier = classifier.freeze(weights, dataset, run)
    return classifier.start_from(weights)


def some(dataset: Dataset, n: int) -> np.ndarray:
    """At most n of the test images, evenly spaced."""
    return dataset.test.images[spread(len(dataset.test.labels), n)]


def _describe(network: VGG16) -> str:
    width = "" if network.width == 1 else f", {network.width:g} of its width"
    return f"VGG16 with the {network.head} head{width}"
