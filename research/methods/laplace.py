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
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy.special import logsumexp
from tqdm import tqdm

from research.data.batches import map_batches
from research.data.dataset import Split
from research.data.streamed import StreamedImages, ahead
from research.method import Method, Model, Training
from research.methods.point import point
from research.posteriors import curvature, gaussian_softmax, ggn
from research.posteriors.predictive import predict_split
from research.posteriors.prior_precision import maximise_evidence, minimise
from research.runtime.errors import UserError

TRAINING = Training(start="point", epochs=0)

STRUCTURES = ("last_kron", "last_full", "kron", "diag")
CLOSED_FORMS = {"probit": gaussian_softmax.probit, "bridge": gaussian_softmax.bridge}
PREDICTIVES = ("draws", *CLOSED_FORMS)
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


def _check_options(structure, prior_precision, fit_prior, predictive, num_samples):
    def refuse(option, value, way_out):
        raise UserError(f"laplace({option}={value}): {way_out}")

    if structure not in STRUCTURES:
        refuse("structure", structure, f"choose from {', '.join(STRUCTURES)}")
    if predictive not in PREDICTIVES:
        refuse("predictive", predictive, f"choose from {', '.join(PREDICTIVES)}")
    if predictive != "draws" and not structure.startswith("last"):
        refuse("predictive", predictive, "only for a last layer; use draws, or a last_ structure")
    if fit_prior not in ("valid_nll", "marglik"):
        refuse("fit_prior", fit_prior, "choose from valid_nll, marglik")
    if prior_precision is not None and not (
        isinstance(prior_precision, int | float) and 0 < prior_precision < np.inf
    ):
        refuse("prior_precision", prior_precision, "give a number above 0, or None to fit it")
    if not (isinstance(num_samples, int) and num_samples >= 1):
        refuse("num_samples", num_samples, "give a whole number of 1 or more")


def _batches(split: Split, size: int):
    """Every example once: images [size, ...], and 1 for those that are there, 0 for filling.

    On a terminal a bar shows how many batches are left.
    """
    n = len(split.labels)

    def batch_of(number):
        index = np.arange(number * size, (number + 1) * size)
        present = index < n
        return split.images[np.where(present, index, 0)], present.astype(np.float32)

    count = -(-n // size)
    streamed = isinstance(split.images, StreamedImages)
    batches = ahead(batch_of, 0, count) if streamed else map(batch_of, range(count))
    bar = {"desc": "laplace: curvature", "unit": "batch", "leave": False, "disable": None}
    return tqdm(batches, total=count, **bar)


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
            f"laplace(structure=last_...): the last layer, '{name}', is followed by more than a "
            "softmax; use structure=kron or diag"
        )


def laplace(
    model: Model,
    tx: optax.GradientTransformation,
    structure: str = "last_kron",
    prior_precision: float | None = None,
    fit_prior: str = "valid_nll",
    predictive: str = "draws",
    num_samples: int = 30,
) -> Method:
    """The Laplace approximation, linearised.

    Args:
        model: the network; its dropout is off.
        tx: the optimiser of the point network.
        structure: which weights and which of their correlations. "last_kron" (Laplace Redux'
            choice) and "last_full": the last layer; "kron" and "diag": every dense and
            convolutional layer, each for itself.
        prior_precision: tau; None: fitted.
        fit_prior: how: "valid_nll", the NLL of the validation split, or "marglik", the evidence.
        predictive: "draws" of linearised networks; for a last layer also "probit" or "bridge",
            which need no draws (`posteriors/gaussian_softmax.py`).
        num_samples: S of "draws".

    Raises:
        UserError: options that are not offered; and from `init`, a network that has no layers to
            look into, or one that is too large for the structure.
    """
    _check_options(structure, prior_precision, fit_prior, predictive, num_samples)
    base, kind = point(model, tx), structure.removeprefix("last_")
    is_last, by_draws = structure.startswith("last"), predictive == "draws"

    def init(key, images, start=None):
        inner = base.init(key, images, start)
        classes = jax.eval_shape(model.apply, inner.params, images).shape[-1]
        sizes = curvature.choose_layers(model, inner.params, structure, classes)
        nothing = {name: curvature.zeros(kind, *size) for name, size in sizes.items()}
        return LaplaceState(inner, nothing, jnp.float32(jnp.inf))

    def step(key, state, batch):
        inner, metrics = base.step(key, state.point, batch)
        return state._replace(point=inner), metrics

    def sample(key, state):
        """Differences of weights, a matrix for each uncertain layer."""
        params, keys = state.point.params, jax.random.split(key, len(state.curvature))
        return {
            name: curvature.sample(k, each, state.tau, ggn.to_matrix(params[name]).shape)
            for k, (name, each) in zip(keys, sorted(state.curvature.items()), strict=True)
        }

    def draw_last(key, state, index):
        params, (name,) = state.point.params, state.curvature
        weights = ggn.to_matrix(params[name])
        if by_draws:
            return params, weights + sample(jax.random.fold_in(key, index), state)[name]
        return params, (weights, state.curvature[name], state.tau)

    def head(network, a):
        """From the last layer's inputs a [B, D] to log-probabilities."""
        _, last = network
        if by_draws:
            return jax.nn.log_softmax(gaussian_softmax.two_logits(a @ last))
        weights, each, tau = last
        mean, covariance = a @ weights, curvature.output_covariance(each, tau, a)
        two_logits = gaussian_softmax.two_logits
        return CLOSED_FORMS[predictive](two_logits(mean), two_logits(covariance))

    def apply_last(network, images):
        return head(network, ggn.features(model, network[0], images, model.layers[-1]))

    def draw_all(key, state, index):
        params, matrices = state.point.params, sample(jax.random.fold_in(key, index), state)
        still = {n: jax.tree.map(jnp.zeros_like, params[n]) for n in params if n not in matrices}
        moved = {n: ggn.from_matrix(matrix, params[n]) for n, matrix in matrices.items()}
        return params, still | moved

    def apply_all(network, images):
        params, difference = network
        logits, change = jax.jvp(lambda p: model.apply(p, images), (params,), (difference,))
        return jax.nn.log_softmax(logits + change)

    def finish(key, state, dataset):
        params, images = state.point.params, dataset.valid.images
        pixels = math.prod(dataset.train.images.shape[1:-1])
        largest = BATCH if is_last else LARGEST_MAP // (pixels * len(dataset.classes))
        batches = _batches(dataset.train, min(BATCH, max(1, largest), dataset.num_train))
        layers = tuple(state.curvature)
        if is_last:
            _check_last(model, params, dataset.train.images[np.arange(1)])
        fitted = curvature.fit_curvature(model, params, layers, kind, batches)
        state = state._replace(curvature=fitted)
        if prior_precision is not None:
            return state._replace(tau=jnp.float32(prior_precision))
        if fit_prior == "marglik":
            return state._replace(tau=jnp.float32(maximise_evidence(params, fitted)))

        if is_last:  # what comes before the last layer is the same for every tau
            compute = jax.jit(lambda x: ggn.features(model, params, x, model.layers[-1]))
            inputs = map_batches(compute, images, BATCH)
            candidate = method._replace(apply=head, together=False)
            batch_size = min(FEATURES_BATCH, len(inputs)) if by_draws else BATCH
        else:
            candidate = method._replace(num_draws=min(GRID_DRAWS, num_samples))
            inputs, batch_size = images, BATCH

        def valid_nll(u):
            tried = state._replace(tau=jnp.float32(10.0**u))
            log_probs = predict_split(candidate, key, tried, inputs, batch_size)  # [S, N, K]
            labels = dataset.valid.labels
            of_label = log_probs[:, np.arange(len(labels)), labels].astype(np.float64)
            return -np.mean(logsumexp(of_label, axis=0) - np.log(len(of_label)))

        # Each look at a whole network costs GRID_DRAWS passes: powers of ten will do.
        tau = 10.0 ** minimise(valid_nll, accuracy=0.02 if is_last else None)
        return state._replace(tau=jnp.float32(tau))

    def summary(state):
        spectra = [curvature.spectrum(c) for c in state.curvature.values()]
        return {
            "prior_std": 1 / jnp.sqrt(state.tau),
            "effective_parameters": sum(jnp.sum(x / (x + state.tau)) for x in spectra),
        }

    method = Method(
        init,
        step,
        draw_last if is_last else draw_all,
        apply_last if is_last else apply_all,
        finish,
        summary,
        num_draws=num_samples if by_draws else 1,
        together=is_last and by_draws,
    )
    return method
