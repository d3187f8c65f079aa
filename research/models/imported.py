"""A whole Keras model as the classifier that is evaluated, or trained further.

A model whose layers are known is cut into base and head like our own. Any other is a black box: its
logits are computed once, and nothing of it can be trained.
"""

from pathlib import Path

import jax

from research.data.dataset import Dataset, spread
from research.method import Model
from research.models import chain
from research.models.classifier import PARITY_IMAGES, Classifier, Origin, base_and_head, some
from research.models.keras.file import bad_model
from research.models.keras.importer import Imported, choose_preprocess
from research.models.parity import check_parity
from research.models.preprocess import PREPROCESS
from research.runtime.errors import UserError
from research.runtime.run import Run

CHOICE_IMAGES = 64


def _black_box(imported: Imported) -> tuple[Model, Model]:
    """The whole model as the base: its features are its logits, and the head returns them."""

    def init(key: jax.Array, inputs: jax.Array) -> dict:
        del key, inputs
        return {}

    return Model(init, imported.raw_apply), Model(init, lambda params, logits, key=None: logits)


def from_keras(
    dataset: Dataset,
    imported: Imported,
    path: Path,
    chosen_preprocess: str | None,
    trainable: str,
    dtype,
    run: Run,
) -> Classifier:
    """A Keras model, evaluated as it is or trained further.

    Args:
        dataset: images of the model's size.
        imported: the model.
        path: its file, for messages.
        chosen_preprocess: the preprocessing that the user asks for; None: the file's, or the one
            that fits the data best.
        trainable: "none", "head" or "all".
        dtype: the type to compute in.
        run: where the base runs, and keeps its features.

    Raises:
        UserError: model and data differ in classes; the imported network does not equal Keras' own.
    """
    if imported.classes != len(dataset.classes):
        theirs = f"{len(dataset.classes)} ({', '.join(dataset.classes[:5])})"
        what = f"has {imported.classes} classes, but the data have {theirs}"
        raise bad_model(path, what, "give the data it is for")
    name, reason = _preprocess(dataset, imported, chosen_preprocess)
    images = PREPROCESS[name](some(dataset, PARITY_IMAGES))
    apply, params = imported.raw_apply, imported.params
    parity = check_parity("model", path, apply, params, imported.reference, images)
    if imported.layers is None and trainable != "none":
        what = f"{imported.description} cannot be trained here, only judged"
        raise UserError("train", what, "leave `train` out", value=trainable)
    is_open = imported.preprocess is None  # the file does not say what it wants
    layers = imported.layers
    classifier = Classifier(
        *(_black_box(imported) if layers is None else base_and_head(layers, dtype)),
        trainable=trainable,
        preprocess=name,
        origin=Origin(
            description=imported.description,
            source=path.name,
            parameters=chain.count(params),
            preprocess_reason=reason,
            parity=parity,
            saturated_output=imported.saturated_output,
        ),
        dataset=dataset,
        layers=layers,
        dtype=dtype,
        other_preprocess=tuple(n for n in PREPROCESS if n != name) if is_open else (),
    )
    if trainable != "all":
        classifier = classifier.freeze(params, dataset, run)
    return classifier.start_from(params)


def _preprocess(dataset: Dataset, imported: Imported, chosen: str | None) -> tuple[str, str]:
    """The name of the preprocessing and why it was taken."""
    if chosen is not None:
        return chosen, "given with `preprocess`"
    if imported.preprocess is not None:
        return imported.preprocess, "the model file does it by itself"
    valid = dataset.valid
    index = spread(len(valid.labels), CHOICE_IMAGES)
    name, tried = choose_preprocess(
        imported.raw_apply, imported.params, valid.images[index], valid.labels[index]
    )
    shares = ", ".join(f"{form} {accuracy:.0%} right" for form, (accuracy, _) in tried.items())
    return name, (
        f"the model file does not say; on {len(index)} validation images: {shares}; "
        "the lowest negative log-likelihood was taken; `preprocess` overrides it"
    )
