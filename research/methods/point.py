"""One network: the maximum a posteriori point, what everybody trains.

Minimises the mean negative log-likelihood of the batch; weight decay, if any, is the optimiser's.
Every other method is measured against this one.
"""

from typing import Any, NamedTuple

import jax
import optax

from research.method import Method, Model, Training, batch_metrics

TRAINING = Training()


class PointState(NamedTuple):
    """Weights and the optimiser's state."""

    params: Any
    opt_state: optax.OptState


def point(model: Model, tx: optax.GradientTransformation) -> Method:
    """Maximum a posteriori.

    Args:
        model: the network.
        tx: the optimiser.
    """

    def init(key, images, start=None):
        params = model.init(key, images) if start is None else start
        return PointState(params, tx.init(params))

    def step(key, state, batch):
        def loss(params):
            logits = model.apply(params, batch.images, key)
            metrics = batch_metrics(logits, batch.labels)
            return metrics["nll"], metrics

        gradients, metrics = jax.grad(loss, has_aux=True)(state.params)
        updates, opt_state = tx.update(gradients, state.opt_state, state.params)
        metrics["loss"] = metrics["nll"]
        return PointState(optax.apply_updates(state.params, updates), opt_state), metrics

    def draw(key, state, index):
        del key, index  # one network: nothing to draw
        return state.params

    def apply(params, images):
        return jax.nn.log_softmax(model.apply(params, images))  # [B, K]

    return Method(init, step, draw, apply)
