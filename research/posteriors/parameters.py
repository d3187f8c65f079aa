"""Which weights are uncertain, and parameters as flat dicts by path.

The parameters of any Flax module are nested dicts. Here they are cut into two flat ones, by paths
such as "fc1/kernel": the uncertain weights, which have a posterior, and the certain ones, which are
numbers.
"""

from typing import NamedTuple

import jax
from flax.traverse_util import flatten_dict, unflatten_dict

from research.method import Model
from research.runtime.errors import UserError

Leaves = dict[str, jax.Array]  # by path
CHOICES = ("all", "last", "head")


class Parts(NamedTuple):
    """Parameters by path."""

    uncertain: Leaves
    certain: Leaves


def _layers(model: Model, which: str) -> tuple[str, ...]:
    layers = model.layers[-1:] if which == "last" else model.head
    if not layers:
        raise UserError(
            f"bayes={which}: the network has no weights there; choose bayes=all, or bayes=last"
        )
    return layers


def split(params: dict, model: Model, which: str, with_biases: bool) -> Parts:
    """Cuts parameters into uncertain and certain ones.

    Args:
        params: nested dicts of arrays.
        model: names the layers.
        which: "all"; "last", the layer of the logits; "head", what follows the last convolution.
        with_biases: whether biases are uncertain too.

    Raises:
        UserError: the network has no such layers.
    """
    flat = flatten_dict(params, sep="/")

    def is_uncertain(path):
        if path.endswith("bias") and not with_biases:
            return False
        return which == "all" or path.split("/")[0] in _layers(model, which)

    uncertain = {path: leaf for path, leaf in flat.items() if is_uncertain(path)}
    return Parts(uncertain, {path: leaf for path, leaf in flat.items() if path not in uncertain})


def join(uncertain: Leaves, certain: Leaves) -> dict:
    """The nested dict that `split` cut."""
    return unflatten_dict({**certain, **uncertain}, sep="/")


def fan_in(path: str, leaves: Leaves) -> int:
    """How many inputs a unit of this layer sums; of a bias: those of the kernel beside it.

    1 where there is no kernel, as in a scale per channel.
    """
    kernel = leaves.get(path.rpartition("/")[0] + "/kernel", leaves.get("kernel"))
    if kernel is None:
        return 1
    return kernel.size // kernel.shape[-1]
