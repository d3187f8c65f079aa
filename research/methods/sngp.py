"""A Gaussian process on the network's last features, which is unsure far from the data (SNGP).

Liu et al. 2020, Simple and Principled Uncertainty Estimation with Deterministic Deep Learning via
Distance Awareness. Two changes to a network:

1. Spectral normalisation. After each step, W <- W * min(1, c / sigma(W)): no hidden layer stretches
   distances by more than a bound. sigma, the largest singular value, comes from one power iteration
   a step, whose vectors are kept. A convolution's kernel counts as the matrix [H*W*C_in, C_out];
   with a 3x3 kernel the convolution's own norm is at most 3 times that matrix's. (The paper bounds
   it from below as well, by residual connections; VGG16 has none.)
2. The last dense layer becomes a Gaussian process with an RBF kernel, by D random Fourier features
   (Rahimi & Recht 2008) of its input h [F]:

    phi(h) = amplitude sqrt(2/D) cos(W h + b),   f_k = phi^T beta_k,   beta_k ~ N(0, I),
    W ~ N(0, 1 / l^2),   b ~ U(0, 2 pi),

   so that E[f_k(h) f_k(h')] = amplitude^2 exp(-|h - h'|^2 / (2 l^2)).

Training finds the MAP: mean NLL + sum_k |beta_k|^2 / (2N). `finish` then makes one exact pass over
the training split for the Laplace approximation, equation (9) of the paper:

    beta_k ~ N(map_k, Sigma_k),   Sigma_k^-1 = I + sum_i p_ik (1 - p_ik) phi_i phi_i^T.

The paper averages the softmax over the logits' posterior by draws or a mean-field formula; here it
is draws of beta, S = 10, which share one pass through the network. Until `finish`, a draw is the
MAP: so are the looks at the validation split during training.

The kernel sees distances, so features must be as long in training as in prediction. Dropout makes
them longer (by 40 % on a VGG16, whose accuracy fell from 0.58 with dropout to 0.39 without): it is
left off. There is no layer normalisation of h either, which would hide how far away an image is;
instead the length scale is in units of |h| of the first training image in the initial network.
"""

import math
from collections.abc import Callable
from functools import reduce
from typing import Any, NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from research.data.batches import padded_batches
from research.data.dataset import Dataset
from research.method import Method, Model, Training
from research.methods._options import Count, Positive, checked, require_categorical
from research.runtime.errors import UserError

TRAINING = Training()
FINISH_BATCH = 64


class Head(NamedTuple):
    """Random features that stay as they are, and what is known of beta."""

    frequencies: jax.Array  # [F, D]
    phases: jax.Array  # [D]
    scale: jax.Array  # [K, D, D], Sigma_k = scale_k scale_k^T; zero before `finish`


class SNGPState(NamedTuple):
    """Trained weights, power-iteration vectors, the head, the optimiser's state."""

    params: Any  # of the model without its last layer
    beta: jax.Array  # [D, K]
    vectors: dict[str, jax.Array]  # [C_out] by layer: the leading right singular vector
    head: Head
    opt_state: optax.OptState


def spectral_normalise(kernel: jax.Array, vector: jax.Array, bound: float):
    """One power iteration, and the kernel scaled so that its estimated norm is at most `bound`.

    Args:
        kernel: [..., C_in, C_out], taken as a matrix of C_out columns.
        vector: [C_out], from the last call.
        bound: c.

    Returns:
        The kernel and the new vector.
    """
    matrix = kernel.reshape(-1, kernel.shape[-1])
    left = matrix @ vector
    left = left / jnp.maximum(jnp.linalg.norm(left), 1e-12)
    right = matrix.T @ left
    norm = jnp.linalg.norm(right)  # never above the true one
    # A kernel of zeros must not end the iteration for good.
    vector = jnp.where(norm > 1e-12, right / jnp.maximum(norm, 1e-12), vector)
    return kernel * jnp.minimum(1.0, bound / jnp.maximum(norm, 1e-12)), vector


def _first_vectors(params: Any) -> dict[str, jax.Array]:
    """Where the power iterations start: anywhere that is not orthogonal to the singular vector."""
    sizes = {name: layer["kernel"].shape[-1] for name, layer in params.items() if "kernel" in layer}
    return {name: 1.0 + jnp.arange(size, dtype=jnp.float32) for name, size in sizes.items()}


def random_features(hidden: jax.Array, head: Head, amplitude: float) -> jax.Array:
    """phi [B, D] of the last layer's input [B, F]."""
    angles = hidden @ head.frequencies + head.phases[None]
    return amplitude * math.sqrt(2.0 / len(head.phases)) * jnp.cos(angles)


def posterior_scale(precision: jax.Array) -> jax.Array:
    """A factor of the covariance of a precision matrix [K, D, D]: scale scale^T = precision^-1."""
    identity = jnp.broadcast_to(jnp.eye(precision.shape[-1]), precision.shape)
    cholesky = jnp.linalg.cholesky(precision)
    return jax.scipy.linalg.solve_triangular(cholesky, identity, lower=True, trans="T")


def with_last_layer(model: Model, params: Any, function: Callable, images: jax.Array) -> jax.Array:
    """Logits of the model whose last layer is another function of its input [B, F] float32."""

    def intercept(next_fun, inputs, kwargs, context):
        if context.method_name != "__call__" or context.module.name != model.layers[-1]:
            return next_fun(*inputs, **kwargs)
        return function(inputs[0].astype(jnp.float32))

    with nn.intercept_methods(intercept):
        return model.apply(params, images)


def _without_last_layer(model: Model, params: Any) -> tuple[dict, tuple[int, int]]:
    """The parameters below the last layer, and that layer's inputs F and outputs K."""
    params = dict(params)
    kernel = params.pop(model.layers[-1]).get("kernel")
    if kernel is None or kernel.ndim != 2:
        raise UserError(
            None, f"sngp: the network ends in {model.layers[-1]}, not a dense layer", "leave it out"
        )
    return params, kernel.shape


def _norm_of_features(model: Model, params: Any, outputs: int, images: jax.Array) -> jax.Array:
    """The mean of |h|, the length of the last layer's input."""
    norms = []

    def measure(hidden):
        norms.append(jnp.sqrt(jnp.mean(jnp.sum(jnp.square(hidden), axis=-1))))
        return jnp.zeros((len(hidden), outputs))

    with_last_layer(model, params, measure, images)
    return norms[0]


def _precision(model: Model, state: SNGPState, amplitude: float, dataset: Dataset) -> jax.Array:
    """Sigma_k^-1 [K, D, D] of equation (9), by one pass over the training split."""

    @jax.jit
    def add(precision, images, weights):
        features = []

        def logits_of(hidden):
            features.append(random_features(hidden, state.head, amplitude))
            return features[0] @ state.beta

        logits = with_last_layer(model, state.params, logits_of, images)
        # A network with one output z has the logits (0, z): class 1 stands for it.
        probs = jax.nn.softmax(logits)[:, -state.beta.shape[-1] :]
        weights = weights[:, None] * probs * (1.0 - probs)  # [B, K]
        return precision + jnp.einsum("bk,bd,be->kde", weights, *features, *features)

    precision = jnp.broadcast_to(jnp.eye(len(state.beta)), state.head.scale.shape)
    batches = padded_batches(dataset.train.images, FINISH_BATCH, "sngp: covariance")
    return reduce(lambda total, batch: add(total, *batch), batches, precision)


@checked
def sngp(
    model: Model,
    tx: optax.GradientTransformation,
    num_train: int,
    num_features: Count = 1024,
    length_scale: Positive = 1.0,
    amplitude: Positive = 5.0,
    norm_bound: Positive = 2.0,
    num_samples: Count = 10,
) -> Method:
    """Spectral-normalised neural Gaussian process.

    Args:
        model: the network; its last layer is dense, and only its number of outputs is used.
        tx: the optimiser.
        num_train: N.
        num_features: D; the paper's 1024.
        length_scale: l, as a multiple of |h| of the first training image in the initial network.
        amplitude: the prior's standard deviation of a logit. With 1 the prior holds the logits of
            a small data set back: a VGG16 on 2,000 images got 0.69 right, with 5 it got 0.78.
        norm_bound: c, the largest singular value of a hidden layer's matrix; 2 bounds a 3x3
            convolution by 6, as in the authors' CIFAR runs.
        num_samples: S.

    Raises:
        UserError: an option is out of range, the likelihood is not categorical; and from `init`,
            the network does not end in a dense layer.
    """
    require_categorical("sngp", model)

    def logits_of(params, beta, head, images):
        return with_last_layer(
            model, params, lambda h: random_features(h, head, amplitude) @ beta, images
        )

    def init(key, images, start=None):
        params_key, frequency_key, phase_key = jax.random.split(key, 3)
        params = model.initial(params_key, images, start)
        params, (inputs, outputs) = _without_last_layer(model, params)
        norm = _norm_of_features(model, params, outputs, images)
        frequencies = jax.random.normal(frequency_key, (inputs, num_features))
        head = Head(
            frequencies / (length_scale * jnp.maximum(norm, 1e-6)),
            jax.random.uniform(phase_key, (num_features,), maxval=2.0 * math.pi),
            jnp.zeros((outputs, num_features, num_features)),
        )
        beta = jnp.zeros((num_features, outputs))
        return SNGPState(params, beta, _first_vectors(params), head, tx.init((params, beta)))

    def step(key, state, batch):
        del key

        def loss(trained):
            params, beta = trained
            logits = logits_of(params, beta, state.head, batch.images)
            metrics = model.likelihood.metrics(logits, batch.labels)
            metrics["loss"] = metrics["nll"] + jnp.sum(jnp.square(beta)) / (2.0 * num_train)
            return metrics["loss"], metrics

        trained = state.params, state.beta
        gradients, metrics = jax.grad(loss, has_aux=True)(trained)
        updates, opt_state = tx.update(gradients, state.opt_state, trained)
        params, beta = cast(tuple, optax.apply_updates(trained, updates))
        vectors = {}
        for name, vector in state.vectors.items():
            kernel, vectors[name] = spectral_normalise(params[name]["kernel"], vector, norm_bound)
            params[name] = params[name] | {"kernel": kernel}
        return SNGPState(params, beta, vectors, state.head, opt_state), metrics

    def draw(key, state, index):
        noise = jax.random.normal(jax.random.fold_in(key, index), state.beta.T.shape)  # [K, D]
        moved = jnp.einsum("kde,ke->dk", state.head.scale, noise)
        return state.params, state.beta + moved, state.head

    def apply(network, images):
        params, beta, head = network
        return model.likelihood.predictive(logits_of(params, beta, head, images))  # [B, K]

    def finish(key, state, dataset):
        del key
        scale = posterior_scale(_precision(model, state, amplitude, dataset))
        return state._replace(head=state.head._replace(scale=scale))

    return Method(init, step, draw, apply, finish, num_draws=num_samples, vectorised=True)
