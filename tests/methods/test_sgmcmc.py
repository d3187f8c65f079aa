"""SG-MCMC: stationary distributions of Gaussian targets, the scale of the noise, the schedule."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import solve_discrete_lyapunov

from research.method import Batch, Model
from research.methods.sgmcmc import hamiltonian, langevin, plan, prior_energy, sgmcmc
from research.runtime.errors import UserError

CHAINS = 5000
BATCH = Batch(jnp.zeros((4, 1)), jnp.arange(4) % 2)


def _flat_model(width=CHAINS):
    """Weights that the likelihood says nothing about: only prior and noise move them."""
    return Model(
        lambda key, images: {"w": jnp.zeros(width)},
        lambda params, images, key=None: jnp.zeros((len(images), 2)),
    )


def _run(step, state, steps, seed=0):
    """The state after `steps` steps of (state, noise) -> state, over CHAINS chains."""

    def body(state, key):
        return step(state, jax.random.normal(key, (CHAINS,))), None

    return jax.lax.scan(body, state, jax.random.split(jax.random.key(seed), steps))[0]


def _check(sample, mean, variance):
    """Five standard errors of the mean and of the variance of a Gaussian sample."""
    sample = np.asarray(sample, np.float64)
    assert abs(sample.mean() - mean) < 5 * np.sqrt(variance / len(sample))
    assert abs(sample.var() / variance - 1) < 5 * np.sqrt(2 / len(sample))


# Targets exp(-U/T) with U/N = curvature (w - CENTRE)^2 / 2: variance T / (N curvature).
CENTRE, CURVATURE, NUM_TRAIN = 1.5, 0.8, 50


@pytest.mark.parametrize("rate", [0.02, 1.0])
@pytest.mark.parametrize("temperature", [1.0, 0.1])
def test_sgld_has_the_stationary_distribution_of_its_step(rate, temperature):
    heat = temperature / NUM_TRAIN

    def step(w, z):
        return langevin(w, CURVATURE * (w - CENTRE), z, rate, heat)

    steps = int(12 / (rate * CURVATURE))  # forgets the start to exp(-12)
    exact = heat / (CURVATURE * (1 - rate * CURVATURE / 2))
    _check(_run(step, jnp.zeros(CHAINS), steps), CENTRE, exact)
    if rate == 0.02:  # the bias of the step is 0.8 % here: less than the bound
        _check(_run(step, jnp.zeros(CHAINS), steps, 1), CENTRE, heat / CURVATURE)


@pytest.mark.parametrize("rate", [0.05, 1.0])
@pytest.mark.parametrize("friction", [0.1, 0.5])
def test_sghmc_has_the_stationary_distribution_of_its_step(rate, friction):
    heat = 1.0 / NUM_TRAIN

    def step(state, z):
        w, v = state
        return hamiltonian(w, v, CURVATURE * (w - CENTRE), z, rate, heat, friction)

    pull, noise = friction * rate * CURVATURE, 2 * friction**2 * rate * heat
    matrix = np.array([[1 - pull, 1 - friction], [-pull, 1 - friction]])
    covariance = solve_discrete_lyapunov(matrix, noise * np.ones((2, 2)))
    start = (jnp.zeros(CHAINS), jnp.zeros(CHAINS))
    steps = int(12 / -np.log(np.abs(np.linalg.eigvals(matrix)).max()))
    w, v = _run(step, start, steps)
    _check(w, CENTRE, covariance[0, 0])
    _check(v, 0.0, covariance[1, 1])
    if rate == 0.05:
        assert covariance[0, 0] == pytest.approx(heat / CURVATURE, rel=0.05)


def test_without_noise_the_kernels_are_gradient_descent_with_and_without_momentum():
    w, v, g, z = jnp.array([1.0]), jnp.array([0.2]), jnp.array([3.0]), jnp.array([9.0])
    np.testing.assert_allclose(langevin(w, g, z, 0.1, 0.0), 1.0 - 0.1 * 3.0, rtol=1e-6)
    new_w, new_v = hamiltonian(w, v, g, z, 0.1, 0.0, 0.25)
    np.testing.assert_allclose(new_v, 0.75 * 0.2 - 0.25 * 0.1 * 3.0, rtol=1e-6)
    np.testing.assert_allclose(new_w, 1.0 + new_v, rtol=1e-6)


@pytest.mark.parametrize(("num_train", "temperature"), [(100, 1.0), (200, 1.0), (100, 0.3)])
def test_pitfall_16_noise_has_temperature_one_over_n(num_train, temperature):
    rate = 0.05
    method = sgmcmc(
        _flat_model(),
        rate,
        num_train,
        num_steps=10,
        kernel="sgld",
        cycles=0,
        prior_precision=0.0,
        temperature=temperature,
        num_samples=1,
    )
    state = method.init(jax.random.key(0), BATCH.images)
    state, _ = jax.jit(method.step)(jax.random.key(1), state, BATCH)
    _check(state.params["w"], 0.0, 2 * rate * temperature / num_train)


@pytest.mark.parametrize("kernel", ["sgld", "sghmc"])
@pytest.mark.parametrize("num_train", [10, 1000])
def test_without_data_the_chain_samples_the_prior_whatever_n(kernel, num_train):
    precision, relative_rate, steps = 4.0, 0.04, 300
    method = sgmcmc(
        _flat_model(),
        relative_rate * num_train / precision,
        num_train,
        steps,
        kernel=kernel,
        cycles=0,
        prior_precision=precision,
        friction=0.3,
        num_samples=1,
    )
    state = method.init(jax.random.key(0), BATCH.images)

    def body(state, key):
        return method.step(key, state, BATCH)[0], None

    state, _ = jax.lax.scan(body, state, jax.random.split(jax.random.key(2), steps))
    found = np.asarray(state.params["w"], np.float64)
    assert abs(found.mean()) < 5 / np.sqrt(precision * CHAINS)
    # Five standard errors, and the bias of the step: half of the relative rate (SGLD).
    assert abs(found.var() * precision - 1) < 5 * np.sqrt(2 / CHAINS) + relative_rate / 2
    np.testing.assert_array_equal(method.draw(jax.random.key(0), state, 0)["w"], found)


def test_cycles_explore_without_noise_and_keep_their_share():
    timetable = plan(num_steps=100, cycles=4, burn_in=0.6, num_samples=10)
    assert timetable.keep.sum() == 10
    for cycle, share in enumerate((2, 3, 2, 3)):
        part = slice(25 * cycle, 25 * (cycle + 1))
        rate, noise, keep = (column[part] for column in timetable)
        np.testing.assert_allclose(rate, 0.5 + 0.5 * np.cos(np.pi * np.arange(25) / 25), rtol=1e-5)
        assert list(noise) == [0] * 15 + [1] * 10
        assert keep.sum() == share
        assert keep[-1]
        assert not keep[:15].any()


@pytest.mark.parametrize(("num_steps", "cycles"), [(7, 0), (103, 0), (7, 3), (103, 3), (1000, 7)])
def test_a_plan_has_every_step_and_no_more_samples_than_room(num_steps, cycles):
    timetable = plan(num_steps, cycles, burn_in=0.5, num_samples=9)
    assert {len(column) for column in timetable} == {num_steps}
    assert timetable.keep[-1]
    assert timetable.keep.sum() == 9 if num_steps > 100 else timetable.keep.sum() < 9
    if cycles == 0:
        assert not timetable.keep[: num_steps // 2].any()
        assert (timetable.rate == 1).all()
        assert (timetable.noise == 1).all()


def test_without_burn_in_every_step_can_be_kept():
    assert plan(10, 0, 0.0, 10).keep.all()
    assert plan(10, 2, 0.0, 10).keep.all()


@pytest.fixture(scope="module")
def run():
    """12 steps in two cycles with a ring of four, and every step's state."""
    options = {"prior_precision": 1.0, "num_samples": 4}
    method = sgmcmc(_flat_model(5), lambda step: 0.1 + 0.0 * step, 10, 12, cycles=2, **options)
    states, step = [method.init(jax.random.key(0), BATCH.images)], jax.jit(method.step)
    for number in range(12):
        states.append(step(jax.random.key(number), states[-1], BATCH)[0])
    return method, states


def test_the_ring_holds_the_weights_of_the_kept_steps(run):
    method, states = run
    kept = np.flatnonzero(plan(12, 2, 0.5, 4).keep) + 1
    assert list(kept) == [5, 6, 11, 12]
    for index, number in enumerate(kept):
        network = method.draw(jax.random.key(0), states[-1], index)
        np.testing.assert_array_equal(network["w"], states[number].params["w"])
    assert float(method.summary(states[-1])["samples"]) == 4


def test_before_the_first_kept_sample_the_current_weights_predict(run):
    method, states = run
    for index in range(4):
        network = method.draw(jax.random.key(0), states[3], index)
        np.testing.assert_array_equal(network["w"], states[3].params["w"])


def test_a_ring_that_is_not_full_repeats_what_it_has(run):
    method, states = run
    draw = partial(method.draw, jax.random.key(0), states[8])
    np.testing.assert_array_equal(draw(0)["w"], states[5].params["w"])
    np.testing.assert_array_equal(draw(3)["w"], states[6].params["w"])


def test_exploration_has_no_noise(run):
    _, states = run
    np.testing.assert_array_equal(states[3].params["w"], 0.0)  # began at the prior's mode
    assert np.abs(states[4].params["w"]).min() > 0


def test_the_prior_is_a_sum_over_weights():
    params = {"d": {"kernel": 2 * jnp.ones((6, 3)), "bias": jnp.ones(3)}}
    assert float(prior_energy(params, 0.5)) == pytest.approx(0.25 * (18 * 4 + 3))
    assert float(prior_energy(params, None)) == pytest.approx(0.5 * (6 / 2 * 18 * 4 + 3))


@pytest.mark.parametrize(
    "options",
    [
        {"kernel": "hmc"},
        {"cycles": -1},
        {"num_samples": 3},
        {"burn_in": 1.0},
        {"temperature": -1},
        {"friction": 0},
        {"prior_precision": "wide"},
    ],
)
def test_options_out_of_range_are_errors(options):
    ((name, value),) = options.items()
    with pytest.raises(UserError, match=rf"^sgmcmc\({name}={value}\): [^\n]+$"):
        sgmcmc(_flat_model(), 0.1, 10, 10, **options)
