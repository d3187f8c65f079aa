"""Bayes by Backprop: what its options choose, and the scale of its objective."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from research.method import Batch
from research.methods.bayes_by_backprop import bayes_by_backprop
from research.models import chain
from research.models.layers import Dense
from research.posteriors import mean_field
from research.runtime.errors import UserError

MODEL = chain.as_model(chain.Chain((Dense("hidden", 4, "relu"), Dense("predictions", 3))))
BATCH = Batch(jax.random.normal(jax.random.key(0), (8, 2)), jnp.arange(8) % 3)
jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def _method(num_train=100, steps_per_epoch=10, num_steps=100, tx=None, **options):
    tx = tx or optax.sgd(0.1)
    return bayes_by_backprop(MODEL, tx, num_train, steps_per_epoch, num_steps, **options)


def _start(method):
    return jit(method.init)(jax.random.key(1), BATCH.images)


def _kl_share(metrics):
    """The weight that the KL had."""
    return float((metrics["loss"] - metrics["nll"]) / metrics["kl_per_example"])


def test_pitfall_04_twice_the_data_halve_the_kl():
    metrics = []
    for num_train in (100, 200):
        method = _method(num_train, prior="gaussian", estimator="local")
        metrics.append(jit(method.step)(jax.random.key(2), _start(method), BATCH)[1])
    np.testing.assert_allclose(
        metrics[0]["kl_per_example"], 2 * metrics[1]["kl_per_example"], rtol=1e-5
    )
    np.testing.assert_allclose(metrics[0]["kl_per_weight"], metrics[1]["kl_per_weight"], rtol=1e-5)
    np.testing.assert_allclose(metrics[0]["nll"], metrics[1]["nll"], rtol=1e-5)


@pytest.mark.parametrize("prior", ["mixture", "laplace", "hierarchical"])
def test_every_prior_enters_in_full(prior):
    method = _method(prior=prior, estimator="local")
    _, metrics = jit(method.step)(jax.random.key(2), _start(method), BATCH)
    np.testing.assert_allclose(_kl_share(metrics), 1.0, rtol=1e-3)
    weights = 2 * 4 + 4 + 4 * 3 + 3
    np.testing.assert_allclose(
        metrics["kl_per_weight"] * weights, metrics["kl_per_example"] * 100, rtol=1e-5
    )


def test_pitfall_06_the_kl_share_follows_the_true_step_of_the_epoch_and_the_warmup():
    method = _method(
        prior="gaussian",
        steps_per_epoch=2,
        num_steps=8,
        kl_warmup=0.5,
        beta=0.5,
        minibatch_kl="blundell",
        tx=optax.sgd(0.0),
    )
    state, step, shares = _start(method), jit(method.step), []
    for _ in range(6):
        state, metrics = step(jax.random.key(2), state, BATCH)
        shares.append(_kl_share(metrics))
    warm = np.array([0.25, 0.5, 0.75, 1, 1, 1])
    blundell = np.array([4 / 3, 2 / 3] * 3)
    np.testing.assert_allclose(shares, 0.5 * warm * blundell, rtol=1e-2)


def test_weight_decay_leaves_uncertain_weights_to_their_prior():
    """Decay alone would move weights; the prior has no weight here and the rate of the NLL is 0."""
    tx = optax.chain(optax.scale(0.0), optax.add_decayed_weights(0.5), optax.scale(-1.0))
    method = _method(bayes="last", tx=tx)
    start = _start(method)
    state, _ = jit(method.step)(jax.random.key(2), start, BATCH)
    for before, after in zip(
        jax.tree.leaves(start.posterior), jax.tree.leaves(state.posterior), strict=True
    ):
        np.testing.assert_array_equal(before, after)
    np.testing.assert_allclose(
        state.deterministic["hidden/kernel"], 0.5 * start.deterministic["hidden/kernel"], rtol=1e-6
    )


def test_pitfall_10_biases_without_a_prior_are_numbers():
    method = _method(bias_prior=False)
    state = _start(method)
    assert set(state.deterministic) == {"hidden/bias", "predictions/bias"}
    one, other = (jit(method.draw)(jax.random.key(0), state, index) for index in range(2))
    np.testing.assert_array_equal(one["hidden"]["bias"], other["hidden"]["bias"])
    assert np.abs(one["hidden"]["kernel"] - other["hidden"]["kernel"]).min() > 0


@pytest.mark.parametrize(("bayes", "count"), [("last", 2), ("head", 4), ("all", 4)])
def test_the_chosen_layers_are_uncertain(bayes, count):
    method = _method(bayes=bayes)
    state = jax.eval_shape(method.init, jax.random.key(1), BATCH.images)
    assert len(state.posterior.mean) == count
    assert method.vectorised == (bayes != "all")


def test_training_starts_from_given_weights_and_is_pulled_back_to_them():
    start = jax.tree.map(lambda leaf: leaf + 1.0, jit(MODEL.init)(jax.random.key(5), BATCH.images))
    method = _method(prior="centred", prior_sigma=0.5, initial_sigma=0.5)
    state = jit(method.init)(jax.random.key(1), BATCH.images, start)
    np.testing.assert_array_equal(state.posterior.mean["hidden/kernel"], start["hidden"]["kernel"])
    _, metrics = jit(method.step)(jax.random.key(2), state, BATCH)
    np.testing.assert_allclose(metrics["kl_per_weight"], 0.0, atol=1e-5)


def test_pitfall_b3_a_collapsed_posterior_shows_in_the_summary():
    wide, narrow = (_method(initial_sigma=value) for value in (0.5, 1e-6))
    summaries = [jit(method.summary)(_start(method)) for method in (wide, narrow)]
    assert summaries[0]["sigma_over_mu"] > 0.1
    assert summaries[1]["sigma_over_mu"] < 1e-5
    np.testing.assert_allclose(summaries[0]["sigma"], 0.5 / 2, rtol=1e-4)  # 15 of 27 have fan-in 4


def test_a_pruned_posterior_draws_zeros():
    method = _method()
    state = _start(method)
    state = state._replace(posterior=mean_field.prune(state.posterior, 0.5))
    network = jit(method.draw)(jax.random.key(0), state, 0)
    zeros = sum(int(np.sum(leaf == 0)) for leaf in jax.tree.leaves(network))
    assert zeros == round(0.5 * 27)


def test_more_passes_of_a_step_lower_the_variance_of_its_nll():
    def nlls(passes):
        method = _method(train_samples=passes, initial_sigma=0.5, estimator="shared")
        state = _start(method)
        keys = jax.random.split(jax.random.key(0), 1000)
        return jit(jax.vmap(lambda key: method.step(key, state, BATCH)[1]["nll"]))(keys)

    # A ratio of two variances of 1,000 has a standard error of about 0.1 of itself here.
    assert 0.15 < np.var(nlls(4)) / np.var(nlls(1)) < 0.4


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"estimator": "naive"}, "shared, local, flipout"),
        ({"prior": "flat"}, "gaussian, mixture"),
        ({"bayes": "none"}, "all, last, head"),
        ({"bias_prior": "no"}, "True, False"),
        ({"initial_sigma": 0}, "a number above 0"),
        ({"prior_sigma": "wide"}, "a number above 0"),
        ({"mixture_pi": 1.0}, "a share above 0 and below 1"),
        ({"kl_warmup": 2}, "a share of the training"),
        ({"beta": -1}, "a number from 0"),
        ({"num_samples": 2.5}, "a whole number from 1"),
        ({"num_samples": True}, "a whole number from 1"),
    ],
)
def test_a_wrong_option_is_one_line(option, message):
    (name, value), *_ = option.items()
    with pytest.raises(UserError, match=message) as caught:
        _method(**option)
    assert str(caught.value).startswith(f"bayes_by_backprop({name}={value}): ")
    assert "\n" not in str(caught.value)
