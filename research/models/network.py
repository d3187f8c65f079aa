"""The options that name a network, and the classifier that they name."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import jax.numpy as jnp

from research.data.dataset import Dataset
from research.data.load import DataOptions, load
from research.models import classifier as classifiers
from research.models.classifier import Classifier
from research.models.imported import from_keras
from research.models.keras.file import check_readable
from research.models.keras.importer import import_keras
from research.models.vgg import VGG16
from research.runtime.errors import UserError
from research.runtime.options import check_ranges
from research.runtime.run import Run

IMAGENET_SIZE = 224  # pixels


@dataclass(frozen=True)
class NetworkOptions:
    """Which network, and which of its weights are trained."""

    model: Path | None = None
    """your own saved Keras model (.keras or .h5) to judge"""
    weights: str | None = None
    """ImageNet weights to start from: imagenet, or a .h5 or .safetensors file"""
    init: Path | None = None
    """trained weights (weights.safetensors of an earlier run) instead of training the network"""
    train: Literal["none", "head", "all"] | None = None
    """which weights to train; default: none with `model`, head with `weights`, else all"""
    head: Literal["published", "asker", "cifar"] | None = None
    """VGG16's head; default: asker from 128 pixels up, else cifar"""
    width: float | None = None
    """scales VGG16's channels"""
    preprocess: Literal["caffe", "unit", "symmetric", "torch", "raw"] | None = None
    """what `model` wants done to the pixels; default: what its file says, or fits best"""
    bfloat16: bool = False
    """compute in bfloat16, keep parameters in float32"""

    @property
    def trainable(self) -> str:
        """Which weights are trained: "none", "head" or "all"."""
        return self.train or ("none" if self.model else "head" if self.weights else "all")

    @property
    def dtype(self) -> Any:
        """The type to compute in; None: that of the parameters."""
        return jnp.bfloat16 if self.bfloat16 else None

    def resolved_head(self, image_size: int) -> str:
        """The name of VGG16's head for images of so many pixels a side."""
        return self.head or ("asker" if image_size >= 128 else "cifar")

    def check(self) -> None:
        """Refuses options that are out of range, contradict each other or would do nothing.

        Raises:
            UserError: an option is refused.
        """
        check_ranges(self, above_0=("width",))
        if self.model and self.weights is not None:
            raise UserError(None, "`model` and `weights`: give one of them")
        if self.trainable == "none" and not self.model:
            problem = "needs a whole trained network"
            raise UserError("train", problem, "give `model`", value="none")
        if self.trainable == "head" and not (self.model or self.weights):
            problem = "needs a trained network below it"
            raise UserError("train", problem, "give `model` or `weights`", value="head")
        if self.init and self.trainable == "none":
            raise UserError("init", "the weights are in `model` already", "leave it out")
        for name in ("head", "width") if self.model else ("preprocess",):
            if getattr(self, name) is not None:
                problem = "`model` brings its own network" if self.model else "goes with `model`"
                raise UserError(name, problem, "leave it out")
        if self.weights and self.width not in (None, 1.0):
            problem = "`weights` have the full width"
            raise UserError("width", problem, "leave it out", value=self.width)


def get_classifier(
    images: DataOptions, network: NetworkOptions, run: Run
) -> tuple[Classifier, Dataset]:
    """Loads the images, and builds or imports the classifier.

    Args:
        images: which images are loaded; the network decides their size where it is left open.
        network: which network is built; a width that is left open is the whole.
        run: its seed decides the splits, and its folder gets the decoded images and the features
            of a frozen base.

    Returns:
        The classifier, and the data set of images, which the classifier's own need not be.

    Raises:
        UserError: the images or the network cannot be had, or do not fit each other.
    """
    imported = import_keras(network.model) if network.model else None
    if network.weights not in (None, "imagenet"):
        check_readable(Path(network.weights), "weights")  # before the images, which take longer
    own_size = imported.image_size if imported else IMAGENET_SIZE if network.weights else None
    if imported and own_size and images.image_size not in (None, own_size):
        what = f"{network.model} takes images of {own_size} pixels"
        raise UserError("image_size", what, "leave the option out", value=images.image_size)
    images = replace(images, image_size=images.image_size or own_size)
    dataset = load(images, seed=run.seed, cache_dir=run.directory / "data")
    if imported and network.model:
        options = network.model, network.preprocess, network.trainable, network.dtype
        return from_keras(dataset, imported, *options, run), dataset
    head = network.resolved_head(dataset.test.images.shape[1])
    vgg = VGG16(len(dataset.classes), head, network.width or 1.0, network.dtype)
    if network.weights:
        start = network.weights, network.trainable
        return classifiers.from_weights(dataset, vgg, *start, run), dataset
    return classifiers.fresh(dataset, vgg), dataset
