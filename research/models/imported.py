"""Somebody's whole Keras model as the classifier that is judged, or trained further.

A model whose layers are known is cut into base and head like our own. Any other is a black box: its
logits are computed once, and nothing of it can be trained.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from research.data.dataset import Dataset
from research.method import Model
from research.models import chain
from research.models.classifier import (
    PARITY_IMAGES,
    Classifier,
    Work,
    has_dropout,
    on_features,
    seeing,
    some,
    spread,
    starting_from,
)
from research.models.features import compute_features
from research.models.keras.importer import Imported, choose_preprocess
from research.models.parity import check_parity
from research.models.preprocess import PREPROCESS
from research.runtime.errors import UserError

CHOICE_IMAGES = 64


class _Cut(NamedTuple):
    """What of a model is judged or trained, and on what."""

    model: Model
    dataset: Dataset  # what `model` takes
    params: Any  # None: to be trained
    milliseconds: float  # of what lies below, per image
    base: dict  # frozen weights below
    see: Callable  # how pixels are prepared -> see of a `Classifier`


def _black_box(imported: Imported, preprocess: Callable, dataset: Dataset, work: Work) -> _Cut:
    """The logits are the features; what is left of the network is nothing."""

    def logits_of(params, images):
        return imported.raw_apply(params, preprocess(images))

    def see(prepare):
        return lambda _, images: imported.raw_apply(imported.params, prepare(images))

    featured = compute_features(logits_of, imported.params, dataset, *work)
    nothing = Model(lambda key, logits: {}, lambda params, logits, key=None: logits)
    return _Cut(nothing, featured.dataset, {}, featured.milliseconds_per_image, {}, see)


def _whole(imported: Imported, preprocess: Callable, dataset: Dataset, dtype) -> _Cut:
    """Every weight is trained further."""
    network = chain.as_model(chain.Chain(imported.layers, dtype), preprocess)
    model, started = starting_from(network, imported.params, dataset)
    return _Cut(model, started, None, 0.0, {}, lambda f: seeing(imported.layers, f, dtype))


def _head(
    imported: Imported, preprocess: Callable, dataset: Dataset, is_trained: bool, dtype, work: Work
) -> _Cut:
    """The base is frozen; the head is judged as it is, or trained further."""
    layers, weights = imported.layers, imported.params
    base, head = (chain.pick(weights, part) for part in chain.cut(layers))
    model, used, milliseconds = on_features(layers, weights, preprocess, dataset, dtype, work)
    if is_trained:
        model, used = starting_from(model, head, used)

    def see(prepare):
        return seeing(layers, prepare, dtype, weights)

    return _Cut(model, used, None if is_trained else head, milliseconds, base, see)


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
    images = preprocess(some(dataset, PARITY_IMAGES))
    parity = check_parity(
        f"--model {path}", imported.raw_apply, imported.params, imported.reference, images
    )
    if imported.layers is None:
        if train != "none":
            raise UserError(
                f"--train {train}: {imported.description} cannot be trained here, only judged; "
                "leave --train out"
            )
        cut = _black_box(imported, preprocess, dataset, work)
    elif train == "all":
        cut = _whole(imported, preprocess, dataset, dtype)
    else:
        cut = _head(imported, preprocess, dataset, train == "head", dtype, work)
    is_open = imported.preprocess is None  # the file does not say what it wants
    others = {n: cut.see(f) for n, f in PREPROCESS.items() if n != name} if is_open else {}
    return Classifier(
        model=cut.model,
        dataset=cut.dataset,
        params=cut.params,
        has_dropout=imported.layers is not None and has_dropout(imported.layers),
        description=imported.description,
        source=path.name,
        parameters=chain.count(imported.params),
        preprocess={"name": name, "reason": reason},
        parity=parity,
        saturated_output=imported.saturated_output,
        base_milliseconds=cut.milliseconds,
        see=cut.see(preprocess),
        is_frozen=train != "all",
        layers=imported.layers,
        base=cut.base,
        see_as=others,
        dtype=dtype,
    )


def _preprocess(dataset: Dataset, imported: Imported, chosen: str | None) -> tuple[str, str]:
    """The name of the preprocessing and why it was taken."""
    if chosen is not None:
        return chosen, "given with --preprocess"
    if imported.preprocess is not None:
        return imported.preprocess, "the model file does it by itself"
    valid = dataset.valid
    index = spread(len(valid.labels), CHOICE_IMAGES)
    name, tried = choose_preprocess(
        imported.raw_apply, imported.params, valid.images[index], valid.labels[index]
    )
    told = ", ".join(f"{each} {accuracy:.0%} right" for each, (accuracy, _) in tried.items())
    return name, (
        f"the model file does not say; on {len(index)} validation images: {told}; "
        "the lowest negative log-likelihood was taken; --preprocess overrides it"
    )
