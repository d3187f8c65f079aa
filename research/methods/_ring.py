"""Room for the last networks of a training: a ring, in which new ones replace the oldest.

A ring has the structure of the parameters, with a leading axis for the places.
"""

from typing import Any

import jax
import jax.numpy as jnp


def empty_ring(params: Any, size: int) -> Any:
    """Zeros for `size` networks like `params`."""
    return jax.tree.map(lambda leaf: jnp.zeros((size, *leaf.shape), leaf.dtype), params)


def put(ring: Any, number: jax.Array, values: Any, take: jax.Array | bool) -> Any:
    """The ring with one network more, in the place of number % size; without room, as it was.

    Args:
        ring: as from `empty_ring`.
        number: how many networks were put in before.
        values: the network.
        take: whether to put it in; it may be traced, so that a step compiles once.
    """

    def replaced(places, leaf):
        if not len(places):
            return places
        slot = number % len(places)
        return places.at[slot].set(jnp.where(take, leaf, places[slot]))

    return jax.tree.map(replaced, ring, values)


def if_any(count: jax.Array, drawn: Any, current: Any) -> Any:
    """The network `drawn` from a ring, or the current one where nothing was put in."""
    return jax.tree.map(lambda one, other: jnp.where(count > 0, one, other), drawn, current)
