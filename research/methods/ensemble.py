"""M members of any method, trained side by side in one program.

Lakshminarayanan, Pritzel & Blundell 2017, Simple and Scalable Predictive Uncertainty Estimation
using Deep Ensembles: members differ in their initial weights and in their noise; their
probabilities are averaged.
"""

import jax
import jax.numpy as jnp

from research.method import Method


def ensemble(method: Method, num_members: int = 5) -> Method:
    """M independent copies of a method as one `vmap`.

    The state has a leading axis M on every leaf. Draws of the members are concatenated: [M*S, B,
    K].

    Args:
        method: the method that each member uses.
        num_members: M.
    """

    def init(key, images):
        return jax.vmap(method.init, in_axes=(0, None))(jax.random.split(key, num_members), images)

    def step(key, state, batch):
        keys = jax.random.split(key, num_members)
        state, metrics = jax.vmap(method.step, in_axes=(0, 0, None))(keys, state, batch)
        return state, jax.tree.map(jnp.mean, metrics)

    def predict(key, state, images):
        keys = jax.random.split(key, num_members)
        log_probs = jax.vmap(method.predict, in_axes=(0, 0, None))(keys, state, images)
        return log_probs.reshape(-1, *log_probs.shape[2:])  # [M, S, B, K] -> [M*S, B, K]

    def finish(key, state, dataset):
        members = [jax.tree.map(lambda leaf, m=m: leaf[m], state) for m in range(num_members)]
        keys = jax.random.split(key, num_members)
        finished = [
            method.finish(k, member, dataset) for k, member in zip(keys, members, strict=True)
        ]
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *finished)

    return Method(init, step, predict, finish)
