"""The mushroom bandit of section 5.3: agents, and what one mushroom does to them.

A mushroom is shown at every step. Eating an edible one gives 5; a poisonous one -35 or 5, with
equal chance; leaving it 0. A 100-100 network predicts the reward of a context and an action from
the last 4,096 interactions, 64 minibatches of 64 after each. Bayes by Backprop acts by Thompson
sampling with two draws of the weights averaged; an ε-greedy agent explores a share of the time; the
uniform agent acts at random.

Regret is what the oracle gets (5 of an edible mushroom, 0 of a poisonous one) less what the agent
gets: realised, or expected over the coin of a poisonous one.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from experiments.weight_uncertainty.mushroom import Mushrooms
from research.method import Batch, Method, Model, gaussian
from research.methods.bayes_by_backprop import bayes_by_backprop
from research.methods.point import point
from research.models import chain
from research.models.layers import Dense

EDIBLE, POISONOUS = 5.0, -35.0  # rewards of eating; a poisonous one gives either
MEAN_POISONOUS = (EDIBLE + POISONOUS) / 2
UNITS, BUFFER, MINIBATCHES, MINIBATCH, DRAWS = 100, 4096, 64, 64, 2
BAYES_TITLE = "Bayes by Backprop, Thompson sampling"
NOISE = 1.0  # of a reward: the paper gives no likelihood; 5 explores for ever


class Agent(NamedTuple):
    """How an agent learns and explores."""

    title: str
    build: Callable[[jax.Array | int], Method] | None  # (interactions remembered) -> method
    exploring: float  # share of random actions


class World(NamedTuple):
    """The state of one run between two interactions."""

    state: Any  # of the method
    inputs: jax.Array  # [BUFFER, D + 2]: contexts and actions
    rewards: jax.Array  # [BUFFER]
    regret: jax.Array  # [2]: realised and expected, so far


def network() -> Model:
    """(context, action) -> expected reward."""
    layers = (
        Dense("hidden1", UNITS, "relu"),
        Dense("hidden2", UNITS, "relu"),
        Dense("reward", 1),
    )
    return chain.as_model(chain.Chain(layers))._replace(likelihood=gaussian(NOISE))


def agents() -> dict[str, Agent]:
    """The agents by name."""
    model, tx = network(), optax.adam(1e-3)

    def bayes(remembered):
        choices = {"estimator": "shared", "prior": "gaussian", "sigma_relative_to": "fan_in"}
        numbers = {"prior_sigma": 1.0, "initial_sigma": 0.05, "num_samples": DRAWS}
        return bayes_by_backprop(model, tx, remembered, MINIBATCHES, 1, **choices, **numbers)

    def plain(remembered):
        del remembered
        return point(model, tx)

    return {
        "bayes": Agent(BAYES_TITLE, bayes, 0.0),
        "greedy-0": Agent("greedy", plain, 0.0),
        "greedy-1": Agent("1 % greedy", plain, 0.01),
        "greedy-5": Agent("5 % greedy", plain, 0.05),
        "uniform": Agent("uniform", None, 1.0),
    }


def pay(key: jax.Array, eats: jax.Array, is_edible: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The reward of an action, and its regret [2], realised and expected.

    Args:
        key: of the coin of a poisonous mushroom.
        eats: bool.
        is_edible: bool.
    """
    coin = jnp.where(jax.random.bernoulli(key), POISONOUS, EDIBLE)
    reward = jnp.where(eats, jnp.where(is_edible, EDIBLE, coin), 0.0)
    mean = jnp.where(eats, jnp.where(is_edible, EDIBLE, MEAN_POISONOUS), 0.0)
    oracle = jnp.where(is_edible, EDIBLE, 0.0)
    return reward, oracle - jnp.stack([reward, mean])


def with_actions(context: jax.Array) -> jax.Array:
    """A context [D] with each action: [2, D + 2]; first leaving it, then eating it."""
    return jnp.concatenate([jnp.broadcast_to(context, (2, context.size)), jnp.eye(2)], axis=1)


def interact(agent: Agent, key: jax.Array, world: World, number: jax.Array, data: Mushrooms):
    """One interaction: a mushroom is shown, the agent acts, remembers and learns.

    Args:
        agent: who acts.
        key: decides everything random in this interaction.
        world: the state before it.
        number: of the interaction, from 0.
        data: contexts [N, D], is_edible [N].

    Returns:
        The state after it, and the regret so far [2].
    """
    shown, draws, coin, explore, learn = jax.random.split(key, 5)
    row = jax.random.randint(shown, (), 0, len(data.is_edible))
    choices = with_actions(data.contexts[row])
    at_random = jax.random.bernoulli(explore, agent.exploring)
    eats = jax.random.bernoulli(jax.random.fold_in(explore, 1))
    remembered = jnp.minimum(number + 1, BUFFER)
    if agent.build is not None:
        method = agent.build(remembered)

        def value(index):
            return method.apply(method.draw(draws, world.state, index), choices)[:, 0]  # [2]

        values = jnp.mean(jax.vmap(value)(jnp.arange(method.num_draws)), axis=0)
        eats = jnp.where(at_random, eats, values[1] > values[0])
    reward, regret = pay(coin, eats, data.is_edible[row])
    place = number % BUFFER
    inputs = world.inputs.at[place].set(choices[eats.astype(int)])
    rewards = world.rewards.at[place].set(reward)
    state = world.state
    if agent.build is not None:
        order_key, step_key = jax.random.split(learn)
        shape = MINIBATCHES, MINIBATCH
        order = jax.random.randint(order_key, shape, 0, remembered)

        def step(state, chosen):
            count, indices = chosen
            batch = Batch(inputs[indices], rewards[indices])
            return method.step(jax.random.fold_in(step_key, count), state, batch)[0], None

        state, _ = jax.lax.scan(step, state, (jnp.arange(MINIBATCHES), order))
    world = World(state, inputs, rewards, world.regret + regret)
    return world, world.regret


def begin(agent: Agent, key: jax.Array, num_inputs: int) -> World:
    """The state before the first interaction; the memory is empty."""
    inputs = jnp.zeros((BUFFER, num_inputs))
    state = agent.build(BUFFER).init(key, inputs[:1]) if agent.build else ()
    return World(state, inputs, jnp.zeros(BUFFER), jnp.zeros(2))
