"""Trained weights as a file that any framework reads: safetensors, one array a name.

Names are `layer/kernel` and `layer/bias`, kernels HWIO or [inputs, outputs], float32. Nothing in
such a file is executed when it is read.
"""

from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from research.runtime.errors import UserError
from research.runtime.files import write_whole


def save_weights(path: Path, params: dict) -> None:
    """Writes a network's parameters, whole or not at all."""
    arrays = {
        name: np.ascontiguousarray(leaf) for name, leaf in flatten_dict(params, sep="/").items()
    }
    write_whole(path, lambda part: save_file(arrays, part))


def read_weights(path: Path, like: dict, option: str) -> dict:
    """Reads what `save_weights` wrote.

    Args:
        path: the file.
        like: parameters, or their shapes, that the file has to fit.
        option: the option that gave the file, for messages.

    Raises:
        UserError: no such file, or the weights of another network.
    """
    try:
        arrays = load_file(path)
    except (OSError, SafetensorError) as error:
        way_out = "give the weights.safetensors of an earlier run"
        raise UserError(option, "cannot be read as .safetensors", way_out, value=path) from error
    leaves: dict[str, Any] = flatten_dict(like, sep="/")
    wanted = {name: leaf.shape for name, leaf in leaves.items()}
    found = {name: array.shape for name, array in arrays.items()}
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            shapes = f"{name} is {found.get(name)} there and {wanted.get(name)} here"
            way_out = "give the same `head`, `width` and `image_size`"
            raise UserError(option, f"weights of another network: {shapes}", way_out, value=path)
    return jax.tree.map(np.float32, unflatten_dict(arrays, sep="/"))
