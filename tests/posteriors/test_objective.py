"""The scale of the KL."""

import jax.numpy as jnp
import numpy as np
import pytest

from research.posteriors.objective import minibatch_weight, negative_elbo, warmup


def test_pitfall_04_kl_is_divided_by_the_number_of_training_examples():
    assert negative_elbo(0.5, 30.0, 100) == 0.5 + 0.3
    assert negative_elbo(0.5, 30.0, 200, weight=2.0) == 0.5 + 0.3


@pytest.mark.parametrize("batches", [1, 2, 10, 128, 129, 469, 2000])
def test_pitfall_06_blundell_weights_survive_many_batches(batches):
    steps = jnp.arange(2 * batches)
    weights = np.asarray(minibatch_weight("blundell", steps, batches))
    assert np.isfinite(weights).all()
    np.testing.assert_allclose(weights[:batches].sum(), batches, rtol=1e-5)
    np.testing.assert_array_equal(weights[:batches], weights[batches:])  # by the step in the epoch
    exact = [2.0 ** -(i + 1) / (1 - 2.0**-batches) * batches for i in range(batches)]
    np.testing.assert_allclose(weights[: min(batches, 100)], exact[:100], rtol=1e-5)


def test_uniform_weights_are_1():
    assert minibatch_weight("uniform", jnp.int32(7), 10) == 1


def test_warmup_rises_to_1_and_stays():
    np.testing.assert_allclose(warmup(jnp.arange(6), 4.0), [0.25, 0.5, 0.75, 1, 1, 1], rtol=1e-6)
    assert warmup(jnp.int32(0), 0.0) == 1
