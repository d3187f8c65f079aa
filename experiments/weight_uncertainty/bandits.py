"""Which agent learns with the least regret what to eat? Figure 6: the mushroom bandit.

    launch/run.sh experiments.weight_uncertainty.bandits --mushrooms mushroom.csv
    launch/run.sh experiments.weight_uncertainty.bandits --mushrooms mushroom.csv --preset paper

Bayes by Backprop with Thompson sampling, ε-greedy agents of 0, 1 and 5 %, and an agent that acts at
random (`agents.py`). All runs of an agent are one compiled scan over interactions, the buffer on
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
from experiments.weight_uncertainty import mushroom, records
from experiments.weight_uncertainty.agents import Agent, World, agents, begin, interact
from experiments.weight_uncertainty.figures import draw_regret
from experiments.weight_uncertainty.mushroom import Mushrooms
from experiments.weight_uncertainty.records import Target
from research.metrics.intervals import student_interval
from research.runtime import checkpoint
from research.runtime.errors import Interrupted, UserError
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
    """The state of all runs of an agent."""

    worlds: World  # leaves [runs, ...]
    regret: jax.Array  # [steps / CHUNK, runs, 2]: realised and expected, so far


def player(
    agent: Agent, data: Mushrooms, keys: jax.Array, steps: int
) -> tuple[Game, Callable[[Game, int], Game]]:
    """An agent's runs before the first interaction, and the function that plays `CHUNK` more.

    Args:
        agent: who plays.
        data: the mushrooms, on the device.
        keys: one for each run, [runs].
        steps: number of interactions.
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
    """Plays all runs of all agents side by side; goes on from the newest checkpoint.

    Each agent has a thread, because none of them alone fills a second processor core.

    Args:
        playing: agents by name.
        data: the mushrooms.
        steps: number of interactions, a multiple of `CHUNK`.
        runs: number of runs of each agent, all at once.
        directory: for the checkpoints.

    Returns:
        The regret so far by agent, [steps / CHUNK, runs, 2], realised and expected; and the seconds
        of this process.

    Raises:
        Interrupted: a signal asked for it; everything is saved, and the same call goes on there.
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
            games = {name: future.result() for name, future in waiting.items()}
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
                    regrets = "  ".join(f"{name} {regret:.0f}" for name, regret in last.items())
                    print(f"step {done}/{steps}  regret: {regrets}", file=sys.stderr)
            if signals and done < steps:
                bar.close()
                raise Interrupted(signals[0], f"saved at step {done}: the same command goes on")
        bar.close()
    return {n: np.asarray(game.regret) for n, game in games.items()}, time.monotonic() - begun


def rows(agent: Agent, regret: np.ndarray, paper: float | None) -> list[dict]:
    """Rows of result.json: the last regret, as a mean over runs with its 95 % interval."""
    lines = []
    for index, kind in enumerate(("realised", "expected")):
        last = regret[-1, :, index]
        mean, low, high, _ = student_interval(last)
        column = f"{kind} regret after {CHUNK * len(regret):,} steps"
        target = Target(paper, 0.0) if paper is not None and kind == "realised" else None
        lines.append(records.row("figure 6", agent.title, column, mean, low, high, target))
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
        raise UserError("steps", f"give a multiple of {CHUNK}", value=steps)
    if runs < 1:
        raise UserError("runs", "give a whole number, 1 or more", value=runs)
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
            records.write(directory, f"bandits-{name}", found, arrays)
        drawn = records.read(directory, "bandits-")
        draw_regret(directory / "figure6.png", drawn)
    lines = [line for record in drawn for line in record.found["rows"]]
    print(records.comparison(lines))
    print(f"\nWritten to {config.out}. Next: launch/run.sh experiments.weight_uncertainty.report")


if __name__ == "__main__":
    cli.run(main, Config)
