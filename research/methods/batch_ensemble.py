"""BatchEnsemble: M networks that share each kernel W and have two vectors each of their own.

Wen, Tran & Ba 2020, BatchEnsemble: member m's weights are W * (r_m s_m^T), so that a layer is

    y = conv(x * r_m, W) * s_m + b_m,

r_m over input channels, s_m over output channels. Dusenberry et al. 2020, Efficient and Scalable
Bayesian Neural Nets with Rank-1 Factors, make r and s random: q(r_m) = N(mu_m, sigma_m^2), with
prior N(1, prior_std^2). The posterior is then a mixture of M Gaussians, and the loss

    mean NLL + warm * (1/M) sum_m KL(q_m || p) / N,

the KL a sum over one member's factors. The mean over members bounds the mixture's KL from above,
because the KL is convex. W and the biases have no posterior: they are a MAP estimate. `warm` rises
from 0 to 1 over the first 80 % of training (the authors' code: 200 of 250 epochs).

A batch is split over the members, as in Wen et al.: a step costs what `point`'s does, and a member
sees 1/M of the data in an epoch. (The rank-1 code gives every member the whole batch instead, at M
times the cost.)
"""

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from research.method import Method, Model, Training
from research.methods._options import Count, NonNegative, Positive, checked

TRAINING = Training(epochs=1.5)  # Wen et al.: half as long again, as members share the batches
# The first rho of the factors: softplus(RHO) is 0.03, the authors' dropout rate of 1e-3.
RHO = math.log(math.expm1(0.03))
WARM_UP = 0.8  # share of the training in which the KL's weight rises


class Own(NamedTuple):
    """The members' own parameters: T factors and U biases a member, of all layers in one row.

    They are flat because weight decay is applied to leaves of more than one axis only.
    """

    mean: jax.Array  # [M*T]
    rho: jax.Array | None  # [M*T], sigma = softplus(rho); None: the factors are points
    bias: jax.Array  # [M*U]


class BatchEnsembleState(NamedTuple):
    """The shared parameters, the members' own, the optimiser's state."""

    params: Any  # as the model's; the biases of layers with factors are not used
    own: Own
    opt_state: optax.OptState
    count: jax.Array  # int32, steps taken


def gaussian_kl(mean, sigma, prior_std: float) -> jax.Array:
    """KL(N(mean, sigma^2) || N(1, prior_std^2)), summed over all factors; nats."""
    squares = jnp.square(sigma) + jnp.square(mean - 1.0)
    return jnp.sum(jnp.log(prior_std / sigma) + squares / (2.0 * prior_std**2) - 0.5)


def run_members(apply: Callable, params: Any, factors: dict, *args):
    """A forward pass in which every example has its own factors.

    Args:
        apply: a model's (params, images, ...) -> logits.
        params: the shared parameters; the biases of the layers in `factors` are not used.
        factors: by layer: (r [B, C_in], s [B, C_out], bias [B, C_out] or None).
        args: images [B, ...] and the other arguments of `apply`.
    """

    def intercept(next_fun, inputs, kwargs, context):
        if context.method_name != "__call__" or context.module.name not in factors:
            return next_fun(*inputs, **kwargs)
        (x,) = inputs

        def over_map(vector, x):
            return vector.astype(x.dtype).reshape(len(x), *(1,) * (x.ndim - 2), -1)

        r, s, bias = factors[context.module.name]
        y = next_fun(x * over_map(r, x))
        y = y * over_map(s, y)
        return y if bias is None else y + over_map(bias, y)

    without_bias = {
        name: layer | {"bias": jnp.zeros_like(layer["bias"])}
        if name in factors and "bias" in layer
        else layer
        for name, layer in params.items()
    }

    with nn.intercept_methods(intercept):
        return apply(without_bias, *args)


def _with_factors(params) -> list[str]:
    return sorted(name for name, layer in params.items() if "kernel" in layer)


def _cut(row: jax.Array, sizes: list[int]) -> list[jax.Array]:
    return jnp.split(row, np.cumsum(sizes)[:-1], axis=-1)


def draw_factors(key: jax.Array, params, own: Own, num_members: int, member: jax.Array) -> dict:
    """(r, s, bias) of each layer, for one member or for an array of them, each with its own noise.

    Args:
        key: decides the noise.
        params: the shared parameters, which give the layers and their sizes.
        own: the members' factors and biases.
        num_members: M.
        member: numbers of members, [...] int.

    Returns:
        By layer: r [..., C_in], s [..., C_out], bias [..., C_out] or None.
    """
    rows = own.mean.reshape(num_members, -1)[member]  # [..., T]
    if own.rho is not None:
        sigma = jax.nn.softplus(own.rho).reshape(num_members, -1)[member]
        rows += sigma * jax.random.normal(key, rows.shape)
    names = _with_factors(params)
    biased = [name for name in names if "bias" in params[name]]
    factors = iter(_cut(rows, [n for name in names for n in params[name]["kernel"].shape[-2:]]))
    sizes = [len(params[name]["bias"]) for name in biased]
    biases = dict(zip(biased, _cut(own.bias.reshape(num_members, -1)[member], sizes), strict=True))
    return {name: (next(factors), next(factors), biases.get(name)) for name in names}


@checked
def batch_ensemble(
    model: Model,
    tx: optax.GradientTransformation,
    num_train: int,
    num_steps: int,
    num_members: Count = 4,
    posterior: Literal["gaussian", "point"] = "gaussian",
    prior_std: Positive = 0.1,
    spread: NonNegative = 0.1,
    num_samples: Count = 4,
) -> Method:
    """BatchEnsemble, with Gaussian or with point factors.

    Where training starts from trained weights, these are W and the factors start around 1.

    Args:
        model: the network; every layer with a `kernel` gets factors.
        tx: the optimiser.
        num_train: N.
        num_steps: the length of the whole training, for the KL's warm-up.
        num_members: M.
        posterior: "gaussian" (rank-1 Bayesian network), or "point" (BatchEnsemble).
        prior_std: standard deviation of the Gaussian prior around 1; the authors' 0.1.
        spread: members' factors start as N(1, spread^2). The code of BatchEnsemble's CIFAR runs has
            0.5; there the KL starts 12 nats a factor high, which drowns 2,000 images.
        num_samples: draws of each member's factors, S = M * num_samples; point factors have one.

    Raises:
        UserError: an option is out of range.
    """
    is_gaussian = posterior == "gaussian"
    per_member = num_samples if is_gaussian else 1

    def init(key, images, start=None):
        params = model.initial(key, images, start)
        names = _with_factors(params)
        size = num_members * sum(sum(params[name]["kernel"].shape[-2:]) for name in names)
        mean = 1.0 + spread * jax.random.normal(jax.random.fold_in(key, 1), (size,))
        rho = jnp.full(size, RHO, jnp.float32) if is_gaussian else None
        biases = [params[name]["bias"] for name in names if "bias" in params[name]]
        own = Own(mean, rho, jnp.tile(jnp.concatenate([*biases, jnp.zeros(0)]), num_members))
        trained: Any = params, own
        return BatchEnsembleState(params, own, tx.init(trained), jnp.int32(0))

    def step(key, state, batch):
        dropout_key, factor_key, turn_key = jax.random.split(key, 3)
        # Members take turns, beginning with a random one: any batch will do, also one of B < M.
        first = jax.random.randint(turn_key, (), 0, num_members)
        member = (first + jnp.arange(len(batch.labels))) % num_members  # [B]
        warm = jnp.minimum(1.0, (state.count + 1) / (WARM_UP * num_steps))

        def loss(trained):
            params, own = trained
            factors = draw_factors(factor_key, params, own, num_members, member)
            logits = run_members(model.apply, params, factors, batch.images, dropout_key)
            metrics = model.likelihood.metrics(logits, batch.labels)
            metrics["loss"] = metrics["nll"]
            if is_gaussian:
                kl = gaussian_kl(own.mean, jax.nn.softplus(own.rho), prior_std)
                metrics["kl"] = kl / num_members
                metrics["loss"] += warm * metrics["kl"] / num_train
            return metrics["loss"], metrics

        trained = state.params, state.own
        gradients, metrics = jax.grad(loss, has_aux=True)(trained)
        # Optax's type of a tree has no NamedTuple in it.
        updates, opt_state = tx.update(gradients, state.opt_state, trained)  # pyright: ignore[reportArgumentType]
        params, own = cast(tuple, optax.apply_updates(trained, updates))
        return BatchEnsembleState(params, own, opt_state, state.count + 1), metrics

    def draw(key, state, index):
        key, member = jax.random.fold_in(key, index), index // per_member
        factors = draw_factors(key, state.params, state.own, num_members, member)
        params = dict(state.params)
        for name, (r, s, bias) in factors.items():
            kernel = params[name]["kernel"]
            outer = jnp.outer(r, s).reshape(*(1,) * (kernel.ndim - 2), len(r), len(s))
            params[name] = {"kernel": kernel * outer} | ({} if bias is None else {"bias": bias})
        return params  # W * (r s^T): a network like any other

    def summary(state):
        spread = jnp.std(state.own.mean.reshape(num_members, -1), axis=0)
        scalars = {"members_apart": jnp.mean(spread)}
        if is_gaussian:
            scalars["median_sigma"] = jnp.median(jax.nn.softplus(state.own.rho))
        return scalars

    num_draws = num_members * per_member
    return Method(init, step, draw, model.predictive, summary=summary, num_draws=num_draws)
