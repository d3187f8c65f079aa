"""Learning rates at the steps where a schedule turns, and which leaves weight decay reaches."""

import jax.numpy as jnp
import pytest

from research.runtime.errors import UserError
from research.training.optimizer import SCHEDULES, learning_rate_schedule, make_optimizer


@pytest.mark.parametrize(
    ("kind", "rates"),
    [
        ("constant", {0: 0.1, 99: 0.1}),
        ("cosine", {0: 0.1, 50: 0.05, 100: 0.0}),
        ("step", {0: 0.1, 49: 0.1, 51: 0.01, 76: 0.001}),
        ("linear", {0: 0.1, 50: 0.1, 70: 0.0505, 90: 0.001, 100: 0.001}),
    ],
)
def test_rates(kind, rates):
    schedule = learning_rate_schedule(kind, 0.1, 100)
    for step, rate in rates.items():
        assert float(schedule(step)) == pytest.approx(rate, rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("kind", SCHEDULES)
def test_warm_up_rises_from_0_to_the_peak(kind):
    schedule = learning_rate_schedule(kind, 0.1, 100, warmup_steps=10)
    assert [float(schedule(step)) for step in (0, 5, 10)] == pytest.approx([0, 0.05, 0.1])


def test_unknown_names_are_errors():
    with pytest.raises(UserError, match=r"^schedule flat: unknown; choose constant, cosine"):
        learning_rate_schedule("flat", 0.1, 100)
    with pytest.raises(UserError, match=r"^optimizer rms: unknown; choose sgd or adam"):
        make_optimizer("rms", 0.1)


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_weight_decay_pulls_kernels_and_leaves_biases(name):
    params = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
    tx = make_optimizer(name, 0.1, weight_decay=0.5, momentum=0.0)
    updates, _ = tx.update(
        {n: jnp.zeros_like(p) for n, p in params.items()}, tx.init(params), params
    )
    assert (updates["kernel"] < 0).all()
    assert (updates["bias"] == 0).all()
