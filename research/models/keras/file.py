"""Opens a person's saved Keras model without running anything that the file says.

A `.keras` file is a zip with a `config.json`; a legacy `.h5` file keeps the same JSON in an
attribute. Both name classes to build, and some of those classes hold code (a Lambda layer is
marshalled bytecode). So the JSON is read first, as data; a model that is not made of Keras' own
classes alone is refused; only then does Keras build it, on its JAX backend and in safe mode.
"""

import json
import os
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import jax

from research.runtime.errors import UserError

SAVE = "model.save('model.keras')"
WAY_OUT = "or save its probabilities to a .csv file and give that with `predictions`"

# Keras' own classes that run code, or load a program, from the file.
_HOLDS_CODE = {"Lambda", "__lambda__", "TFSMLayer", "JaxLayer", "FlaxLayer", "TorchModuleWrapper"}
_PLAIN_DATA = {
    "__keras_tensor__",
    "__tensor__",
    "__numpy__",
    "__tuple__",
    "__slice__",
    "__ellipsis__",
    "__bytes__",
}
_NAMESPACES = ("layers", "initializers", "regularizers", "constraints", "dtype_policies", "random")
_TOP_LEVEL = {"Model", "Functional", "Sequential", "DTypePolicy", "FloatDTypePolicy"}
_SOURCES = {"models", "layers", "ops", "initializers", "regularizers", "constraints"}
# What Keras raises on a damaged file or an impossible config.
KERAS_ERRORS = (
    OSError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)


def bad_model(path: Path, problem: str, way_out: str) -> UserError:
    """The error about the file that the option `model` names."""
    return UserError("model", problem, way_out, value=path)


def import_keras_on_jax():
    """The `keras` module on its JAX backend; imported only where needed, for it takes seconds."""
    os.environ["KERAS_BACKEND"] = "jax"
    import keras

    return keras


def run_keras(call: Callable, images):
    """What a model of Keras, or its `stateless_call`, makes of a batch of images at inference."""
    with jax.numpy_rank_promotion("allow"):  # Keras' own code promotes ranks
        return call(images, training=False)


def first_line(error: BaseException) -> str:
    """An exception of another library as at most one line of 160 characters."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 160 else text[:157] + "..."


def check_readable(path: Path, option: str) -> None:
    """Raises a `UserError` unless `path` is a file with something in it."""
    if not path.exists():
        raise UserError(option, "no such file", value=path)
    if path.is_dir():
        way_out = f"a TensorFlow SavedModel must be loaded in Keras and saved with {SAVE}"
        raise UserError(option, "is a folder, not a file", f"{way_out}, {WAY_OUT}", value=path)
    try:
        with path.open("rb") as file:
            empty = not file.read(1)
    except OSError as error:
        raise UserError(option, f"cannot be read: {error.strerror}", value=path) from error
    if empty:
        raise UserError(option, "the file is empty", "copy or save it again", value=path)


def _zip_config(path: Path) -> str:
    with zipfile.ZipFile(path) as archive:
        if "config.json" not in archive.namelist():
            what = "a zip file without config.json is not a Keras model"
            raise bad_model(path, what, f"save one with {SAVE}")
        return archive.read("config.json").decode("utf-8")


def _h5_config(path: Path) -> str:
    with h5py.File(path, "r") as file:
        config = file.attrs.get("model_config")
        if config is not None:
            return config if isinstance(config, str) else config.decode("utf-8")
        if {"layer_names", "layers"} & {*file.attrs, *file}:
            way_out = f"give a whole model saved with {SAVE}, or ImageNet weights with `weights`"
            raise bad_model(path, "holds weights and no model", way_out)
    raise bad_model(path, "an HDF5 file without a Keras model in it", f"save one with {SAVE}")


def _is_keras_own(keras, node: dict) -> bool:
    """Whether a serialised object names a class (or activation function) of Keras itself."""
    name, module = node["class_name"], node.get("module")
    if name == "function":
        name = node.get("config")
        own_module = module in ("builtins", "keras.activations")
        return own_module and isinstance(name, str) and hasattr(keras.activations, name)
    if node.get("registered_name") not in (None, name):
        return False
    if module in (None, "keras") and name in _TOP_LEVEL:
        return True
    if module is None:  # the legacy format gives only the class
        spaces = _NAMESPACES
    else:
        root, *rest = module.split(".")
        if root == "keras" and rest[:1] == ["src"]:  # Keras checks the rest: a class it can save
            return len(rest) > 1 and rest[1] in _SOURCES
        spaces = [space for space in _NAMESPACES if [root, *rest] == ["keras", space]]
    return any(isinstance(getattr(getattr(keras, space), name, None), type) for space in spaces)


def _check_no_code(keras, node, layer: str, path: Path) -> None:
    """Walks the config as data and raises on the first object that is not plain Keras."""
    if isinstance(node, list):
        for item in node:
            _check_no_code(keras, item, layer, path)
    if not isinstance(node, dict):
        return
    kind = node.get("class_name")
    if kind is not None:
        config = node.get("config")
        own_name = config.get("name") if isinstance(config, dict) else None
        layer = own_name if isinstance(own_name, str) else layer
        if kind in _HOLDS_CODE:
            what = f"layer '{layer}' ({kind}) holds code, and Candor runs no code from a file"
            raise bad_model(path, what, f"replace it with plain Keras layers, {WAY_OUT}")
        if kind not in _PLAIN_DATA and not (isinstance(kind, str) and _is_keras_own(keras, node)):
            if str(node.get("module")).startswith(("keras.src.engine", "keras.engine")):
                what = "a .keras file of Keras 2, which Keras 3 cannot read"
                raise bad_model(path, what, f"save it there as model.h5 and give that, {WAY_OUT}")
            uses = f"layer '{layer}' uses {config if kind == 'function' else kind!r}"
            what = f"{uses}, which Keras {keras.__version__} itself does not have"
            raise bad_model(path, what, f"replace it, {WAY_OUT}")
    for value in node.values():
        _check_no_code(keras, value, layer, path)


def open_model(path: str | Path) -> Any:
    """Loads a whole saved Keras model, `.keras` or legacy `.h5`, told apart by content.

    Returns:
        A `keras.Model`, not compiled. Every layer computes in float32, whatever it was trained in.

    Raises:
        UserError: no such file, a folder, empty, truncated, neither zip nor HDF5, weights only, or
            a model with a Lambda layer or any class that is not Keras' own. Nothing in it was run.
    """
    path = Path(path)
    check_readable(path, "model")
    is_zip = zipfile.is_zipfile(path)
    if not is_zip and not h5py.is_hdf5(path):
        what = "neither a .keras (zip) nor an .h5 (HDF5) file, or cut short"
        raise bad_model(path, what, "copy or save it again")
    keras = import_keras_on_jax()
    try:
        config = json.loads(_zip_config(path) if is_zip else _h5_config(path))
        if not isinstance(config, dict):
            raise ValueError("the model's config is not a JSON object")
        # Losses and metrics of the user's own are no obstacle: the model is not compiled.
        described = {key: value for key, value in config.items() if key != "compile_config"}
        _check_no_code(keras, described, "model", path)
        with tempfile.TemporaryDirectory() as folder:
            # Keras goes by the suffix; old versions wrote HDF5 into files called .keras.
            link = Path(folder) / ("model.keras" if is_zip else "model.h5")
            link.symlink_to(path.resolve())
            model = keras.models.load_model(link, compile=False, safe_mode=True)
        # Mixed precision keeps float32 weights; half-precision logits would only add an error.
        for layer in every_layer(model):
            layer.dtype_policy = "float32"
    except KERAS_ERRORS as error:
        what = f"Keras {keras.__version__} cannot load it ({first_line(error)})"
        raise bad_model(path, what, f"save it again with that version, {WAY_OUT}") from error
    return model


def every_layer(model) -> Iterator:
    """The layers of a model, and of the models nested in it."""
    for layer in model.layers:
        yield layer
        if hasattr(layer, "layers"):
            yield from every_layer(layer)
