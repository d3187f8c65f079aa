"""The mushroom bandit: its data, its rewards, and the command in small."""

import csv

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import cli
from experiments.weight_uncertainty import agents, bandits, mushroom, records
from research.runtime.errors import UserError


@pytest.fixture
def mushrooms(tmp_path, shared_data):
    """400 rows of the real file."""
    lines = (shared_data / "mushroom.csv").read_text().splitlines(keepends=True)
    path = tmp_path / "mushroom.csv"
    path.write_text("".join(lines[:401]))
    return path


def test_the_mushrooms_are_those_of_the_paper(shared_data):
    """8,124 rows, 117 values of 22 attributes (tensorflow/models), 4,208 of them edible."""
    data = mushroom.load(shared_data / "mushroom.csv")
    assert data.contexts.shape == (8124, 117)
    assert data.is_edible.sum() == 4208
    np.testing.assert_array_equal(data.contexts.sum(axis=1), 22)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: [row[:-1] for row in rows], "21 columns"),
        (lambda rows: [["kind", *rows[0][1:]], *rows[1:]], "its columns are kind"),
        (lambda rows: [rows[0], ["tasty", *rows[1][1:]]], "class 'tasty' is neither"),
        (lambda rows: [rows[0], rows[1][:-1]], "line 2 has 22 values"),
        (lambda rows: rows[:1], "no rows"),
    ],
)
def test_other_files_are_named(mushrooms, change, message):
    rows = list(csv.reader(mushrooms.read_text().splitlines()))
    order = [rows[0].index("class"), *(i for i, n in enumerate(rows[0]) if n != "class")]
    with mushrooms.open("w", newline="") as file:
        csv.writer(file).writerows(change([[row[i] for i in order] for row in rows]))
    with pytest.raises(UserError, match=message):
        mushroom.load(mushrooms)


def test_a_missing_mushroom_file_is_one_line(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("sys.argv", ["bandits", "--mushrooms", str(tmp_path / "none.csv")])
    with pytest.raises(SystemExit) as stopped:
        cli.run(bandits.main, bandits.Config)
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "UCI mushroom file" in error


def test_rewards_are_those_of_the_paper():
    """Eating: edible 5, poisonous -35 or 5 by a fair coin (mean -15); leaving it: 0."""
    keys = jax.random.split(jax.random.key(0), 2000)
    pay = jax.jit(jax.vmap(agents.pay, in_axes=(0, None, None)))
    reward, regret = pay(keys, jnp.bool_(True), jnp.bool_(False))
    assert set(np.unique(reward)) == {-35.0, 5.0}
    assert abs(np.mean(np.asarray(reward) == 5.0) - 0.5) < 5 * 0.5 / 2000**0.5
    np.testing.assert_array_equal(regret[:, 0], -np.asarray(reward))  # the oracle gets 0
    np.testing.assert_array_equal(regret[:, 1], 15.0)
    for eats, is_edible, wanted in ((True, True, 0.0), (False, True, 5.0), (False, False, 0.0)):
        _, regret = pay(keys[:1], jnp.bool_(eats), jnp.bool_(is_edible))
        np.testing.assert_array_equal(regret, [[wanted, wanted]])


@pytest.mark.slow
def test_bandits_run_resume_and_draw(mushrooms, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bandits, "CHUNK", 4)
    monkeypatch.setattr(agents, "MINIBATCHES", 2)
    both = agents.agents()
    monkeypatch.setattr(
        bandits, "agents", lambda: {name: both[name] for name in ("bayes", "uniform")}
    )
    out = tmp_path / "bandits"
    config = bandits.Config(mushrooms=mushrooms, steps=8, runs=2, out=out)
    bandits.main(config)
    first = records.read(out, "bandits-")
    assert len(first) == 2
    assert (out / "figure6.png").exists()
    bandits.main(config)  # from the finished checkpoints
    for a, b in zip(first, records.read(out, "bandits-"), strict=True):
        np.testing.assert_array_equal(a.arrays["regret"], b.arrays["regret"])
    for record in first:
        assert np.all(np.diff(record.arrays["regret"][..., 1], axis=0) >= 0)  # never negative
    assert "Thompson sampling" in capsys.readouterr().out
    with pytest.raises(UserError, match="different configuration"):
        bandits.main(bandits.Config(mushrooms=mushrooms, steps=12, runs=2, out=out))
