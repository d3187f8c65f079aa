"""Three gradient estimators: how a training step samples from the posterior over weights.

- `shared` is weight sampling (Blundell et al. 2015): one draw of the weights for the whole batch.
  It is cheap with convolutions, but all examples share the noise, so that a larger batch does not
  average it out.
- `local` is local reparameterisation (Kingma, Salimans & Welling 2015, Variational Dropout and the
  Local Reparameterization Trick): it samples the outputs of each layer, N(x∗μ, x²∗σ²), for each
  example. It is exact for dense layers. For convolutions (Molchanov et al. 2017) every position has
  the right mean and variance, but positions do not share noise as they would under one kernel.
- `flipout` (Wen et al. 2018): example n has the batch's perturbation ΔW with signs of its own,
  ΔW ∘ s_n r_nᵀ, one sign for each input and each output channel and constant over space. Each
  example's weights have the right distribution, and examples are uncorrelated.

The network is not rewritten: Linen interceptors act on its Dense and Conv layers. Other stochastic
weights (a scale per channel) are sampled once for the batch by every estimator.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from research.posteriors.mean_field import MeanField, perturbations, sample, sigma
from research.posteriors.noise import normal, signs
from research.posteriors.parameters import Leaves, join

TINY = 1e-30  # variance below which a square root has no gradient
INNER = "perturbation"  # the name of the layer that an interceptor calls


class Estimate(NamedTuple):
    """One noisy forward pass."""

    logits: jax.Array  # [B, K]
    draw: Leaves | None  # the draw of all stochastic weights behind it, if it made one


def _path(module: nn.Module, leaf: str) -> str:
    return "/".join((*module.path, leaf))


def _is_linear(context) -> bool:
    return (
        isinstance(context.module, nn.Dense | nn.Conv)
        and context.method_name == "__call__"
        and context.module.name != INNER
    )


def _others(apply: Callable, posterior, deterministic, images: jax.Array) -> tuple[str, ...]:
    """The stochastic weights of no Dense or Conv layer, which no interceptor reaches."""
    linear = set()

    def note(next_call, args, kwargs, context):
        if _is_linear(context):
            linear.update(_path(context.module, leaf) for leaf in ("kernel", "bias"))
        return next_call(*args, **kwargs)

    def trace(*arguments):
        return apply(*arguments)

    with nn.intercept_methods(note):
        # A new function: JAX takes the result of one that it has traced before from its cache, and
        # the interceptor would not be called.
        jax.eval_shape(trace, join(posterior.mean, deterministic), images)
    return tuple(path for path in posterior.mean if path not in linear)


def _linear(module: nn.Module, kernel: jax.Array, x: jax.Array) -> Any:
    """The same layer with another kernel and no bias: same strides, same way to convolve."""
    layer = module.clone(parent=None, name=INNER, use_bias=False)
    return layer.apply({"params": {"kernel": kernel}}, x)


def _per_channel(x: jax.Array) -> tuple[int, ...]:
    """The shape of one number per example and channel."""
    return (x.shape[0], *(1,) * (x.ndim - 2), x.shape[-1])


def _as_channels(bias: jax.Array, x: jax.Array) -> jax.Array:
    return bias.reshape((1,) * (x.ndim - 1) + bias.shape)


def _apply_with_noise(apply, posterior, deterministic, images, key, noise_of, draws) -> jax.Array:
    """Runs the network on its means; `noise_of` adds to each Dense and Conv layer's output.

    Args:
        apply: the model's `apply`.
        posterior: the posterior of the stochastic weights.
        deterministic: the other weights, by path.
        images: [B, ...].
        key: decides the noise.
        noise_of: (key, module, kernel path, bias path, inputs, outputs) -> noise.
        draws: draws by path of the stochastic weights that do not belong to such layers.
    """
    layer = 0

    def intercept(next_call, args, kwargs, context):
        nonlocal layer
        y = next_call(*args, **kwargs)
        if not _is_linear(context):
            return y
        paths = _path(context.module, "kernel"), _path(context.module, "bias")
        if not any(path in posterior.mean for path in paths):
            return y
        layer += 1
        noise = noise_of(jax.random.fold_in(key, layer), context.module, *paths, args[0], y)
        return y + noise.astype(y.dtype)

    params = join({**posterior.mean, **draws}, deterministic)
    with nn.intercept_methods(intercept):
        return apply(params, images)


def shared(
    apply: Callable, posterior: MeanField, deterministic: Leaves, images: jax.Array, key: jax.Array
) -> Estimate:
    """Weight sampling: one draw of the weights for the batch.

    Args:
        apply: (params, images) -> logits [B, K].
        posterior: the posterior of the stochastic weights.
        deterministic: the other weights, by path.
        images: [B, ...].
        key: decides the noise.
    """
    weights = sample(key, posterior)
    return Estimate(apply(join(weights, deterministic), images), weights)


def flipout(
    apply: Callable, posterior: MeanField, deterministic: Leaves, images: jax.Array, key: jax.Array
) -> Estimate:
    """One perturbation for the batch, with signs for each example. Arguments as of `shared`."""
    draw_key, sign_key = jax.random.split(key)
    deltas = perturbations(draw_key, posterior, tuple(posterior.mean))
    weights = jax.tree.map(jnp.add, posterior.mean, deltas)

    def noise_of(key, module, kernel, bias, x, y):
        noise = 0.0
        in_key, out_key = jax.random.split(key)
        if kernel in deltas:
            flipped = x * signs(in_key, _per_channel(x)).astype(x.dtype)
            noise = _linear(module, deltas[kernel], flipped)
        if bias in deltas:
            noise = noise + _as_channels(deltas[bias], y)
        return noise * signs(out_key, _per_channel(y))

    others = {path: weights[path] for path in _others(apply, posterior, deterministic, images)}
    logits = _apply_with_noise(apply, posterior, deterministic, images, sign_key, noise_of, others)
    return Estimate(logits, weights)


def local(
    apply: Callable, posterior: MeanField, deterministic: Leaves, images: jax.Array, key: jax.Array
) -> Estimate:
    """Local reparameterisation: each layer's output is sampled. Arguments as of `shared`."""
    draw_key, noise_key = jax.random.split(key)
    deviations = sigma(posterior)

    def noise_of(key, module, kernel, bias, x, y):
        kernel_key, bias_key = jax.random.split(key)
        variance = noise = 0.0
        if bias in deviations:
            deviation = _as_channels(deviations[bias], y)
            if y.ndim == 2:  # one output per example and unit: one normal serves both
                variance = jnp.square(deviation)
            else:
                noise = deviation * normal(bias_key, _per_channel(y))
        if kernel in deviations:
            variance = variance + _linear(module, jnp.square(deviations[kernel]), jnp.square(x))
        if not isinstance(variance, float):
            deviation = jnp.sqrt(jnp.maximum(variance, TINY))
            noise = noise + deviation * normal(kernel_key, y.shape)
        return noise

    others = _others(apply, posterior, deterministic, images)
    drawn = jax.tree.map(
        jnp.add,
        {path: posterior.mean[path] for path in others},
        perturbations(draw_key, posterior, others),
    )
    logits = _apply_with_noise(apply, posterior, deterministic, images, noise_key, noise_of, drawn)
    return Estimate(logits, None)


ESTIMATORS = {f.__name__: f for f in (shared, local, flipout)}
