"""A Gaussian around the trained network, as wide as the curvature of its loss allows.

MacKay 1992, A Practical Bayesian Framework for Backpropagation Networks; Daxberger et al. 2021,
Laplace Redux. Training is that of `point`. `finish` passes over the training split once for the
GGN (`posteriors/ggn.py`), then fits the precision tau of the prior N(0, 1/tau):

    q(w) = N(w*, (GGN + tau I)^-1)

The predictive is that of the linearised network, f(x) + J(x) (w - w*), which is what the GGN is the
exact curvature of (Immer, Korzepa & Bauer 2021); sampled weights in the network itself underfit.

The GGN is a sum over the N training examples, so tau is the precision of one weight and knows
nothing of N. By default tau is the one of lowest validation NLL: the evidence is known to choose
posteriors far too wide. tau need not equal the weight decay of training.
"""

import math
from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy.special import logsumexp

from research.data.batches import map_batches, padded_batches
from research.data.dataset import Dataset, Split
from research.method import Method, Model, Training
from research.methods._options import (
    ABOVE_0,
    Count,
    bad_option,
    checked,
    or_none,
    require_categorical,
)
from research.methods.point import point
from research.posteriors import curvature, gaussian_softmax, ggn
from research.posteriors.predictive import predictor
from research.posteriors.prior_precision import maximise_evidence, minimise
from research.runtime.errors import UserError

TRAINING = Training(start="point", epochs=0)

CLOSED_FORMS = {"probit": gaussian_softmax.probit, "bridge": gaussian_softmax.bridge}
BATCH = 32
LARGEST_MAP = 2**19  # examples x classes x pixels that one backward pass holds
FEATURES_BATCH = 4096
GRID_DRAWS = 5  # of the whole network, for each tau that is tried


class LaplaceState(NamedTuple):
    """The point network and the Gaussian around it.

    Until `finish`, tau is infinite: the state predicts as the point network.
    """

    point: Any  # PointState
    curvature: dict[str, curvature.Curvature]  # by layer
    tau: jax.Array  # prior precision, float32


def _check_last(model, params, images):
    """That the last layer's outputs are the logits, but for the 0 of (0, z)."""
    name = model.layers[-1]

    @jax.jit
    def both(params, images):
        outputs = ggn.features(model, params, images, name) @ ggn.to_matrix(params[name])
        return gaussian_softmax.two_logits(outputs), model.apply(params, images)

    ours, logits = map(np.asarray, both(params, images))
    if np.max(np.abs(ours - logits)) > 0.05 * np.max(np.abs(logits)):  # bfloat16 is that rough
        raise UserError(
            None,
            f"laplace(structure=last_...): the last layer, '{name}', is followed by more than a "
            "softmax",
            "use structure=kron or diag",
        )


def _fit_curvature(
    model: Model, structure: str, state: LaplaceState, dataset: Dataset
) -> dict[str, curvature.Curvature]:
    """The curvature by layer, by one pass over the training split."""
    params, images = state.point.params, dataset.train.images
    size = min(BATCH, dataset.num_train)
    if structure.startswith("last"):
        _check_last(model, params, images[np.arange(1)])
    else:
        pixels = math.prod(images.shape[1:-1])
        size = min(size, max(1, LARGEST_MAP // (pixels * len(dataset.classes))))
    batches = padded_batches(images, size, "laplace: curvature")
    layers, kind = tuple(state.curvature), structure.removeprefix("last_")
    return curvature.fit_curvature(model, params, layers, kind, batches)


def _draw_differences(key: jax.Array, state: LaplaceState) -> dict[str, jax.Array]:
    """A draw of w - w*: a matrix for each uncertain layer."""
    params, keys = state.point.params, jax.random.split(key, len(state.curvature))
    return {
        name: curvature.sample(k, of_layer, state.tau, ggn.to_matrix(params[name]).shape)
        for k, (name, of_layer) in zip(keys, sorted(state.curvature.items()), strict=True)
    }


def _last_layer(model: Model, predictive: str) -> tuple[Callable, Callable, Callable]:
    """`draw` and `apply` where the last layer alone is uncertain, and `head`.

    `head` takes a network and the last layer's inputs [B, D] to log-probabilities.
    """

    def draw(key, state, index):
        params, (name,) = state.point.params, state.curvature
        weights = ggn.to_matrix(params[name])
        if predictive == "draws":
            return params, weights + _draw_differences(jax.random.fold_in(key, index), state)[name]
        return params, (weights, state.curvature[name], state.tau)

    def head(network, a):
        _, last = network
        if predictive == "draws":
            return jax.nn.log_softmax(gaussian_softmax.two_logits(a @ last))
        weights, of_layer, tau = last
        mean, covariance = a @ weights, curvature.output_covariance(of_layer, tau, a)
        two_logits = gaussian_softmax.two_logits
        return CLOSED_FORMS[predictive](two_logits(mean), two_logits(covariance))

    def apply(network, images):
        return head(network, ggn.features(model, network[0], images, model.layers[-1]))

    return draw, apply, head


def _every_layer(model: Model) -> tuple[Callable, Callable]:
    """`draw` and `apply` of the linearised network: its logits and how the draw changes them."""

    def draw(key, state, index):
        params = state.point.params
        matrices = _draw_differences(jax.random.fold_in(key, index), state)
        still = {n: jax.tree.map(jnp.zeros_like, params[n]) for n in params if n not in matrices}
        moved = {n: ggn.from_matrix(matrix, params[n]) for n, matrix in matrices.items()}
        return params, still | moved

    def apply(network, images):
        params, difference = network
        logits, change = jax.jvp(lambda p: model.apply(p, images), (params,), (difference,))
        return jax.nn.log_softmax(logits + change)

    return draw, apply


def _validation_nll(
    method: Method, key: jax.Array, state: LaplaceState, valid: Split, batch_size: int
) -> Callable[[float], float]:
    """The NLL of the validation split as a function of log10 tau."""
    labels, predict = np.asarray(valid.labels), predictor(method, key, batch_size)

    def nll(log10_tau):
        tried = state._replace(tau=jnp.float32(10.0**log10_tau))
        log_probs = predict(tried, valid.images)  # [S, N, K]
        of_label = log_probs[:, np.arange(len(labels)), labels].astype(np.float64)
        return -np.mean(logsumexp(of_label, axis=0) - np.log(len(of_label)))

    return nll


@checked
def laplace(
    model: Model,
    tx: optax.GradientTransformation,
    structure: Literal["last_kron", "last_full", "kron", "diag"] = "last_kron",
    prior_precision: Annotated[float | None, or_none(ABOVE_0, "to fit it")] = None,
    fit_prior: Literal["valid_nll", "marglik"] = "valid_nll",
    predictive: Literal["draws", "probit", "bridge"] = "draws",
    num_samples: Count = 30,
) -> Method:
    """The Laplace approximation, linearised.

    Args:
        model: the network; its dropout is off.
        tx: the optimiser of the point network.
        structure: which weights and which of their correlations. "last_kron" (Laplace Redux'
            choice) and "last_full": the last layer; "kron" and "diag": every dense and
            convolutional layer, each for itself.
        prior_precision: tau; None: fitted.
        fit_prior: what tau is fitted to: "valid_nll", the NLL of the validation split, or
            "marglik", the evidence.
        predictive: "draws" of linearised networks; for a last layer also "probit" or "bridge",
            which need no draws (`posteriors/gaussian_softmax.py`).
        num_samples: S, for "draws".

    Raises:
        UserError: an option is out of range, or the likelihood is not categorical; and from `init`,
            the network has no layers that can be reached, or is too large for the structure.
    """
    require_categorical("laplace", model)
    is_last, by_draws = structure.startswith("last"), predictive == "draws"
    if not by_draws and not is_last:
        way_out = "only for a last layer; use draws, or a last_ structure"
        raise bad_option("laplace", "predictive", predictive, way_out)
    base, kind = point(model, tx), structure.removeprefix("last_")
    if is_last:
        draw, apply, head = _last_layer(model, predictive)
    else:
        draw, apply = _every_layer(model)

    def init(key, images, start=None):
        inner = base.init(key, images, start)
        classes = jax.eval_shape(model.apply, inner.params, images).shape[-1]
        sizes = curvature.choose_layers(model, inner.params, structure, classes)
        nothing = {name: curvature.zeros(kind, *size) for name, size in sizes.items()}
        return LaplaceState(inner, nothing, jnp.float32(jnp.inf))

    def step(key, state, batch):
        inner, metrics = base.step(key, state.point, batch)
        return state._replace(point=inner), metrics

    def fit_tau(key, state, valid):
        params = state.point.params
        if fit_prior == "marglik":
            return maximise_evidence(params, state.curvature)
        if is_last:  # what comes before the last layer is the same for every tau
            compute = jax.jit(lambda x: ggn.features(model, params, x, model.layers[-1]))
            inputs = valid._replace(images=map_batches(compute, valid.images, BATCH))
            candidate = method._replace(apply=head, vectorised=False)
            size = min(FEATURES_BATCH, len(valid.labels)) if by_draws else BATCH
            nll = _validation_nll(candidate, key, state, inputs, size)
            return 10.0 ** minimise(nll, accuracy=0.02)
        candidate = method._replace(num_draws=min(GRID_DRAWS, num_samples))
        nll = _validation_nll(candidate, key, state, valid, BATCH)
        # Every evaluation of a whole network costs GRID_DRAWS passes: powers of ten will do.
        return 10.0 ** minimise(nll, accuracy=None)

    def finish(key, state, dataset):
        state = state._replace(curvature=_fit_curvature(model, structure, state, dataset))
        tau = fit_tau(key, state, dataset.valid) if prior_precision is None else prior_precision
        return state._replace(tau=jnp.float32(tau))

    def summary(state):
        spectra = [curvature.spectrum(c) for c in state.curvature.values()]
        return {
            "prior_std": 1 / jnp.sqrt(state.tau),
            "effective_parameters": sum(jnp.sum(x / (x + state.tau)) for x in spectra),
        }

    num_draws, vectorised = num_samples if by_draws else 1, is_last and by_draws
    method = Method(init, step, draw, apply, finish, summary, num_draws, vectorised)
    return method
