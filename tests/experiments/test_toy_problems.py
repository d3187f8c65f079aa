"""`experiments.toy_problems`: the data, the remedies, the table, and every command in small."""

import importlib
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import cli
from experiments.toy_problems import (
    capacity,
    data_bias,
    irrelevant_features,
    learning_rate,
    overfitting,
    remedies,
    setups,
    study,
    table,
    training,
)
from experiments.toy_problems.training import Network, Training
from research.diagnosis.diagnose import Found
from research.diagnosis.verdict import PRESENT, Verdict
from research.method import Batch
from research.training import recipe as recipes

EXAMPLES = ("data_bias", "overfitting", "irrelevant_features", "learning_rate", "capacity")


def draws(module, seed=0):
    return {case.name: case.draw(np.random.default_rng(seed)) for case in module.CASES}


def run(monkeypatch, example, *arguments):
    module = importlib.import_module(f"experiments.toy_problems.{example}")
    monkeypatch.setattr(sys, "argv", [example, *map(str, arguments)])
    cli.run(module.main, study.Config)


# --- the data -----------------------------------------------------------------------------------


def test_boxes_of_the_text():
    sets = draws(data_bias)[data_bias.APART]
    x, labels = sets["train"]
    assert x.shape == (1100, 10)
    assert np.bincount(labels).tolist() == [1000, 100]
    assert 0 <= x[labels == 0].min() < 0.01
    assert 0.99 < x[labels == 0].max() <= 1
    assert 0.5 <= x[labels == 1].min() < 0.51
    assert 1.49 < x[labels == 1].max() <= 1.5
    shifted = sets[data_bias.SHIFTED]
    assert 0.7 <= shifted.images.min() < 0.71
    assert 1.69 < shifted.images.max() <= 1.7
    assert np.all(shifted.labels == 1)


def test_the_truth_of_boxes_is_bayes_rule():
    (_, case) = data_bias.CASES
    x = np.full((4, 10), 0.5, np.float32)
    x[1, 0], x[2, 0], x[3, :2] = 0.1, 1.1, 0.9
    np.testing.assert_allclose(case.truth(data_bias.SAME, x), [1 / 11, 0, 1, 1 / 11])
    np.testing.assert_allclose(case.truth(data_bias.EVEN, x), [0.5, 0, 1, 0.5])


@pytest.mark.parametrize("module", [overfitting, irrelevant_features])
def test_random_labels_have_nothing_to_do_with_the_columns(module):
    sets = next(iter(draws(module).values()))
    x, labels = sets["new rows"]
    assert len(labels) == 1000
    means = np.array([x[labels == c].mean(axis=0) for c in (0, 1)])
    assert np.abs(means[0] - means[1]).max() < 5 * (1 / 12 * 4 / 1000) ** 0.5


def test_overfitting_has_the_sizes_of_the_text():
    x, _ = draws(overfitting)["random labels"]["train"]
    assert x.shape == (100, 10)
    (case,) = overfitting.CASES
    assert case.network.units == (128, 64)
    assert case.training.epochs == 500


def test_irrelevant_columns_are_noise_and_zeros():
    sets = draws(irrelevant_features)
    x = sets[irrelevant_features.NONE]["train"].images
    assert (x.std(axis=0) > 0).tolist() == [True] * 5 + [False] * 5
    x = sets[irrelevant_features.TWO]["train"].images
    assert (x.std(axis=0) > 0).tolist() == [True] * 7 + [False] * 3


@pytest.mark.parametrize("module", [learning_rate, capacity, irrelevant_features])
def test_labels_follow_the_truth(module):
    case = module.CASES[-1]
    x, labels = case.draw(np.random.default_rng(0))["new rows"]
    p = case.truth("new rows", x)
    for bin_ in (p < 0.2, (p >= 0.2) & (p < 0.8), p >= 0.8):
        spread = (p[bin_] * (1 - p[bin_])).sum() ** 0.5 / bin_.sum()
        assert abs(labels[bin_].mean() - p[bin_].mean()) < 4 * spread


def test_the_board_can_be_known_so_far():
    side = (np.arange(400) + 0.5) / 400
    x = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    p = setups.truth("", x)
    assert np.maximum(p, 1 - p).mean() == pytest.approx(0.859, abs=0.001)


# --- remedies -----------------------------------------------------------------------------------


def test_balancing_repeats_the_rarer_class():
    x = np.arange(12, dtype=np.float32)[:, None]
    sets = {"train": Batch(x, np.array([0] * 9 + [1] * 3, np.int32)), "valid": None}
    after, labels = remedies.balance(sets, np.random.default_rng(0))["train"]
    assert np.bincount(labels).tolist() == [9, 9]
    assert sorted(after[labels == 1, 0]) == [9, 9, 9, 10, 10, 10, 11, 11, 11]
    assert sorted(after[labels == 0, 0]) == list(range(9))


def test_jittered_copies_keep_their_labels():
    sets = draws(overfitting)["random labels"]
    x, labels = sets["train"]
    after, copied = remedies.jitter(sets, np.random.default_rng(0))["train"]
    assert after.shape == (remedies.COPIES * 100, 10)
    np.testing.assert_array_equal(copied.reshape(-1, 100), np.tile(labels, (remedies.COPIES, 1)))
    moved = (after.reshape(-1, 100, 10) - x)[1:]
    np.testing.assert_array_equal(after[:100], x)
    assert moved.std() == pytest.approx(remedies.JITTER, rel=0.1)


def test_selection_keeps_informative_columns():
    generator = np.random.default_rng(0)
    rows = irrelevant_features.rows(generator, 800, True)
    assert np.flatnonzero(remedies.informative(*rows, seed=0)).tolist() == [5, 6]
    sets = {"train": rows, "new": Batch(np.ones((3, 10)), np.zeros(3))}
    after = remedies.select(sets, np.random.default_rng(0))["new"].images
    np.testing.assert_array_equal(after, np.tile([0] * 5 + [1] * 2 + [0] * 3, (3, 1)))
    nothing = irrelevant_features.rows(generator, 800, False)
    assert not remedies.informative(*nothing, seed=0).any()


# --- training -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def board():
    drawn = [setups.board(np.random.default_rng(seed), 64) for seed in range(2)]
    rows = jax.tree.map(lambda *leaves: jnp.stack(leaves), *drawn)
    return {"train": rows, "valid": rows}


@pytest.fixture(scope="module")
def keys():
    return jax.vmap(jax.random.key)(jnp.arange(2))


def fit(text, board, keys, **options):
    (recipe,) = recipes.parse(text)
    how = Training(epochs=60, learning_rate=0.03, **options)
    return training.fit(recipe, Network((8,)), how, board, keys)


def test_training_learns_and_keeps_the_state_asked_for(board, keys):
    last, best = (fit("point", board, keys, keep=keep) for keep in ("last", "best"))
    assert np.all(last.history["loss"][:, -1] < last.history["loss"][:, 0] - 0.1)
    for fitted, at in ((last, [-1, -1]), (best, last.history["valid_nll"].argmin(axis=1))):
        log_probs = training.predictives(fitted, keys, board["valid"].images)[:, 0]
        nll = -np.take_along_axis(log_probs, np.asarray(board["valid"].labels)[..., None], -1)
        expected = last.history["valid_nll"][[0, 1], at]
        np.testing.assert_allclose(nll.mean(axis=(1, 2)), expected, rtol=1e-5)


def test_l2_keeps_kernels_small(board, keys):
    def size(fitted):
        leaves = jax.tree.leaves(fitted.states.params)
        return sum(float(jnp.sum(leaf**2)) for leaf in leaves if leaf.ndim > 2)

    assert size(fit("point", board, keys, l2=0.1)) < 0.5 * size(fit("point", board, keys))


@pytest.mark.parametrize(
    ("recipe", "draws"), [("temperature(point)", 1), ("laplace", 30), ("ensemble(point)", 5)]
)
def test_posteriors_are_fitted_and_finished(board, keys, recipe, draws):
    fitted = fit(recipe, board, keys)
    log_probs = training.predictives(fitted, keys, board["valid"].images)
    assert log_probs.shape == (2, draws, 64, 2)
    np.testing.assert_allclose(np.exp(log_probs).sum(axis=-1), 1, atol=1e-5)
    if recipe == "temperature(point)":
        plain = training.predictives(fit("point", board, keys), keys, board["valid"].images)
        scale = np.diff(log_probs, axis=-1) / np.diff(plain, axis=-1)  # [2, 1, 64, 1], 1 / T
        np.testing.assert_allclose(scale, np.broadcast_to(scale[:, :, :1], scale.shape), rtol=1e-3)
        assert np.all(np.abs(scale - 1) > 0.01)
    if recipe == "laplace":
        assert np.all(np.isfinite(fitted.states.tau))


# --- the table ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ([-0.5, -0.6, -0.4], "yes"),
        ([0.5, 0.6, 0.4], "no"),
        ([-0.001, 0.001, 0.0], "no"),
        ([-0.5, 0.5, 0.1], "not told"),
        ([-0.5], "not told"),
    ],
)
def test_helps_follows_from_the_interval(values, verdict):
    assert table.helps(table.estimate(np.array(values))) == verdict


@pytest.fixture
def small(monkeypatch):
    """Four units, six epochs and the first remedy only."""

    def shorten(example):
        module = importlib.import_module(f"experiments.toy_problems.{example}")
        cases = [
            case._replace(
                network=Network((4,)),
                training=case.training._replace(epochs=6),
                remedies=case.remedies[:1],
            )
            for case in module.CASES
        ]
        monkeypatch.setattr(module, "CASES", tuple(cases))
        return cases

    return shorten


@pytest.mark.slow
@pytest.mark.parametrize("example", EXAMPLES)
def test_every_command_writes_its_rows_and_a_figure(small, monkeypatch, capsys, tmp_path, example):
    def fake_diagnose(evidence):
        assert set(evidence.splits) == {"train", "valid", "test"}
        assert len(evidence.history) == 6
        return [Found("capacity", "", Verdict(PRESENT, "")), Found("leakage", "", Verdict("", ""))]

    monkeypatch.setattr(study, "diagnose", fake_diagnose)
    cases = small(example)
    run(monkeypatch, example, "--seeds", 2, "--out", tmp_path)
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["commit"]
    assert result["seconds"] > 0
    titles = [study.KNOWN, "as it is", cases[0].remedies[0].title]
    for case in cases:
        for name in case.evaluated:
            rows = [
                row
                for row in result["rows"]
                if (row["case"], row["judged_on"]) == (case.name, name)
            ]
            assert list(dict.fromkeys(row["remedy"] for row in rows)) == titles
            assert len(rows) == 4 + 5 + 5
            for row in rows:
                assert row["example"] == example
                assert row["low"] <= row["value"] <= row["high"]
            assert [row.get("helps") for row in rows if row["metric"] == "nll_change"] == [
                None,
                table.helps(rows[-1]),
            ]
    counts = {"cause": "capacity", "named": 2, "first": 2}
    assert result["diagnosis"] == [{"case": case.name, **counts} for case in cases]
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
    out = capsys.readouterr().out
    assert "| judged on | remedy | accuracy |" in out
    assert "names: capacity (2 of 2 seeds, first in 2)." in out
    assert out.splitlines()[-1].startswith("Written to ")


def test_the_diagnosis_names_the_learning_rate(monkeypatch, tmp_path):
    """At its whole length: on a short curve the rate cannot be told from the size."""
    too_low = learning_rate.CASES[1]._replace(remedies=())
    monkeypatch.setattr(learning_rate, "CASES", (too_low,))
    run(monkeypatch, "learning_rate", "--seeds", 1, "--out", tmp_path)
    result = json.loads((tmp_path / "result.json").read_text())
    assert "learning_rate" in [each["cause"] for each in result["diagnosis"]]


@pytest.mark.parametrize("value", ["0", "-1", "many"])
def test_bad_input_is_one_line(monkeypatch, capsys, tmp_path, value):
    with pytest.raises(SystemExit) as stopped:
        run(monkeypatch, "capacity", "--seeds", value, "--out", tmp_path / "out")
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert f"--seeds {value}: " in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()
