"""Which agent learns what to eat with the least regret? Figure 6: the mushroom bandit.

    launch/run.sh experiments.weight_uncertainty.bandits --mushrooms mushroom.csv
    launch/run.sh experiments.weight_uncertainty.bandits --mushrooms mushroom.csv --preset paper

Bayes by Backprop with Thompson sampling, ε-greedy agents of 0, 1 and 5 %, and an agent that knows
nothing (`agents.py`). All runs of an agent are one compiled scan over interactions, the buffer on
the device; the agents play side by side. The paper's Bayes by Backprop (50,000 steps) ends lowest
and nearly flat, under 10,000; expect the lowest here too, at 15,815 with 2 runs, still rising.
Quick (5,000 steps, 2 runs): eight minutes on 2 CPU cores.
"""

import contextlib
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from experiments import cli
from experiments.weight_uncertainty import mushroom
from experiments.weight_uncertainty import records as parts
from experiments.weight_uncertainty.agents import Agent, World, agents, begin, interact
from experiments.weight_uncertainty.figures import draw_regret
from experiments.weight_uncertainty.mushroom import Mushrooms
from research.metrics.intervals import student_interval
from research.runtime import checkpoint
from research.runtime.errors import UserError
from research.runtime.run_folder import open_run
from research.runtime.signals import stop_signals

CHUNK = 100  # interactions a dispatch
PAPER = 10_000.0  # Figure 6's axis ends there, and its curve below
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


class Game(NamedTuple):
    """An agent's runs as they stand."""

    worlds: World  # leaves [runs, ...]
    regret: jax.Array  # [steps / CHUNK, runs, 2] so far, realised and expected


def player(
    agent: Agent, data: Mushrooms, keys: jax.Array, steps: int
) -> tuple[Game, Callable[[Game, int], Game]]:
    """An agent's runs before the first interaction, and what `CHUNK` more make of them.

    Args:
        agent: who.
        data: the mushrooms, on the device.
        keys: one a run [runs].
        steps: interactions.
    """
    num_inputs = data.contexts.shape[1] + 2

    @jax.jit
    def start(keys):
        return jax.vmap(lambda key: begin(agent, jax.random.fold_in(key, 0), num_inputs))(keys)

    @partial(jax.jit, donate_argnums=0)
    def go_on(game, first, keys, data):
        def one_run(world, key):
            noise = jax.random.fold_in(key, 1)

            def body(world, number):
                return interact(agent, jax.random.fold_in(noise, number), world, number, data)

            world, regret = jax.lax.scan(body, world, first + jnp.arange(CHUNK))
            return world, regret[-1]

        worlds, so_far = jax.vmap(one_run)(game.worlds, keys)
        return Game(worlds, game.regret.at[first // CHUNK].set(so_far))

    def advance(game, done):
        return jax.block_until_ready(go_on(game, jnp.int32(done), keys, data))

    return Game(start(keys), jnp.zeros((steps // CHUNK, len(keys), 2))), advance


def play(
    playing: dict[str, Agent], data: Mushrooms, steps: int, runs: int, directory: Path
) -> tuple[dict[str, np.ndarray], float]:
    """All runs of all agents, side by side; goes on from the newest checkpoint.

    Each agent has a thread: alone none of them fills a second processor core.

    Args:
        playing: agents by name.
        data: the mushrooms.
        steps: interactions, a multiple of `CHUNK`.
        runs: how many of each agent, at once.
        directory: for the checkpoints.

    Returns:
        By agent the regret so far [steps / CHUNK, runs, 2], realised and expected; seconds of this
        process.

    Raises:
        SystemExit: 128 + the signal's number, after saving, when told to stop.
    """
    keys = jax.vmap(jax.random.key)(jnp.arange(runs))
    players = {n: player(agent, jax.device_put(data), keys, steps) for n, agent in playing.items()}
    games, done = {name: game for name, (game, _) in players.items()}, 0
    begun = saved = time.monotonic()
    with (
        contextlib.closing(checkpoint.open_checkpoints(directory / "checkpoints")) as checkpoints,
        ThreadPoolExecutor(len(players)) as pool,
        stop_signals() as signals,
    ):
        if (restored := checkpoint.restore(checkpoints, games)) is not None:
            done, games = restored
        bar = tqdm(total=steps, initial=done, desc="mushrooms", unit="step", disable=None)
        while done < steps:
            waiting = {n: pool.submit(players[n][1], games[n], done) for n in players}
            games = {name: each.result() for name, each in waiting.items()}
            done += CHUNK
            bar.update(CHUNK)
            now = time.monotonic()
            if signals or done == steps or now - saved > 60:
                checkpoint.save(checkpoints, done, games)
                saved = now
                if not sys.stderr.isatty():
                    last = {
                        n: float(g.regret[done // CHUNK - 1, :, 0].mean()) for n, g in games.items()
                    }
                    told = "  ".join(f"{name} {regret:.0f}" for name, regret in last.items())
                    print(f"step {done}/{steps}  regret: {told}", file=sys.stderr)
            if signals and done < steps:
                print(f"\nsaved at step {done}: the same command goes on", file=sys.stderr)
                sys.exit(128 + signals[0])
        bar.close()
    return {n: np.asarray(game.regret) for n, game in games.items()}, time.monotonic() - begun


def rows(agent: Agent, regret: np.ndarray, paper: float | None) -> list[dict]:
    """Lines of `result.json`: the last regret, mean over runs and its 95 % interval."""
    lines = []
    for index, kind in enumerate(("realised", "expected")):
        last = regret[-1, :, index]
        mean, low, high, _ = student_interval(last)
        column = f"{kind} regret after {CHUNK * len(regret):,} steps"
        target = paper if kind == "realised" else None
        lines.append(parts.row("figure 6", agent.title, column, mean, low, high, target, 0.0))
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
        playing = agents()
        regrets, seconds = play(playing, data, steps, runs, directory / "training")
        for name, regret in regrets.items():
            agent = playing[name]
            paper = PAPER if name == "bayes" and steps == PRESETS["paper"][0] else None
            found = {"rows": rows(agent, regret, paper), "title": agent.title, "seconds": seconds}
            arrays = {"steps": CHUNK * np.arange(1, len(regret) + 1), "regret": regret}
            parts.write(directory, f"bandits-{name}", found, arrays)
        drawn = parts.read(directory, "bandits-")
        draw_regret(directory / "figure6.png", drawn)
    lines = [line for each in drawn for line in each.found["rows"]]
    print(parts.comparison(lines))
    print(f"\nWritten to {config.out}. Next: launch/run.sh experiments.weight_uncertainty.report")


if __name__ == "__main__":
    cli.run(main, Config)
