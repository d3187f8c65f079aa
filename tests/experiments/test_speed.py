"""The arithmetic of `experiments.speed`, by a clock that only the measured work moves."""

import jax
import pytest
from tqdm import tqdm

from experiments import cli, speed
from experiments.speed import Comparison, Config, compare, of_rows


@pytest.fixture
def clock(monkeypatch):
    """run(seconds...): something that takes so long, another time in each round."""
    now = [0.0]
    monkeypatch.setattr(speed.time, "perf_counter", lambda: now[0])

    def run(*seconds):
        rounds = iter(seconds)

        def work():
            now[0] += next(rounds)

        return work

    return run


def test_ratios_are_medians_over_rounds_and_the_first_round_does_not_count(clock):
    rows = compare(
        {"plain": clock(9.0, 1.0, 2.0, 1.0)},
        [
            Comparison("twice", clock(99.0, 2.0, 4.0, 5.0), "plain", 2.5),
            Comparison("three members", clock(0.0, 3.0, 3.0, 6.0), "plain", 0.9, times=3),
            Comparison("no target", clock(0.0, 1.0, 1.0, 1.0), "plain", None),
        ],
        repeats=3,
        bar=tqdm(disable=True),
    )
    assert [row.ratio for row in rows] == [2.0, 1.0, 1.0]
    assert [row.met for row in rows] == [True, False, None]
    assert rows[0].seconds == 4.0
    text = of_rows([row._asdict() for row in rows])
    assert "| three members | plain | 3000.0 ms | 1.00 | at most 0.9 (missed) |" in text
    assert "| no target | plain | 1000.0 ms | 1.00 |  |" in text


@pytest.mark.slow
def test_every_step_that_is_measured_runs(monkeypatch):
    monkeypatch.setitem(speed.SPLITS, "MLP", 16)
    config = Config(units=8, batch_size=8, draws=2, members=2, repeats=1)
    images = jax.random.uniform(jax.random.key(0), (8, 784))
    bar = tqdm(disable=True)
    rows = speed.training_rows(config, "MLP", speed.mlp(8), images, bar)
    rows += speed.prediction_rows(config, "MLP", speed.mlp(8), images, bar)
    assert [row.name for row in rows] == [
        *("MLP: shared", "MLP: local", "MLP: flipout"),
        *("MLP: ensemble of 2, a member", "MLP: 2 draws over 16 images, a draw"),
    ]
    assert all(row.ratio > 0 for row in rows)


def test_bad_numbers_are_one_line(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["speed", "--repeats", "0"])
    with pytest.raises(SystemExit) as stopped:
        cli.run(speed.main, Config)
    assert stopped.value.code == 2
    assert capsys.readouterr().err == "error: --repeats 0: give a number above 0\n"
