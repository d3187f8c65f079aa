"""M members of any method, trained side by side in one program.

Lakshminarayanan, Pritzel & Blundell 2017, Simple and Scalable Predictive Uncertainty Estimation
using Deep Ensembles: members differ in their initial weights, in the order of their data and in
their noise; their probabilities are averaged.
"""

import jax
import jax.numpy as jnp

from research.method import Batch, Method


def _member(tree, number):
    return jax.tree.map(lambda leaf: leaf[number], tree)


def _one_by_one(state) -> bool:
    """Whether members follow one another inside the program instead of being mapped over.

    Mapped over, M convolutions with M kernels become a grouped one, which XLA's CPU backend runs at
    a third of the speed; a kernel of a convolution with the leading axis M has five axes.
    """
    has_convolutions = any(leaf.ndim == 5 for leaf in jax.tree.leaves(state))
    return jax.default_backend() == "cpu" and has_convolutions


def ensemble(method: Method, num_members: int = 5) -> Method:
    """M independent copies of a method in one program.

    The state has a leading axis M on every leaf. A step takes M batches in one, [M*B, ...]: the
    first B examples are the first member's, and so on. Draws of the members follow one another.

    Args:
        method: the method that each member uses.
        num_members: M.
    """

    def init(key, images, start=None):
        keys = jax.random.split(key, num_members)
        return jax.vmap(method.init, in_axes=(0, None, 0))(keys, images, start)

    def step(key, state, batch):
        keys = jax.random.split(key, num_members)
        batches = Batch(*(leaf.reshape(num_members, -1, *leaf.shape[1:]) for leaf in batch))
        if _one_by_one(state):
            results = [method.step(*_member((keys, state, batches), m)) for m in range(num_members)]
            state, metrics = jax.tree.map(lambda *leaves: jnp.stack(leaves), *results)
        else:
            state, metrics = jax.vmap(method.step)(keys, state, batches)
        return state, jax.tree.map(jnp.mean, metrics)

    def draw(key, state, index):
        number, inner_index = jnp.divmod(index, method.num_draws)
        member_key = jax.random.split(key, num_members)[number]
        return method.draw(member_key, _member(state, number), inner_index)

    def finish(key, state, dataset):
        keys = jax.random.split(key, num_members)
        finished = [method.finish(*_member((keys, state), m), dataset) for m in range(num_members)]
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *finished)

    def summary(state):
        return jax.tree.map(jnp.mean, jax.vmap(method.summary)(state))

    return Method(
        init,
        step,
        draw,
        method.apply,
        finish,
        summary,
        num_draws=num_members * method.num_draws,
        members=num_members * method.members,
    )
