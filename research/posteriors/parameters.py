"""Which weights are stochastic, and parameters as flat dicts by path.

The parameters of any Flax module are nested dicts. Here they are cut into two flat ones, by paths
such as "fc1/kernel": the stochastic weights, which have a posterior, and the deterministic ones,
which are numbers.
"""

from typing import NamedTuple, cast

import jax
from flax.traverse_util import flatten_dict, unflatten_dict

from research.method import Model
from research.runtime.errors import UserError

Leaves = dict[str, jax.Array]  # by path


class Parts(NamedTuple):
    """Parameters by path."""

    stochastic: Leaves
    deterministic: Leaves


def _layers(model: Model, which: str) -> tuple[str, ...]:
    layers = model.layers[-1:] if which == "last" else model.head
    if not layers:
        raise UserError(
            None,
            f"bayes={which}: the network has no weights there",
            "choose bayes=all, or bayes=last",
        )
    return layers


def split(params: dict, model: Model, which: str, with_biases: bool) -> Parts:
    """Cuts parameters into stochastic and deterministic ones.

    Args:
        params: nested dicts of arrays.
        model: the network, which names its layers.
        which: "all"; "last", the layer of the logits; "head", what follows the last convolution.
        with_biases: whether biases are stochastic too.

    Raises:
        UserError: the network has no such layers.
    """
    flat = cast(Leaves, flatten_dict(params, sep="/"))  # whose type allows for empty nodes

    def is_stochastic(path):
        if path.endswith("bias") and not with_biases:
            return False
        return which == "all" or path.split("/")[0] in _layers(model, which)

    stochastic = {path: leaf for path, leaf in flat.items() if is_stochastic(path)}
    return Parts(stochastic, {path: leaf for path, leaf in flat.items() if path not in stochastic})


def join(stochastic: Leaves, deterministic: Leaves) -> dict:
    """The nested parameters again; the inverse of `split`."""
    return unflatten_dict({**deterministic, **stochastic}, sep="/")


def fan_in(path: str, leaves: Leaves) -> int:
    """The number of inputs that a unit of a layer sums, for its kernel or its bias.

    It is 1 where the layer has no kernel, as in a scale per channel.
    """
    kernel = leaves.get(path.rpartition("/")[0] + "/kernel", leaves.get("kernel"))
    if kernel is None:
        return 1
    return kernel.size // kernel.shape[-1]
