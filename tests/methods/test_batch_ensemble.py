"""Rank-1 factors: equal to weights built by hand, members apart, the KL and the draws exact."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from research.method import Batch
from research.methods.batch_ensemble import (
    batch_ensemble,
    draw_factors,
    gaussian_kl,
    run_members,
)
from research.models import chain
from research.models.layers import Conv, Dense, Flatten
from research.runtime.errors import UserError
from research.training.optimizer import make_optimizer

M, B = 3, 7


@pytest.fixture(scope="module")
def model():
    """A convolution (on a tiny map, so through patches), a dense layer, and one without bias."""
    layers = (
        Conv("conv", 3),
        Flatten(),
        Dense("hidden", 5, "relu", use_bias=False),
        Dense("predictions", 4),
    )
    return chain.as_model(chain.Chain(layers))


@pytest.fixture(scope="module")
def start():
    generator = np.random.default_rng(0)

    def normal(*shape):
        return jnp.asarray(0.5 * generator.normal(size=shape), jnp.float32)

    return {
        "conv": {"kernel": normal(3, 3, 2, 3), "bias": normal(3)},
        "hidden": {"kernel": normal(12, 5)},
        "predictions": {"kernel": normal(5, 4), "bias": normal(4)},
    }


@pytest.fixture(scope="module")
def batch():
    generator = np.random.default_rng(1)
    images = jnp.asarray(generator.normal(size=(B, 2, 2, 2)), jnp.float32)
    return Batch(images, jnp.arange(B, dtype=jnp.int32) % 4)


def _build(model, **options):
    arguments = {"num_train": 100, "num_steps": 50, "num_members": M, **options}
    return batch_ensemble(model, optax.sgd(0.1), **arguments)


def _by_hand(start, r, s, bias):
    """Every weight of a member, one by one: W[..., i, j] * r[i] * s[j]."""
    params = {}
    for name, layer in start.items():
        kernel = np.array(layer["kernel"], np.float64)
        for i in range(kernel.shape[-2]):
            for j in range(kernel.shape[-1]):
                kernel[..., i, j] *= float(r[name][i]) * float(s[name][j])
        params[name] = {"kernel": jnp.asarray(kernel, jnp.float32)}
        if bias[name] is not None:
            params[name]["bias"] = jnp.asarray(bias[name])
    return params


@pytest.mark.parametrize("posterior", ["point", "gaussian"])
def test_factors_of_examples_and_drawn_networks_equal_weights_built_by_hand(
    model, start, batch, posterior
):
    method = _build(model, posterior=posterior, num_samples=1)
    state = method.init(jax.random.key(0), batch.images[:1], start)
    # Members have biases of their own; at the start they are equal.
    own = state.own._replace(bias=state.own.bias + jnp.arange(len(state.own.bias)) / 10.0)
    state = state._replace(own=own)
    key = jax.random.key(5)
    for member in range(M):
        folded = jax.random.fold_in(key, member)
        factors = draw_factors(folded, start, own, M, jnp.int32(member))
        r, s, bias = ({name: part[i] for name, part in factors.items()} for i in range(3))
        expected = model.apply(_by_hand(start, r, s, bias), batch.images)
        drawn = model.apply(method.draw(key, state, jnp.int32(member)), batch.images)
        np.testing.assert_allclose(drawn, expected, atol=1e-5)
        tiled = jax.tree.map(lambda leaf: jnp.tile(leaf[None], (B, 1)), factors)
        per_example = run_members(model.apply, start, tiled, batch.images)
        np.testing.assert_allclose(per_example, expected, atol=1e-5)


def test_examples_of_different_members_do_not_meet(model, start, batch):
    method = _build(model, posterior="point")
    own = method.init(jax.random.key(0), batch.images[:1], start).own
    member = jnp.arange(B) % M
    factors = draw_factors(jax.random.key(0), start, own, M, member)
    together = run_members(model.apply, start, factors, batch.images)
    for m in range(M):
        alone = draw_factors(jax.random.key(0), start, own, M, jnp.full(B, m))
        logits = run_members(model.apply, start, alone, batch.images)
        np.testing.assert_allclose(together[member == m], logits[member == m], atol=1e-5)


def test_a_step_moves_the_factors_of_the_members_that_had_examples(model, start, batch):
    """One example belongs to one member; weight decay leaves the others' factors alone as well."""
    tx = make_optimizer("adam", 0.01, weight_decay=0.1)
    method = batch_ensemble(model, tx, 100, 50, num_members=M, posterior="point")
    state = method.init(jax.random.key(0), batch.images[:1], start)
    step = jax.jit(method.step)
    moved = set()
    for number in range(12):
        after, _ = step(jax.random.key(number), state, jax.tree.map(lambda x: x[:1], batch))
        change = np.abs(after.own.mean - state.own.mean).reshape(M, -1).max(axis=1)
        (member,) = np.flatnonzero(change)
        moved.add(int(member))
    assert moved == set(range(M)), "some member never has its turn"


def test_started_from_trained_weights_with_no_spread_every_member_is_that_network(
    model, start, batch
):
    method = _build(model, posterior="point", spread=0.0)
    state = method.init(jax.random.key(0), batch.images[:1], start)
    for member in range(M):
        network = method.draw(jax.random.key(1), state, jnp.int32(member))
        jax.tree.map(np.testing.assert_array_equal, network, start)


def test_kl_against_its_integral():
    mean, sigma, prior_std = np.array([1.1, 0.7]), np.array([0.05, 0.2]), 0.1
    expected = 0.0
    for m, s in zip(mean, sigma, strict=True):
        q, p = norm(m, s), norm(1, prior_std)

        def difference(x, q=q, p=p):
            return q.pdf(x) * (q.logpdf(x) - p.logpdf(x))

        expected += quad(difference, m - 9 * s, m + 9 * s)[0]
    np.testing.assert_allclose(gaussian_kl(mean, sigma, prior_std), expected, rtol=1e-5)


def test_the_loss_adds_the_mean_members_kl_over_n_and_warms_up(model, start, batch):
    method = _build(model, num_train=100, num_steps=50)
    state = method.init(jax.random.key(0), batch.images[:1], start)
    own = state.own
    sigma = np.log1p(np.exp(np.asarray(own.rho, np.float64)))
    np.testing.assert_allclose(sigma, 0.03, rtol=1e-5)
    kls = [
        float(gaussian_kl(mean, s, 0.1))
        for mean, s in zip(own.mean.reshape(M, -1), sigma.reshape(M, -1), strict=True)
    ]
    step = jax.jit(method.step)
    for count, warm in ((0, 1 / 40), (19, 0.5), (39, 1.0), (49, 1.0)):
        _, metrics = step(jax.random.key(1), state._replace(count=jnp.int32(count)), batch)
        np.testing.assert_allclose(metrics["kl"], np.mean(kls), rtol=1e-4)
        np.testing.assert_allclose(
            metrics["loss"] - metrics["nll"], warm * np.mean(kls) / 100, rtol=1e-3
        )


def test_draws_have_the_moments_of_the_posterior(model, start, batch):
    draws = 2000
    method = _build(model)
    state = method.init(jax.random.key(0), batch.images[:1], start)
    mean = np.asarray(state.own.mean).reshape(M, -1)
    size = mean.shape[1]
    sigma = np.linspace(0.01, 0.5, size)
    rho = jnp.tile(jnp.log(jnp.expm1(jnp.asarray(sigma, jnp.float32))), M)
    members = jnp.full(draws, 1)
    factors = draw_factors(jax.random.key(3), start, state.own._replace(rho=rho), M, members)
    rows = np.concatenate(
        [np.concatenate(factors[name][:2], axis=1) for name in sorted(factors)], 1
    )
    assert rows.shape == (draws, size)
    error = sigma / np.sqrt(draws)
    np.testing.assert_array_less(np.abs(rows.mean(0) - mean[1]), 5 * error)
    np.testing.assert_allclose(rows.var(0), sigma**2, rtol=5 * np.sqrt(2 / draws))
    # Independent: correlations are within five standard errors of 0.
    correlation = np.corrcoef(rows.T) - np.eye(size)
    assert np.abs(correlation).max() < 5 / np.sqrt(draws)


def test_members_and_draws_are_counted_in_order(model, start, batch):
    gaussian = _build(model, num_samples=2)
    assert gaussian.num_draws == 2 * M
    assert _build(model, posterior="point", num_samples=2).num_draws == M
    state = gaussian.init(jax.random.key(0), batch.images[:1], start)
    state = state._replace(own=state.own._replace(rho=jnp.full_like(state.own.rho, -30.0)))
    kernels = [
        gaussian.draw(jax.random.key(1), state, jnp.int32(i))["hidden"]["kernel"]
        for i in range(2 * M)
    ]
    for i in range(0, 2 * M, 2):
        np.testing.assert_allclose(kernels[i], kernels[i + 1], atol=1e-6)
        assert i == 0 or np.abs(kernels[i] - kernels[i - 1]).max() > 0.1


@pytest.mark.parametrize(
    ("option", "value", "way_out"),
    [
        ("num_members", 0, "give a whole number from 1"),
        ("num_samples", 2.5, "give a whole number from 1"),
        ("posterior", "laplace", "choose from gaussian, point"),
        ("prior_std", 0, "give a number above 0"),
        ("spread", -1, "give a number from 0"),
    ],
)
def test_bad_options_are_errors(model, option, value, way_out):
    with pytest.raises(UserError) as caught:
        _build(model, **{option: value})
    assert str(caught.value) == f"batch_ensemble({option}={value}): {way_out}"
