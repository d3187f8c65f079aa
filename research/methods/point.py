"""One network: the maximum a posteriori point, what everybody trains.

Minimises the mean negative log-likelihood of the batch; weight decay, if any, is the optimiser's.
Every other method is measured against this one.
"""

from typing import Any, NamedTuple

import jax
import optax

from research.method import Method, Model, batch_metrics


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

    def init(key, images):
        params = model.init(key, images)
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

    def predict(key, state, images):
        del key  # one network: nothing to draw
        return jax.nn.log_softmax(model.apply(state.params, images))[None]  # [1, B, K]

    return Method(init, step, predict)
