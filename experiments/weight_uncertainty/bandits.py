"""Which agent learns what to eat with the least regret? Figure 6: the mushroom bandit.

    launch/run.sh experiments.weight_uncertainty.bandits --mushrooms mushroom.csv
    launch/run.sh experiments.weight_uncertainty.bandits --mushrooms mushroom.csv --preset paper

A mushroom is shown at every step. Eating an edible one gives 5; a poisonous one -35 or 5, with
equal chance; leaving it 0 (section 5.3). A 100-100 network predicts the reward of a context and an
action from the last 4,096 interactions, 64 minibatches of 64 after each. Bayes by Backprop acts by
Thompson sampling with two draws of the weights averaged; the ε-greedy agents explore 0, 1 or 5 % of
the time; the uniform agent knows nothing. Regret is what the oracle gets (5 of an edible mushroom,
0 of a poisonous one) less what the agent gets: realised, or expected over the coin of a poisonous
one.

All runs of an agent are one compiled scan over interactions, the buffer on the device. Expected at
--preset paper (50,000 steps, 5 runs): Bayes by Backprop lowest and nearly flat, under 10,000.
Quick (5,000 steps, 2 runs): about ten minutes on 2 CPU cores.
"""

import contextlib
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm import tqdm

from experiments import cli
from experiments.weight_uncertainty import mushroom, parts
from experiments.weight_uncertainty.figures import draw_regret
from experiments.weight_uncertainty.mushroom import Mushrooms
from research import checkpoint
from research.errors import UserError
from research.interrupt import stop_signals
from research.likelihood import gaussian
from research.method import Batch, Method, Model
from research.methods.bayes_by_backprop import bayes_by_backprop
from research.methods.point import point
from research.metrics.intervals import Z
from research.models import chain
from research.run_folder import open_run

EDIBLE, POISONOUS = 5.0, -35.0  # rewards of eating; a poisonous one gives either
MEAN_POISONOUS = (EDIBLE + POISONOUS) / 2
UNITS, BUFFER, MINIBATCHES, MINIBATCH, DRAWS = 100, 4096, 64, 64, 2
NOISE = 1.0  # of a reward: the paper gives no likelihood; 5 explores for ever
CHUNK = 100  # interactions a dispatch
PAPER = 10_000.0  # Figure 6's axis ends there, and its curve below
BAYES_TITLE = "Bayes by Backprop, Thompson sampling"
PRESETS = {"quick": (5_000, 2), "paper": (50_000, 5)}  # interactions, runs


@dataclass(frozen=True)
class Config:
    """Reproduces Figure 6."""

    mushrooms: Path = Path("mushroom.csv")
    """the UCI mushroom data as CSV: `class` (edible or poisonous) and 22 attributes"""
    preset: Literal["quick", "paper"] = "quick"
    """quick: 5,000 interactions, 2 runs; paper: 50,000 and 5"""
    steps: int | None = None
    """interactions; default: the preset's"""
    runs: int | None = None
    """of each agent; default: the preset's"""
    out: Path = Path("runs/weight_uncertainty-bandits")
    """folder of the run"""


class Agent(NamedTuple):
    """How an agent learns and explores."""

    title: str
    build: Callable[[jax.Array], Method] | None  # (interactions remembered) -> method; None: none
    exploring: float  # share of random actions


class World(NamedTuple):
    """Everything that goes on from one interaction to the next; of each run."""

    state: Any  # of the method
    inputs: jax.Array  # [BUFFER, D + 2]: contexts and actions
    rewards: jax.Array  # [BUFFER]
    regret: jax.Array  # [2]: realised and expected, so far


def network(num_inputs: int) -> Model:
    """(context, action) -> expected reward."""
    del num_inputs  # known from the first batch
    layers = (
        chain.Dense("hidden1", UNITS, "relu"),
        chain.Dense("hidden2", UNITS, "relu"),
        chain.Dense("reward", 1),
    )
    return chain.as_model(chain.Chain(layers))._replace(likelihood=gaussian(NOISE))


def agents(num_inputs: int) -> dict[str, Agent]:
    """By name."""
    model, tx = network(num_inputs), optax.adam(1e-3)

    def bayes(remembered):
        words = {"estimator": "shared", "prior": "gaussian", "sigma_relative_to": "fan_in"}
        numbers = {"prior_sigma": 1.0, "initial_sigma": 0.05, "num_samples": DRAWS}
        return bayes_by_backprop(model, tx, remembered, MINIBATCHES, 1, **words, **numbers)

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
    """One mushroom: look, act, remember, learn.

    Args:
        agent: who.
        key: of this interaction.
        world: before it.
        number: of the interaction, from 0.
        data: contexts [N, D], is_edible [N].

    Returns:
        The world after it, and the regret so far [2].
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
    """The world before the first interaction; memory is empty."""
    inputs = jnp.zeros((BUFFER, num_inputs))
    state = agent.build(BUFFER).init(key, inputs[:1]) if agent.build else ()
    return World(state, inputs, jnp.zeros(BUFFER), jnp.zeros(2))


def play(
    agent: Agent, data: Mushrooms, steps: int, runs: int, directory: Path
) -> tuple[np.ndarray, float]:
    """All runs of an agent; goes on from the newest checkpoint in `directory`.

    Args:
        agent: who.
        data: the mushrooms.
        steps: interactions, a multiple of `CHUNK`.
        runs: how many, at once.
        directory: for the checkpoints.

    Returns:
        Regret so far [steps / CHUNK, runs, 2], realised and expected; seconds of this process.

    Raises:
        SystemExit: 128 + the signal's number, after saving, when told to stop.
    """
    keys = jax.vmap(jax.random.key)(jnp.arange(runs))
    on_device = jax.device_put(data)
    num_inputs = data.contexts.shape[1] + 2

    @jax.jit
    def start(keys):
        return jax.vmap(lambda key: begin(agent, jax.random.fold_in(key, 0), num_inputs))(keys)

    @partial(jax.jit, donate_argnums=0)
    def chunk(worlds, first, keys, data):
        def one_run(world, key):
            noise = jax.random.fold_in(key, 1)

            def body(world, number):
                return interact(agent, jax.random.fold_in(noise, number), world, number, data)

            world, regret = jax.lax.scan(body, world, first + jnp.arange(CHUNK))
            return world, regret[-1]

        return jax.vmap(one_run)(worlds, keys)

    worlds, done = start(keys), 0
    regret = jnp.zeros((steps // CHUNK, runs, 2))
    begun = saved = time.monotonic()
    with (
        contextlib.closing(checkpoint.open_checkpoints(directory / "checkpoints")) as checkpoints,
        stop_signals() as signals,
    ):
        if (restored := checkpoint.restore(checkpoints, (worlds, regret))) is not None:
            done, (worlds, regret) = restored
        bar = tqdm(total=steps, initial=done, desc=agent.title, unit="step", disable=None)
        while done < steps:
            worlds, so_far = chunk(worlds, jnp.int32(done), keys, on_device)
            regret = regret.at[done // CHUNK].set(so_far)
            jax.block_until_ready(regret)
            done += CHUNK
            bar.update(CHUNK)
            now = time.monotonic()
            if signals or done == steps or now - saved > 60:
                checkpoint.save(checkpoints, done, (worlds, regret))
                saved = now
                if not sys.stderr.isatty():
                    mean = float(np.mean(so_far[:, 0]))
                    print(f"{agent.title}: step {done}/{steps}  regret {mean:.0f}", file=sys.stderr)
            if signals and done < steps:
                print(f"\nsaved at step {done}: the same command goes on", file=sys.stderr)
                sys.exit(128 + signals[0])
        bar.close()
    return np.asarray(regret), time.monotonic() - begun


def rows(agent: Agent, regret: np.ndarray, paper: float | None) -> list[dict]:
    """Lines of `result.json`: the last regret, mean over runs and its 95 % interval."""
    lines = []
    for index, kind in enumerate(("realised", "expected")):
        last = regret[-1, :, index]
        half = Z * np.std(last, ddof=1) / len(last) ** 0.5 if len(last) > 1 else None
        bounds = (None, None) if half is None else (last.mean() - half, last.mean() + half)
        column = f"{kind} regret after {CHUNK * len(regret):,} steps"
        low, high = (None if bound is None else float(bound) for bound in bounds)
        told = paper if kind == "realised" else None
        lines.append(
            parts.row("figure 6", agent.title, column, float(last.mean()), low, high, told, 0.0)
        )
    return lines


def main(config: Config) -> None:
    """Plays every agent, draws and writes.

    Raises:
        UserError: bad input.
    """
    steps, runs = PRESETS[config.preset]
    steps = steps if config.steps is None else config.steps
    runs = runs if config.runs is None else config.runs
    if steps < CHUNK or steps % CHUNK:
        raise UserError(f"--steps {steps}: give a multiple of {CHUNK}")
    if runs < 1:
        raise UserError(f"--runs {runs}: give a whole number, 1 or more")
    data = mushroom.load(config.mushrooms)
    options = {"preset": config.preset, "steps": steps, "runs": runs}
    with open_run(config.out, options) as directory:
        for name, agent in agents(data.contexts.shape[1] + 2).items():
            regret, seconds = play(agent, data, steps, runs, directory / "training" / name)
            paper = PAPER if name == "bayes" and steps == PRESETS["paper"][0] else None
            found = {"rows": rows(agent, regret, paper), "title": agent.title, "seconds": seconds}
            arrays = {"steps": CHUNK * np.arange(1, len(regret) + 1), "regret": regret}
            parts.write(directory, f"bandits-{name}", found, arrays)
        drawn = parts.read(directory, "bandits-")
        draw_regret(directory / "figure6.png", drawn)
    lines = [line for each in drawn for line in each.found["rows"]]
    print(parts.markdown(lines))
    print(f"\nWritten to {config.out}. Next: launch/run.sh experiments.weight_uncertainty.report")


if __name__ == "__main__":
    cli.run(main, Config)
