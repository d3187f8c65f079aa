"""The GGN and its three structures against brute force."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.models import chain
from research.models.layers import BinaryLogit, Conv, Dense, Flatten, GlobalPool, Pool
from research.posteriors import curvature, ggn

KINDS = ("full", "kron", "diag")


def _network(*layers, shape=(5, 3), seed=0):
    """(model, params, images), biases not zero."""
    model = chain.as_model(chain.Chain(layers))
    generator = np.random.default_rng(seed)
    images = jnp.asarray(generator.normal(size=shape), jnp.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)

    def weights(leaf):
        return jnp.asarray(0.7 * generator.normal(size=leaf.shape), jnp.float32)

    return model, jax.tree.map(weights, shapes), images


def _logits_of(model, params, images, layer):
    """Logits as a function of one layer's flattened matrix, and that matrix."""
    matrix = ggn.to_matrix(params[layer])

    def logits(flat):
        changed = ggn.from_matrix(flat.reshape(matrix.shape), params[layer])
        return model.apply(params | {layer: changed}, images)

    return logits, matrix.reshape(-1)


def _brute_ggn(model, params, images, layer):
    """sum_n J_n^T (diag(p) - p p^T) J_n by whole Jacobians, float64 [P, P]."""
    logits, flat = _logits_of(model, params, images, layer)
    both = jax.jit(lambda w: (jax.jacrev(logits)(w), jax.nn.softmax(logits(w))))
    jacobian, probs = (np.asarray(x, np.float64) for x in both(flat))  # [B, K, P], [B, K]
    hessians = np.eye(probs.shape[1]) * probs[:, None] - probs[:, :, None] * probs[:, None]
    return np.einsum("bkp,bkj,bjq->pq", jacobian, hessians, jacobian)


@partial(jax.jit, static_argnums=(0, 1, 4))
def _sums(kind, model, params, images, layer, present=None):
    present = jnp.ones(len(images)) if present is None else present
    a, g = ggn.factors(model, params, images, present, (layer,))[layer]
    return ggn.ADD[kind](ggn.zeros(kind, a.shape[-1], g.shape[-1]), a, g)


def _matrix(kind, model, params, images, layer):
    """The GGN that a structure stands for, [P, P], put together from its eigenvectors."""
    found = curvature.decompose(
        kind, _sums(kind, model, params, images, layer), num_examples=len(images)
    )
    values = np.asarray(curvature.spectrum(found), np.float64).reshape(-1)
    match found:
        case curvature.Full():
            basis = np.asarray(found.basis, np.float64)
        case curvature.Kron():
            basis = np.kron(np.asarray(found.left, np.float64), np.asarray(found.right, np.float64))
        case curvature.Diag():
            basis = np.eye(len(values))
    return basis * values @ basis.T


def _assert_close(found, wanted):
    np.testing.assert_allclose(found, wanted, atol=2e-6 * np.abs(wanted).max())


LINEAR = (Dense("predictions", 3),)
MLP = (Dense("hidden", 4, "tanh"), Dense("predictions", 3))
CONV = (
    Conv("conv", 2, (3, 2), (2, 1), "SAME", "tanh"),
    Pool("max"),
    Flatten(),
    Dense("predictions", 3),
)
MAPS = (3, 6, 5, 2)  # B, H, W, C


def test_the_full_ggn_of_a_linear_softmax_network_is_the_hessian_of_its_nll():
    model, params, images = _network(*LINEAR)
    logits, flat = _logits_of(model, params, images, "predictions")
    labels = jnp.array([0, 1, 2, 1, 0])

    def nll(flat):
        return -jnp.sum(jax.nn.log_softmax(logits(flat))[jnp.arange(5), labels])

    hessian = np.asarray(jax.jit(jax.hessian(nll))(flat))
    _assert_close(_matrix("full", model, params, images, "predictions"), hessian)


def test_the_last_layer_of_a_deep_network_is_exact_in_full():
    network = _network(*MLP)
    _assert_close(_matrix("full", *network, "predictions"), _brute_ggn(*network, "predictions"))


def test_one_logit_of_two_classes_gives_the_hessian_of_logistic_regression():
    model, params, images = _network(Dense("predictions", 1), BinaryLogit())
    z = np.asarray(model.apply(params, images), np.float64)[:, 1]
    p = 1 / (1 + np.exp(-z))
    design = np.column_stack([np.asarray(images, np.float64), np.ones(5)])
    wanted = design.T * (p * (1 - p)) @ design
    for kind in ("full", "diag"):
        found = _matrix(kind, model, params, images, "predictions")
        _assert_close(found, wanted if kind == "full" else np.diag(np.diag(wanted)))


@pytest.mark.parametrize("layer", ["hidden", "predictions"])
def test_the_diagonal_of_a_dense_layer_is_exact(layer):
    network = _network(*MLP)
    found = np.diag(_matrix("diag", *network, layer))
    _assert_close(found, np.diag(_brute_ggn(*network, layer)))


def test_the_diagonal_of_a_convolution_is_exact():
    network = _network(*CONV, shape=MAPS)
    found = np.diag(_matrix("diag", *network, "conv"))
    _assert_close(found, np.diag(_brute_ggn(*network, "conv")))


@pytest.mark.parametrize(("padding", "strides"), [("SAME", (2, 3)), ("VALID", (1, 2))])
def test_patches_times_the_matrix_is_the_convolution(padding, strides):
    layer = Conv("conv", 4, (3, 2), strides, padding, "linear")
    model, params, images = _network(layer, GlobalPool("average"), shape=(2, 7, 6, 3))

    @jax.jit
    def both(params, images):
        a, _ = ggn.factors(model, params, images, jnp.ones(2), ("conv",))["conv"]  # [B, T, D]
        found = jnp.mean(a @ ggn.to_matrix(params["conv"]), axis=1)
        return found, model.apply(params, images)

    np.testing.assert_allclose(*both(params, images), atol=1e-5)


@pytest.mark.parametrize("layer", ["hidden", "predictions"])
def test_kfac_of_one_example_is_exact(layer):
    network = _network(*MLP, shape=(1, 3))
    _assert_close(_matrix("kron", *network, layer), _brute_ggn(*network, layer))


def test_kfac_is_exact_where_the_input_is_constant():
    model, params, images = _network(*LINEAR)
    network = model, params, jnp.broadcast_to(images[:1], images.shape)
    _assert_close(_matrix("kron", *network, "predictions"), _brute_ggn(*network, "predictions"))


def test_kfac_is_not_exact_in_general():
    network = _network(*LINEAR)
    wanted = _brute_ggn(*network, "predictions")
    found = _matrix("kron", *network, "predictions")
    assert np.abs(found - wanted).max() > 0.01 * np.abs(wanted).max()


def test_kfac_of_a_convolution_is_exact_where_patches_are_equal_and_one_position_matters():
    """With T equal patches, A has them all and G a share 1/T of the one that counts."""
    layers = (
        Conv("conv", 2, (2, 2), padding="VALID", activation="tanh"),
        Flatten(),
        Dense("predictions", 3),
    )
    model, params, images = _network(*layers, shape=(2, 4, 3, 2))
    constant = jnp.broadcast_to(images[:1, :1, :1], images.shape)
    kernel = params["predictions"]["kernel"]  # [6 positions x 2 units, 3]
    params["predictions"]["kernel"] = kernel.at[2:].set(0.0)  # only the first position
    network = model, params, constant
    _assert_close(_matrix("kron", *network, "conv"), _brute_ggn(*network, "conv"))


def test_kfac_of_a_convolution_has_the_factors_of_its_patches():
    """A and G of the definition, position by position in plain loops."""
    model, params, images = _network(*CONV, shape=MAPS)
    left, right = _sums("kron", model, params, images, "conv")
    # SAME with kernel (3, 2) and strides (2, 1) on 6x5: 3x5 positions, one row and column padded
    # at the end.
    padded = np.pad(np.asarray(images, np.float64), ((0, 0), (0, 1), (0, 1), (0, 0)))
    wanted = np.zeros(left.shape)
    for image in padded:
        for i in range(3):
            for j in range(5):
                patch = np.append(image[2 * i : 2 * i + 3, j : j + 2].reshape(-1), 1.0)
                wanted += np.outer(patch, patch)
    _assert_close(left, wanted)

    def of_map(maps):  # the network after the convolution
        return chain.Chain(CONV[1:]).apply(
            {"params": {"predictions": params["predictions"]}}, jnp.tanh(maps)
        )

    convolved = chain.Chain((CONV[0]._replace(activation="linear"),))
    maps = convolved.apply({"params": {"conv": params["conv"]}}, images)  # [3, 3, 5, 2]
    logits, jacobian = of_map(maps), jax.jit(jax.jacrev(of_map))(maps)
    wanted = np.zeros(right.shape)
    for n in range(3):
        p = np.asarray(jax.nn.softmax(logits[n]), np.float64)
        j = np.asarray(jacobian[n, :, n], np.float64).reshape(3, 15, 2)
        for t in range(15):
            wanted += j[:, t].T @ (np.diag(p) - np.outer(p, p)) @ j[:, t] / 15
    _assert_close(right, wanted)


@pytest.mark.parametrize("kind", KINDS)
def test_examples_that_fill_a_batch_do_not_count(kind):
    model, params, images = _network(*MLP)
    layer = "predictions" if kind == "full" else "hidden"
    padded = jnp.concatenate([images, 9.0 * jnp.ones((2, 3))])
    present = jnp.array([1.0] * 5 + [0.0] * 2)
    alone = _sums(kind, model, params, images, layer)
    filled = _sums(kind, model, params, padded, layer, present)
    for one, other in zip(jax.tree.leaves(alone), jax.tree.leaves(filled), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_draws_have_the_inverse_curvature_as_covariance(kind):
    network, tau, draws = _network(*LINEAR), 2.0, 20_000
    found = curvature.decompose(kind, _sums(kind, *network, "predictions"), num_examples=5)
    precision = _matrix(kind, *network, "predictions") + tau * np.eye(12)
    wanted = np.linalg.inv(precision)
    keys = jax.random.split(jax.random.key(0), draws)
    sampler = jax.jit(jax.vmap(lambda key: curvature.sample(key, found, tau, (4, 3))))
    weights = np.asarray(sampler(keys), np.float64).reshape(draws, 12)
    variances = np.diag(wanted)
    errors = 5 * np.sqrt((variances[:, None] * variances + wanted**2) / draws)
    assert (np.abs(np.cov(weights.T) - wanted) < errors).all()
    assert (np.abs(weights.mean(0)) < 5 * np.sqrt(variances / draws)).all()


@pytest.mark.parametrize("kind", ["full", "kron"])
def test_the_covariance_of_the_logits_is_the_jacobians(kind):
    network, tau = _network(*LINEAR), 2.0
    found = curvature.decompose(kind, _sums(kind, *network, "predictions"), num_examples=5)
    covariance = np.linalg.inv(_matrix(kind, *network, "predictions") + tau * np.eye(12))
    a = np.column_stack([np.asarray(network[2]), np.ones(5)])
    jacobian = np.stack([np.kron(row, np.eye(3)) for row in a])  # [B, F, D F]
    wanted = jacobian @ covariance @ jacobian.transpose(0, 2, 1)
    _assert_close(curvature.output_covariance(found, tau, jnp.asarray(a)), wanted)


def test_pitfall_b12_the_jacobian_of_the_last_layer_is_never_built():
    """Laplace#138: [B, F, D F] numbers run out of memory at 1,000 classes."""
    batch, inputs, units = 8, 64, 50
    found = curvature.zeros("kron", inputs, units)
    jaxpr = jax.make_jaxpr(curvature.output_covariance)(found, 1.0, jnp.zeros((batch, inputs)))
    largest = max(x.aval.size for equation in jaxpr.eqns for x in equation.outvars)
    assert largest <= batch * units * units
    assert batch * units * inputs * units > 50 * largest
