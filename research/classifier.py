"""The classifier that is judged: fresh, on top of somebody's weights, or somebody's whole model.

Whichever it is, methods get a `Model` and a `Dataset`. Where the base is frozen they are the head
and the base's features; where all weights are trained, the whole network and the images.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from research.data.dataset import Dataset
from research.errors import UserError
from research.features import compute_features, identify
from research.method import Model
from research.models import chain
from research.models.preprocess import PREPROCESS
from research.models.pretrained import Imported, check_parity, choose_preprocess
from research.models.vgg import BLOCKS, VGG16
from research.models.weights_file import features, load_weights

PARITY_IMAGES = 8
CHOICE_IMAGES = 64


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


def _starting_from(model: Model, params: dict, dataset: Dataset) -> tuple[Model, Dataset]:
    """The same model whose initial weights are `params`, where it has them.

    The data set's fingerprint then tells the weights apart too, so that a run is not resumed on
    others.
    """
    started = model._replace(init=lambda key, images: {**model.init(key, images), **params})
    return started, dataset._replace(fingerprint=identify("start", params, dataset))


def _has_dropout(layers: tuple[chain.Layer, ...]) -> bool:
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


def _seeing(layers, preprocess: Callable, dtype, frozen: dict | None = None) -> Callable:
    """What the head sees, by the weights in `params`, or by frozen ones."""
    base = chain.cut(layers)[0]
    model = chain.as_model(chain.Chain(base, dtype), preprocess)

    def see(params, images):
        return model.apply(chain.pick(params if frozen is None else frozen, base), images)

    return see


def _on_features(
    layers, params: dict, preprocess: Callable, dataset: Dataset, dtype, work: Work
) -> tuple[Model, Dataset, float]:
    """Cuts the network; the base runs once, the head is the model."""
    base, head = chain.cut(layers)
    base_model = chain.as_model(chain.Chain(base, dtype), preprocess)
    featured = compute_features(base_model.apply, chain.pick(params, base), dataset, *work)
    model = chain.as_model(chain.Chain(head, dtype))
    return model, featured.dataset, featured.milliseconds_per_image


def fresh(dataset: Dataset, network: VGG16) -> Classifier:
    """A VGG16 with random weights, to be trained whole."""
    preprocess = PREPROCESS["torch"]
    model = chain.as_model(network, preprocess)
    params = jax.eval_shape(model.init, jax.random.key(0), _some(dataset, 1))
    return Classifier(
        model=model,
        dataset=dataset,
        params=None,
        has_dropout=_has_dropout(network.layers),
        description=_describe(network),
        source="trained here",
        parameters=chain.count(params),
        preprocess={"name": "torch", "reason": "pixels brought to mean 0 and variance 1 or so"},
        parity=None,
        saturated_output=False,
        base_milliseconds=0.0,
        see=_seeing(network.layers, preprocess, network.dtype),
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
        images = preprocess(_some(dataset, PARITY_IMAGES))
        parity = check_parity(f"--weights {source}", features, weights, reference, images)
    whole = chain.as_model(network, preprocess)
    shapes = jax.eval_shape(whole.init, jax.random.key(0), _some(dataset, 1))
    weights = _fitting(weights, shapes, source)
    model, used, milliseconds, trained = whole, dataset, 0.0, network.layers
    if train_head_only:
        model, used, milliseconds = _on_features(
            network.layers, weights, preprocess, dataset, network.dtype, work
        )
        trained = chain.cut(network.layers)[1]
    model, used = _starting_from(model, chain.pick(weights, trained), used)
    return Classifier(
        model=model,
        dataset=used,
        params=None,
        has_dropout=_has_dropout(network.layers),
        description=f"{_describe(network)} on the weights {Path(source).name}",
        source="trained here",
        parameters=chain.count(shapes),
        preprocess={"name": name, "reason": "it goes with these weights"},
        parity=parity,
        saturated_output=False,
        base_milliseconds=milliseconds,
        see=_seeing(
            network.layers, preprocess, network.dtype, weights if train_head_only else None
        ),
        is_frozen=train_head_only,
        layers=network.layers,
        base=chain.pick(weights, chain.cut(network.layers)[0]) if train_head_only else {},
        dtype=network.dtype,
    )


def from_keras(
    dataset: Dataset,
    imported: Imported,
    path: Path,
    chosen_preprocess: str | None,
    train: str,
    dtype,
    work: Work,
) -> Classifier:
    """Somebody's own model, judged as it is or trained further.

    Args:
        dataset: images of the model's size.
        imported: the model.
        path: its file, for messages.
        chosen_preprocess: the user's word on it; None: the file's, or the one that fits the data
            best.
        train: "none", "head" or "all".
        dtype: the type to compute in.
        work: where the base runs.

    Raises:
        UserError: model and data differ in classes; the imported network does not equal Keras' own.
    """
    if imported.classes != len(dataset.classes):
        raise UserError(
            f"--model {path}: has {imported.classes} classes, but the data have "
            f"{len(dataset.classes)} ({', '.join(dataset.classes[:5])}); give the data it is for"
        )
    name, reason = _preprocess(dataset, imported, chosen_preprocess)
    preprocess = PREPROCESS[name]
    images = preprocess(_some(dataset, PARITY_IMAGES))
    parity = check_parity(
        f"--model {path}", imported.raw_apply, imported.params, imported.reference, images
    )
    if imported.layers is None:
        if train != "none":
            raise UserError(
                f"--train {train}: {imported.description} cannot be trained here, only judged; "
                "leave --train out"
            )

        def logits_of(params, batch):
            return imported.raw_apply(params, preprocess(batch))

        featured = compute_features(logits_of, imported.params, dataset, *work)
        # The logits are the features; what is left of the network is nothing.
        model = Model(lambda key, logits: {}, lambda params, logits, key=None: logits)
        used, milliseconds, params = featured.dataset, featured.milliseconds_per_image, {}

        def see_through(prepare):
            return lambda params, batch: imported.raw_apply(imported.params, prepare(batch))
    elif train == "all":
        network = chain.as_model(chain.Chain(imported.layers, dtype), preprocess)
        model, used = _starting_from(network, imported.params, dataset)
        milliseconds, params = 0.0, None
    else:
        model, used, milliseconds = _on_features(
            imported.layers, imported.params, preprocess, dataset, dtype, work
        )
        params = chain.pick(imported.params, chain.cut(imported.layers)[1])
        if train == "head":
            model, used = _starting_from(model, params, used)
            params = None
    if imported.layers is not None:
        frozen = imported.params if train != "all" else None

        def see_through(prepare):
            return _seeing(imported.layers, prepare, dtype, frozen)

    is_open = imported.preprocess is None  # the file does not say what it wants
    others = {n: see_through(f) for n, f in PREPROCESS.items() if n != name} if is_open else {}
    return Classifier(
        model=model,
        dataset=used,
        params=params,
        has_dropout=imported.layers is not None and _has_dropout(imported.layers),
        description=imported.description,
        source=path.name,
        parameters=chain.count(imported.params),
        preprocess={"name": name, "reason": reason},
        parity=parity,
        saturated_output=imported.saturated_output,
        base_milliseconds=milliseconds,
        see=see_through(preprocess),
        is_frozen=train != "all",
        layers=imported.layers,
        base=_frozen_base(imported) if train != "all" else {},
        see_as=others,
        dtype=dtype,
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


def _frozen_base(imported: Imported) -> dict:
    """The weights below the head; a black box has none that are known."""
    if imported.layers is None:
        return {}
    return chain.pick(imported.params, chain.cut(imported.layers)[0])


def _preprocess(dataset: Dataset, imported: Imported, chosen: str | None) -> tuple[str, str]:
    """The name of the preprocessing and why it was taken."""
    if chosen is not None:
        return chosen, "given with --preprocess"
    if imported.preprocess is not None:
        return imported.preprocess, "the model file does it by itself"
    valid = dataset.valid
    index = _spread(len(valid.labels), CHOICE_IMAGES)
    name, tried = choose_preprocess(
        imported.raw_apply, imported.params, valid.images[index], valid.labels[index]
    )
    told = ", ".join(f"{each} {accuracy:.0%} right" for each, (accuracy, _) in tried.items())
    return name, (
        f"the model file does not say; on {len(index)} validation images: {told}; "
        "the lowest negative log-likelihood was taken; --preprocess overrides it"
    )


def _spread(n: int, most: int) -> np.ndarray:
    """At most `most` indices below n, evenly spaced, so that all classes are among them."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).astype(int))


def _some(dataset: Dataset, n: int) -> np.ndarray:
    return dataset.test.images[_spread(len(dataset.test.labels), n)]


def _describe(network: VGG16) -> str:
    width = "" if network.width == 1 else f", {network.width:g} of its width"
    return f"VGG16 with the {network.head} head{width}"
