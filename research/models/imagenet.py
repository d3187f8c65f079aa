"""VGG16's ImageNet weights, from Keras' files or torchvision's.

Keras (Caffe's weights, BGR): legacy `.h5` files group arrays by layer name, `.weights.h5` files of
Keras 3 by class and count with the name as an attribute. torchvision (its own training, RGB):
kernels are OIHW, and the rows of the first dense layer go through the map as C, H, W; ours go
H, W, C.

The files are read here and not by `keras.applications.VGG16(weights=file)`, which reads no other
width than the published one and no VGG16 that is a layer of another model, builds 138 million
weights to fill, and cannot say which layer of a file is wrong.
"""

import math
import os
import threading
import urllib.request
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from research.models import chain, vgg
from research.models.keras.file import (
    KERAS_ERRORS,
    check_readable,
    first_line,
    import_keras_on_jax,
    run_keras,
)
from research.models.layers import Conv
from research.runtime.errors import UserError

URL = (
    "https://storage.googleapis.com/tensorflow/keras-applications/vgg16/"
    "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"
)
WAY_OUT = "give VGG16's weights from Keras (.h5) or torchvision (.safetensors, without batch norm)"
MD5 = "6d6bbae143d832006294945121d1f1fc"  # as in keras.applications.vgg16
CONVOLUTIONS = tuple(x.name for x in vgg.convolutions() if isinstance(x, Conv))
TOP = ("fc1", "fc2", "predictions")
# Where torchvision's `vgg16().features` and `.classifier` keep them.
_TORCH_CONVOLUTIONS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
_TORCH_TOP = (0, 3, 6)


def _read_keras(path: Path) -> dict[str, list[np.ndarray]]:
    """Arrays by layer name, of a legacy or a Keras 3 weights file."""
    arrays = {}
    with h5py.File(path, "r") as file:
        if "model_config" in file.attrs:
            raise UserError("weights", "is a whole model", "give it with `model`", value=path)

        def collect(group_name, group):
            folder, _, last = group_name.rpartition("/")
            if last == "vars" and len(group):  # Keras 3: .../vars/0, .../vars/1
                name = group.attrs.get("name", folder.rpartition("/")[2])
                arrays[name] = [group[str(i)][()] for i in range(len(group))]
            elif "weight_names" in getattr(group, "attrs", ()):  # legacy
                arrays[group_name] = [group[name][()] for name in group.attrs["weight_names"]]

        file.visititems(collect)
    return arrays


def _read_torch(path: Path) -> dict[str, list[np.ndarray]]:
    """Arrays by Keras' layer names, kernels HWIO, of torchvision's VGG16."""
    tensors, arrays = load_file(path), {}

    def both(prefix):
        names = (f"{prefix}.weight", f"{prefix}.bias")
        return [tensors[name] for name in names if name in tensors]

    for name, i in zip(CONVOLUTIONS, _TORCH_CONVOLUTIONS, strict=True):
        arrays[name] = [
            x.transpose(2, 3, 1, 0) if x.ndim == 4 else x for x in both(f"features.{i}")
        ]
    for name, i in zip(TOP, _TORCH_TOP, strict=True):
        arrays[name] = [x.T for x in both(f"classifier.{i}")]
    last, fc1 = arrays[CONVOLUTIONS[-1]], arrays["fc1"]
    if last and fc1:
        channels = last[0].shape[-1]
        side = math.isqrt(fc1[0].shape[0] // channels)
        rows = fc1[0].reshape(channels, side, side, -1).transpose(1, 2, 0, 3)  # [H, W, C, F]
        fc1[0] = rows.reshape(fc1[0].shape)
    return arrays


def _checked(arrays: dict[str, list[np.ndarray]], names, path: Path) -> dict:
    """Parameters by layer name, if the arrays are those of a VGG16 (of any width)."""
    params, channels = {}, 3
    for name in names:
        shapes = [x.shape for x in arrays.get(name, ())]
        rank = 4 if name in CONVOLUTIONS else 2
        fits = len(shapes) == 2 and len(shapes[0]) == rank and shapes[1] == shapes[0][-1:]
        # fc1 takes a whole map of any size: a multiple of the channels.
        inputs = shapes[0][-2] if fits else 0
        fits = fits and (inputs % channels == 0 if name == "fc1" else inputs == channels)
        if not fits or (rank == 4 and shapes[0][:2] != (3, 3)):
            found = f"shapes {shapes}" if shapes else "no such layer"
            what = f"layer '{name}' of VGG16: {found} in the file"
            raise UserError("weights", what, WAY_OUT, value=path)
        channels = shapes[0][-1]
        kernel, bias = arrays[name]
        params[name] = {"kernel": kernel.astype(np.float32), "bias": bias.astype(np.float32)}
    return params


def features(params: dict, images) -> Any:
    """VGG16's last maps [B, h, w, C] of preprocessed images [B, H, W, 3], at any width."""
    layers = tuple(
        x._replace(features=len(params[x.name]["bias"])) if isinstance(x, Conv) else x
        for x in vgg.convolutions()
    )
    return chain.Chain(layers).apply({"params": params}, images)


def _keras_features(params: dict) -> Callable:
    """The same by Keras, for the comparison."""
    keras = import_keras_on_jax()
    model = keras.Sequential([keras.Input((None, None, 3))])
    layer_of = partial(
        keras.layers.Conv2D,
        kernel_size=3,
        padding="same",
        activation="relu",
        kernel_initializer="zeros",
    )
    for layer in vgg.convolutions():
        if isinstance(layer, Conv):
            weights = params[layer.name]
            model.add(layer_of(len(weights["bias"])))
            model.layers[-1].set_weights([weights["kernel"], weights["bias"]])
        else:
            model.add(keras.layers.MaxPooling2D())
    return lambda images: np.asarray(run_keras(model, images))


def _check_answers(url: str, seconds: float) -> None:
    """Raises an `OSError` unless the URL answers within `seconds`."""
    outcome: list[OSError | None] = [TimeoutError(f"no answer in {seconds:.0f} seconds")]

    def connect():
        try:
            urllib.request.urlopen(url, timeout=seconds).close()
            outcome.append(None)
        except OSError as error:
            outcome.append(error)

    # A name server that does not answer ignores every timeout of the socket; a thread does not.
    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(seconds)
    if outcome[-1] is not None:
        raise outcome[-1]


def download(url: str = URL, md5: str = MD5, seconds: float = 8.0) -> Path:
    """Keras' own VGG16 file without top, kept where Keras keeps it.

    Keras itself would wait for a network that is not there, so the URL is tried before.

    Args:
        url: address of the file.
        md5: its checksum, also of the copy that is kept.
        seconds: how long to wait for an answer.

    Raises:
        UserError: there is no network, or the file is not the one expected.
    """
    home = Path(os.environ.get("KERAS_HOME", Path.home() / ".keras"))
    try:
        home.mkdir(parents=True, exist_ok=True)  # else Keras takes a folder in /tmp
        if not (home / "models" / url.rsplit("/", 1)[1]).exists():
            _check_answers(url, seconds)
        get_file = import_keras_on_jax().utils.get_file
        path = get_file(
            origin=url,
            file_hash=md5,
            hash_algorithm="md5",
            cache_subdir="models",
            cache_dir=str(home),
        )
        return Path(path)
    except Exception as error:  # Keras raises plain Exceptions
        what = f"cannot download {url} ({first_line(error)})"
        way_out = "download it on another machine and give it with `weights` FILE.h5"
        raise UserError("weights", what, way_out, value="imagenet") from error


def load_weights(source: str, *, head_name: str) -> tuple[dict, str, Callable | None]:
    """VGG16's ImageNet weights by Keras' layer names.

    Args:
        source: "imagenet" (downloads Keras' file, or takes it from Keras' cache), or a file: Keras'
            `.h5` or torchvision's `.safetensors`, with or without top.
        head_name: a file's own head (fc1, fc2, predictions) is taken only for "published".

    Returns:
        The parameters, float32; the preprocessing they need; and for Keras' weights the base's
        features as Keras computes them (preprocessed images -> [B, h, w, C]; compare `features`).

    Raises:
        UserError: the file cannot be read or downloaded, or is not a VGG16.
    """
    path = download() if source == "imagenet" else Path(source)
    check_readable(path, "weights")
    is_torch = path.suffix == ".safetensors"
    if not is_torch and not h5py.is_hdf5(path):
        what = "neither an HDF5 (.h5) nor a .safetensors file, or cut short"
        way_out = "convert it (a .pth file is a program to Python: Candor opens none)"
        raise UserError("weights", what, f"copy it again, or {way_out}", value=path)
    try:
        arrays = (_read_torch if is_torch else _read_keras)(path)
    except (*KERAS_ERRORS, SafetensorError) as error:
        what = f"cannot be read ({first_line(error)})"
        raise UserError("weights", what, "copy it again", value=path) from error
    with_top = head_name == "published" and all(arrays.get(name) for name in TOP)
    params = _checked(arrays, CONVOLUTIONS + (TOP if with_top else ()), path)
    return (params, "torch", None) if is_torch else (params, "caffe", _keras_features(params))
