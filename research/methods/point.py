"""One network: the maximum a posteriori point, what everybody trains.

Minimises the mean negative log-likelihood of the batch; weight decay, if any, is the optimiser's.
Every other method is measured against this one. Label smoothing, the focal loss and mixup
(`research/losses.py`) are its options, and a penalty on the size of the weights (L1: the lasso of
Tibshirani 1996); other methods keep the plain likelihood, which they are derived from.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from research.errors import UserError
from research.losses import Mixed, focal, mixup, smooth
from research.method import Method, Model, Training

TRAINING = Training()


class PointState(NamedTuple):
    """Weights and the optimiser's state."""

    params: Any
    opt_state: optax.OptState


def point(
    model: Model,
    tx: optax.GradientTransformation,
    label_smoothing: float = 0.0,
    focal_gamma: float = 0.0,
    mixup_alpha: float = 0.0,
    l1: float = 0.0,
) -> Method:
    """Maximum a posteriori.

    A step's `loss` is what is minimised; `nll` stays the plain one. Under mixup `nll`, `accuracy`
    and `confidence` are of the mixed images, averaged over both labels by their shares.

    Args:
        model: the network.
        tx: the optimiser.
        label_smoothing: share of a label that is spread over all classes; 0 to below 1.
        focal_gamma: exponent of the focal loss; 0: none. Mukhoti et al. 2020 use 3.
        mixup_alpha: of the Beta(alpha, alpha) that mixes images; 0: none. Zhang et al. 2018 use 0.1
            to 0.4 on ImageNet and 1 on CIFAR.
        l1: adds so many times the sum of |w| over all kernels, never biases, to the mean loss.

    Raises:
        UserError: an option is out of range.
    """
    for option, value, limit in (
        ("label_smoothing", label_smoothing, 1),
        ("focal_gamma", focal_gamma, math.inf),
        ("mixup_alpha", mixup_alpha, math.inf),
        ("l1", l1, math.inf),
    ):
        if not (isinstance(value, int | float) and 0 <= value < limit):
            bound = "1" if limit == 1 else "infinity"
            raise UserError(f"point({option}={value}): give a number from 0 to below {bound}")

    def init(key, images, start=None):
        params = model.init(key, images) if start is None else start
        return PointState(params, tx.init(params))

    def mixed(key, images):
        if not mixup_alpha:
            return Mixed(images, jnp.arange(len(images)), 1.0)
        return mixup(jax.random.fold_in(key, 1), images, mixup_alpha)  # not dropout's key

    def step(key, state, batch):
        images, partners, share = mixed(key, batch.images)

        def both(function, *args):  # of the image's own label, and of its partner's
            values = (function(*args, labels) for labels in (batch.labels, batch.labels[partners]))
            return jax.tree.map(lambda own, other: share * own + (1.0 - share) * other, *values)

        def loss(params):
            logits = model.apply(params, images, key)
            metrics = both(model.likelihood.metrics, logits)
            if label_smoothing or focal_gamma:
                targets = both(lambda labels: smooth(labels, logits.shape[-1], label_smoothing))
                metrics["loss"] = jnp.mean(focal(logits, targets, focal_gamma))
            else:
                metrics["loss"] = metrics["nll"]
            if l1:
                kernels = (leaf for leaf in jax.tree.leaves(params) if leaf.ndim > 1)
                metrics["loss"] += l1 * sum(jnp.sum(jnp.abs(kernel)) for kernel in kernels)
            return metrics["loss"], metrics

        gradients, metrics = jax.grad(loss, has_aux=True)(state.params)
        updates, opt_state = tx.update(gradients, state.opt_state, state.params)
        return PointState(optax.apply_updates(state.params, updates), opt_state), metrics

    def draw(key, state, index):
        del key, index  # one network: nothing to draw
        return state.params

    def apply(params, images):
        return model.likelihood.predictive(model.apply(params, images))  # [B, K]

    return Method(init, step, draw, apply)
