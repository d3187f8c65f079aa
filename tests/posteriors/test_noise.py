"""The quick generator gives the numbers of `jax.random`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.posteriors.noise import bits, normal, signs


@pytest.mark.parametrize("shape", [(1,), (7, 3), (2, 0)])
def test_numbers_are_those_of_jax(shape):
    key = jax.random.fold_in(jax.random.key(5), 17)
    np.testing.assert_array_equal(bits(key, shape), jax.random.bits(key, shape))
    np.testing.assert_allclose(normal(key, shape), jax.random.normal(key, shape), rtol=1e-6)


def test_pitfall_12_signs_are_exactly_plus_or_minus_1():
    drawn = np.asarray(signs(jax.random.key(0), (100, 100)))
    assert set(np.unique(drawn)) == {-1.0, 1.0}
    assert abs(drawn.mean()) < 5 / 100  # five standard errors of 10,000 signs


def test_numbers_are_made_once_however_often_they_are_used():
    """A layer's bias is added to each example, and its noise is needed again for the gradient."""

    def loss(rho, key, x):
        return jnp.sum(jax.nn.relu(x + jnp.exp(rho) * normal(key, (1, 100))) ** 2)

    step = jax.jit(jax.grad(loss))
    compiled = step.lower(jnp.zeros((1, 100)), jax.random.key(0), jnp.ones((64, 100))).compile()
    # Each of the 20 rounds rotates, which is one shift to the left.
    assert compiled.as_text().count("shift-left(") <= 20
