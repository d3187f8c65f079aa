"""One network: the maximum a posteriori point, what everybody trains.

Minimises the mean negative log-likelihood of the batch; weight decay, if any, is the optimiser's.
Every other method is measured against this one. Its options are a penalty on the size of the
weights (L1: the lasso of Tibshirani 1996) and what keeps a network from being rewarded for ever
larger logits: label smoothing (Szegedy et al. 2016, Rethinking the Inception Architecture, section
7), the focal loss (Lin et al. 2017; Mukhoti et al. 2020, Calibrating Deep Neural Networks using
Focal Loss) and mixup (Zhang et al. 2018). They work on target distributions t [B, K], so they
combine:

    loss = -sum_k t_k (1 - p_k)^gamma log p_k

None of them is a likelihood: other methods keep the plain one, which they are derived from.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from optax.losses import smooth_labels

from research.method import Method, Model, Training
from research.methods._options import BelowOne, NonNegative, checked, require_categorical

TRAINING = Training()


def focal(logits: jax.Array, targets: jax.Array, gamma: float) -> jax.Array:
    """The focal loss of each example: an example that is right already counts less.

    Args:
        logits: [B, K].
        targets: [B, K], each summing to 1.
        gamma: 0 or more; 0 is the cross-entropy.

    Returns:
        [B], nats.
    """
    log_probs = jax.nn.log_softmax(logits)
    # The floor is for saturated logits: there 1 - p is 0, and the slope of a power of it has no
    # bound for gamma < 1.
    others = jnp.maximum(-jnp.expm1(log_probs), jnp.finfo(log_probs.dtype).eps)  # 1 - p
    return -jnp.sum(targets * others**gamma * log_probs, axis=-1)


class Mixed(NamedTuple):
    """A batch of which every image is laid over another one of it."""

    images: jax.Array  # [B, ...] float32
    partners: jax.Array  # [B] int: which other image each was mixed with
    share: jax.Array | float  # scalar from 0 to 1: how much of an example is its own image


def mixup(key: jax.Array, images: jax.Array, alpha: float) -> Mixed:
    """share * image + (1 - share) * partner, with one share ~ Beta(alpha, alpha) for the batch.

    Args:
        key: decides the partners, a permutation of the batch, and the share.
        images: [B, ...], uint8 or float.
        alpha: above 0; 1 is uniform, small values mix little.
    """
    share_key, partner_key = jax.random.split(key)
    share = jax.random.beta(share_key, alpha, alpha)
    partners = jax.random.permutation(partner_key, len(images))
    images = images.astype(jnp.float32)
    return Mixed(share * images + (1.0 - share) * images[partners], partners, share)


class PointState(NamedTuple):
    """Weights and the optimiser's state."""

    params: Any
    opt_state: optax.OptState


@checked
def point(
    model: Model,
    tx: optax.GradientTransformation,
    label_smoothing: BelowOne = 0.0,
    focal_gamma: NonNegative = 0.0,
    mixup_alpha: NonNegative = 0.0,
    l1: NonNegative = 0.0,
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
        UserError: an option is out of range, or is for classifiers only and the model is none.
    """

    if label_smoothing or focal_gamma:
        require_categorical("point with label_smoothing or focal_gamma", model)

    def init(key, images, start=None):
        params = model.initial(key, images, start)
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
                one_hot = partial(jax.nn.one_hot, num_classes=logits.shape[-1])
                targets = both(lambda labels: smooth_labels(one_hot(labels), label_smoothing))
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

    return Method(init, step, draw, model.predictive)
