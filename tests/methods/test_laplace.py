"""Laplace against closed forms: logistic regression, Jacobians, and its own point network."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.optimize import minimize
from scipy.special import expit

from research.data.batches import padded_batches
from research.data.dataset import Dataset, Split
from research.method import Batch, Model, predict
from research.methods.laplace import laplace
from research.methods.point import point
from research.models import chain
from research.models.layers import Affine, BinaryLogit, Conv, Dense, GlobalPool, Rescale
from research.posteriors import curvature, ggn
from research.posteriors.prior_precision import maximise_evidence
from research.runtime.errors import UserError

LAYERS = (Dense("hidden", 4, "tanh"), Dense("predictions", 3))
TX = optax.sgd(0.1)


def _dataset(points, labels, classes):
    split = Split(points.astype(np.float32), labels.astype(np.int32), labels.astype(str))
    return Dataset("points", tuple("abc")[:classes], split, split, split)


def _model(layers):
    return chain.as_model(chain.Chain(layers))


MODEL = _model(LAYERS)  # one, so that what is compiled for it is shared


@pytest.fixture(scope="module")
def blobs():
    """37 points of three overlapping classes: a last batch that is not full."""
    generator = np.random.default_rng(0)
    labels = np.arange(37) % 3
    centres = np.array([[1.0, 0.0], [-0.5, 0.8], [-0.5, -0.8]])
    return _dataset(centres[labels] + generator.normal(size=(37, 2)), labels, 3)


@pytest.fixture(scope="module")
def start(blobs):
    """Somewhat trained weights of the small network."""
    method = point(MODEL, optax.adam(0.05))
    init, step = jax.jit(method.init), jax.jit(method.step)
    state = init(jax.random.key(0), blobs.train.images)
    batch = Batch(blobs.train.images, blobs.train.labels)
    for _ in range(60):
        state, _ = step(jax.random.key(1), state, batch)
    return state.params


def _predict(method, key, state, images):
    return np.asarray(jax.jit(partial(predict, method))(key, state, images))


def _finished(blobs, start, **options):
    method = laplace(MODEL, TX, **options)
    state = jax.jit(method.init)(jax.random.key(0), blobs.train.images[:1], start)
    return method, method.finish(jax.random.key(1), state, blobs)


@pytest.mark.parametrize(
    ("structure", "predictive"),
    [("kron", "draws"), ("last_kron", "draws"), ("last_kron", "probit"), ("last_full", "bridge")],
)
def test_before_finish_it_is_the_point_network_and_finish_keeps_the_form(
    structure, predictive, blobs, start
):
    method = laplace(MODEL, TX, structure, 1.0, predictive=predictive, num_samples=2)
    state = jax.jit(method.init)(jax.random.key(0), blobs.train.images[:1], start)
    images = blobs.test.images[:6]
    before = _predict(method, jax.random.key(2), state, images)
    wanted = np.asarray(jax.nn.log_softmax(MODEL.apply(start, images)))
    assert len(before) == (2 if predictive == "draws" else 1)
    for log_probs in before:
        np.testing.assert_allclose(log_probs, wanted, atol=1e-5)
    finished = method.finish(jax.random.key(1), state, blobs)
    forms = [jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), s) for s in (state, finished)]
    assert forms[0] == forms[1]
    after = _predict(method, jax.random.key(2), finished, images)
    assert np.abs(after - wanted).max() > 0.01
    assert 0 < float(method.summary(finished)["effective_parameters"]) < 27


def test_neither_the_batch_size_nor_the_last_batch_changes_the_curvature(blobs, start):
    layers, spectra = ("hidden", "predictions"), []
    for size in (8, 37):
        batches = padded_batches(blobs.train.images, size)
        found = curvature.fit_curvature(MODEL, start, layers, "kron", batches)
        spectra.append([np.asarray(curvature.spectrum(found[name])) for name in layers])
    for eight, all_at_once in zip(*spectra, strict=True):
        np.testing.assert_allclose(eight, all_at_once, atol=1e-5 * all_at_once.max())


def test_bayesian_logistic_regression_is_the_map_and_the_inverse_hessian():
    """One layer, one logit: last layer and whole network are the same textbook posterior."""
    generator, tau = np.random.default_rng(1), 0.5
    x = generator.normal(size=(50, 2))
    y = (generator.random(50) < expit(x @ [1.5, -1.0] + 0.5)).astype(np.int32)
    design = np.column_stack([x.astype(np.float32), np.ones(50)])

    def loss(w):
        z = design @ w
        return np.sum(np.logaddexp(0, z) - y * z) + tau / 2 * w @ w

    best = minimize(loss, np.zeros(3), tol=1e-10).x
    p = expit(design @ best)
    covariance = np.linalg.inv(design.T * (p * (1 - p)) @ design + tau * np.eye(3))

    dataset = _dataset(x, y, 2)
    model = _model((Dense("predictions", 1), BinaryLogit()))
    start = ggn.from_matrix(
        jnp.asarray(best[:, None], jnp.float32),
        {"kernel": jnp.zeros((2, 1)), "bias": jnp.zeros(1)},
    )
    method = laplace(model, TX, "last_full", prior_precision=tau, num_samples=4000)
    state = jax.jit(method.init)(
        jax.random.key(0), dataset.train.images[:1], {"predictions": start}
    )
    state = method.finish(jax.random.key(1), state, dataset)
    found = state.curvature["predictions"]
    basis = np.asarray(found.basis, np.float64)
    np.testing.assert_allclose(
        basis / (np.asarray(found.eigenvalues) + tau) @ basis.T, covariance, rtol=1e-4
    )
    # The predictive's logit: mean and variance of its draws.
    log_probs = _predict(method, jax.random.key(2), state, dataset.test.images[:5])
    z = (log_probs[..., 1] - log_probs[..., 0]).astype(np.float64)  # [S, 5]
    mean, variance = design[:5] @ best, np.einsum("bi,ij,bj->b", design[:5], covariance, design[:5])
    assert (np.abs(z.mean(0) - mean) < 5 * np.sqrt(variance / 4000)).all()
    np.testing.assert_allclose(z.var(0), variance, rtol=5 * np.sqrt(2 / 4000))


@pytest.mark.parametrize("pair", [("last_full", "diag"), ("last_kron", "kron")])
def test_the_last_layer_is_the_whole_network_where_there_is_only_one(pair, blobs):
    """The same draws of the last layer and of the linearised network, or the same diagonal."""
    model = _model((Dense("predictions", 3),))
    start = jax.jit(model.init)(jax.random.key(5), blobs.train.images)
    states, predictions = [], []
    for structure in pair:
        method = laplace(model, TX, structure, prior_precision=1.0, num_samples=2)
        state = jax.jit(method.init)(jax.random.key(0), blobs.train.images[:1], start)
        state = method.finish(jax.random.key(1), state, blobs)
        states.append(state.curvature["predictions"])
        predictions.append(_predict(method, jax.random.key(2), state, blobs.test.images[:4]))
    last, whole = states
    if pair[0] == "last_kron":
        np.testing.assert_allclose(*predictions, atol=1e-4)
        return
    full = np.asarray(last.basis * last.eigenvalues[None] @ last.basis.T)
    np.testing.assert_allclose(np.diag(full), whole.eigenvalues.reshape(-1), rtol=1e-4)


def test_draws_of_the_whole_network_have_the_moments_of_its_linearisation(blobs, start):
    """Logits f(x) + J(x) d: mean f, covariance J Sigma J^T over all layers."""
    draws, tau = 3000, 1.0
    method, state = _finished(
        blobs, start, structure="kron", prior_precision=tau, num_samples=draws
    )
    images, model = blobs.test.images[:3], MODEL
    logits = np.asarray(model.apply(start, images), np.float64)
    jacobian = jax.jit(jax.jacrev(model.apply))(start, images)
    contrast = np.array([[1.0, -1.0, 0.0], [0.0, 1.0, -1.0]])  # what log-probabilities show
    covariance = np.zeros((3, 2, 2))
    for name, found in state.curvature.items():
        parts = [np.asarray(jacobian[name][p], np.float64) for p in ("kernel", "bias")]
        j = np.concatenate([parts[0], parts[1][:, :, None]], axis=2)  # [B, K, D, F]
        j = np.einsum("bkif,ia,fc->bkac", j, found.left, found.right)
        variances = 1 / (np.asarray(curvature.spectrum(found), np.float64) + tau)
        j = np.einsum("ck,bkif->bcif", contrast, j)
        covariance += np.einsum("bcif,if,bdif->bcd", j, variances, j)

    def one(index):
        return method.apply(method.draw(jax.random.key(4), state, index), images)

    log_probs = np.asarray(jax.jit(jax.vmap(one))(jnp.arange(draws)), np.float64)  # [S, 3, 3]
    found = np.einsum("ck,sbk->sbc", contrast, log_probs)
    variance = np.einsum("bcc->bc", covariance)
    mean = logits @ contrast.T
    assert (np.abs(found.mean(0) - mean) < 5 * np.sqrt(variance / draws)).all()
    centred = found - found.mean(0)
    products = np.einsum("sbc,sbd->bcd", centred, centred) / draws
    spread = variance[:, :, None] * variance[:, None] + covariance**2
    assert (np.abs(products - covariance) < 5 * np.sqrt(spread / draws)).all()


def test_pitfall_b11_by_default_the_prior_is_the_best_on_validation(blobs, start):
    """Laplace#70, #141: a prior from elsewhere can be far too wide."""
    sure = jax.tree.map(lambda x: 4.0 * x, start)  # a network that is far too sure
    method, state = _finished(blobs, sure, predictive="probit", structure="last_full")
    compiled = jax.jit(partial(predict, method))

    def nll(tau):
        tried = state._replace(tau=jnp.float32(tau))
        log_probs = np.asarray(compiled(jax.random.key(0), tried, blobs.valid.images))
        return -np.mean(log_probs[0, np.arange(37), blobs.valid.labels])

    best = nll(state.tau)
    assert best < nll(np.inf) - 0.1  # the point network
    for factor in (0.25, 0.8, 1.25, 4.0):
        assert best <= nll(state.tau * factor) + 1e-5
    method, by_evidence = _finished(blobs, sure, fit_prior="marglik", structure="last_full")
    wanted = maximise_evidence(sure, state.curvature)
    assert float(by_evidence.tau) == pytest.approx(wanted, rel=1e-5)
    assert wanted != pytest.approx(float(state.tau), rel=0.1)


def test_the_whole_network_is_fitted_on_a_grid(blobs, start):
    _, state = _finished(blobs, start, structure="diag", num_samples=2)
    power = np.log10(float(state.tau))
    assert power == pytest.approx(round(power), abs=1e-6)


def test_scales_of_an_affine_layer_stay_what_they_are(blobs):
    layers = (Dense("hidden", 4), Affine("scale"), Dense("predictions", 3))
    method = laplace(_model(layers), TX, "diag", prior_precision=1.0, num_samples=2)
    state = jax.jit(method.init)(jax.random.key(0), blobs.train.images[:1])
    state = method.finish(jax.random.key(1), state, blobs)
    _, difference = method.draw(jax.random.key(2), state, 0)
    assert not np.any(difference["scale"]["scale"])
    assert np.any(difference["hidden"]["kernel"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"structure": "full"}, r"laplace\(structure=full\).*last_full"),
        ({"predictive": "mean"}, r"laplace\(predictive=mean\).*bridge"),
        ({"fit_prior": "cv"}, r"laplace\(fit_prior=cv\).*marglik"),
        ({"prior_precision": 0}, r"laplace\(prior_precision=0\).*above 0"),
        ({"num_samples": 0}, r"laplace\(num_samples=0\).*from 1"),
        ({"structure": "diag", "predictive": "probit"}, "use draws"),
    ],
)
def test_options_that_are_not_offered_say_what_is(options, message):
    with pytest.raises(UserError, match=message) as caught:
        laplace(MODEL, TX, **options)
    assert "\n" not in str(caught.value)


def _error_of(layers, shape, structure):
    method = laplace(_model(layers), TX, structure)
    with pytest.raises(UserError) as caught:
        jax.eval_shape(method.init, jax.random.key(0), jnp.zeros(shape))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_networks_that_do_not_fit_are_errors_of_one_line():
    wide = (Dense("predictions", 1000),)
    assert "structure=last_kron" in _error_of(wide, (1, 4096), "last_full")
    assert "structure=diag" in _error_of(wide, (1, 9000), "last_kron")
    assert "structure=last_kron" in _error_of(wide, (1, 9000), "kron")
    conv = (Conv("conv", 3), GlobalPool("average"))
    assert "structure=kron" in _error_of(conv, (1, 4, 4, 3), "last_kron")


def test_a_black_box_is_an_error():
    black_box = Model(lambda key, images: {}, lambda params, images, key=None: images)
    method = laplace(black_box, TX)
    with pytest.raises(UserError, match="black box"):
        method.init(jax.random.key(0), jnp.zeros((1, 2)))


def test_a_last_layer_with_something_after_it_is_an_error(blobs):
    layers = (Dense("predictions", 3), Rescale(5.0))
    method = laplace(_model(layers), TX)
    state = jax.jit(method.init)(jax.random.key(0), blobs.train.images[:1])
    with pytest.raises(UserError, match="more than a softmax"):
        method.finish(jax.random.key(1), state, blobs)
