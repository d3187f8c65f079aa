"""The paper's experiments in a small mode, their arithmetic, and bad input."""

import csv
import json
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

from experiments import cli
from experiments.weight_uncertainty import (
    agents,
    bandits,
    classification,
    mushroom,
    pruning,
    records,
    regression,
    report,
    training,
)
from experiments.weight_uncertainty.records import Target
from experiments.weight_uncertainty.rows import (
    MIXTURE_GRID,
    ROWS,
    SIGMAS,
    Size,
    label,
    optimizer,
    points,
    row_of,
    with_fixed,
)
from research.posteriors.mean_field import MeanField, softplus_inverse
from research.runtime.errors import UserError

RESULTS = Path(classification.__file__).with_name("results")


def one_device():
    """Fewer programs to compile than with eight; `test_sweep.py` shares runs out."""
    devices = jax.devices()[:1]
    return jax.make_mesh((1,), ("data",), axis_types=(AxisType.Auto,), devices=devices)


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


def test_mnist_that_is_not_prepared_is_one_line(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(
        "sys.argv", ["c", "--data_dir", str(tmp_path), "--out", str(tmp_path / "o")]
    )
    with pytest.raises(SystemExit) as stopped:
        cli.run(classification.main, classification.Config)
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "prepare it once" in error
    assert not (tmp_path / "o").exists()


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


def test_the_grid_is_the_papers():
    """3 rates x 27 priors (section 5.1), -log σ1 in 0, 1, 2 and -log σ2 in 6, 7, 8."""
    assert len(points(ROWS["mixture"].grid)) == 81 * len(SIGMAS["initial_sigma"])
    np.testing.assert_allclose(-np.log(MIXTURE_GRID["mixture_sigma_1"]), [0, 1, 2], atol=1e-12)
    np.testing.assert_allclose(-np.log(MIXTURE_GRID["mixture_sigma_2"]), [6, 7, 8])


def test_what_is_given_with_a_row_is_not_searched():
    cells = classification.get_cells(
        classification.Config(methods="sgd, mixture(mixture_pi=0.25,initial_sigma=0.05)")
    )
    assert [name for name, _ in cells] == ["sgd", "mixture(mixture_pi=0.25,initial_sigma=0.05)"]
    row = row_of(cells[1][0])
    assert row.title.endswith("mixture_pi=0.25, initial_sigma=0.05")
    assert {hyper["mixture_sigma_1"] for hyper in points(row.few)} == set(
        ROWS["mixture"].few["mixture_sigma_1"]
    )
    for hyper in (*points(row.grid), *points(row.few)):
        full = with_fixed(row, hyper)
        assert (full["mixture_pi"], full["initial_sigma"]) == (0.25, 0.05)
    assert label(cells[1][0]) == "mixture-mixture_pi=0.25-initial_sigma=0.05"
    assert label("mixture") == "mixture"


@pytest.mark.parametrize(
    "name",
    [
        "nothing",
        "mixture(",
        "mixture(0.3)",
        "mixture(pi=0.3)",
        "mixture(mixture_pi=x)",
        "sgd(momentum=1)",
        "f.g()",
    ],
)
def test_a_row_that_does_not_exist_is_an_error(name):
    with pytest.raises(UserError, match=re.escape(f"methods {name}: ")):
        row_of(name)


def test_momentum_and_a_falling_rate_can_be_given():
    size = Size(units=4, num_train=128, batch_size=10, num_steps=4, draws=1)

    def moves(name):  # of a weight whose gradient is always 1
        tx = optimizer(with_fixed(row_of(name), {"learning_rate": 0.1}), size)
        state, updates = tx.init(jnp.zeros(())), []
        for _ in range(5):
            update, state = tx.update(jnp.ones(()), state)
            updates.append(float(update))
        return updates

    np.testing.assert_allclose(moves("sgd"), -np.ones(5))
    falling = moves("sgd(rate_left=0.5)")  # a half of a cosine, from 1 to 0.5
    np.testing.assert_allclose(falling, [-1, -0.926777, -0.75, -0.573223, -0.5], rtol=1e-5)
    np.testing.assert_allclose(moves("sgd(momentum=0.5)"), [-1, -1.5, -1.75, -1.875, -1.9375])


def test_pruning_by_size_takes_the_smallest():
    params = {"a": {"kernel": np.array([[3.0, -0.1], [0.2, -4.0]])}, "b": {"bias": np.array([1.0])}}
    pruned = pruning.prune_by_size(params, 0.4)
    np.testing.assert_array_equal(pruned["a"]["kernel"], [[3.0, 0.0], [0.0, -4.0]])
    np.testing.assert_array_equal(pruned["b"]["bias"], [1.0])
    assert all(np.all(leaf == 0) for leaf in jax.tree.leaves(pruning.prune_by_size(params, 1.0)))


def test_decibels_are_of_an_amplitude():
    sigma = jnp.array([0.1, 1.0])
    posterior = MeanField({"w": jnp.array([1.0, -1.0])}, {"w": softplus_inverse(sigma)})
    np.testing.assert_allclose(pruning.decibels(posterior), [20.0, 0.0], atol=1e-4)


def test_a_valley_lies_between_two_modes_and_nowhere_in_one():
    centres = np.linspace(-10, 10, 201)

    def bell(at):
        return np.exp(-((centres - at) ** 2) / 2)

    place = pruning.valley(bell(-5) + bell(5), centres)
    assert abs(place) < 0.5
    assert pruning.valley(bell(0), centres) is None


def test_the_interval_counts_images_and_seeds():
    mean, low, high = classification.interval(np.array([0.02, 0.02]), 10_000)
    np.testing.assert_allclose([mean, high - mean], [0.02, 1.96 * 0.0014], rtol=1e-3)
    np.testing.assert_allclose(mean - low, high - mean)
    _, low, high = classification.interval(np.array([0.01, 0.03]), 10_000)
    assert high - low > 0.03


def test_the_curve_is_the_papers():
    data = regression.sample(np.random.default_rng(0), 4000)
    x = data.images[:, 0]
    assert x.min() >= 0
    assert x.max() <= 0.5
    clean = x + 0.3 * np.sin(2 * np.pi * x) + 0.3 * np.sin(4 * np.pi * x)
    slope = 1 + 0.6 * np.pi * np.cos(2 * np.pi * x) + 1.2 * np.pi * np.cos(4 * np.pi * x)
    steep = np.abs(slope) > 1  # elsewhere the noise is not that of the slope
    np.testing.assert_allclose(np.std(((data.labels - clean) / slope)[steep]), 0.02, rtol=0.1)


def test_widths_are_away_from_the_data_and_on_it():
    band = np.zeros((3, len(regression.PLANE)))
    band[2, regression.AWAY], band[2, regression.ON_DATA] = 3.0, 0.5
    assert regression.widening(band) == (3.0, 0.5)


def test_regression_runs_and_draws(tmp_path, monkeypatch):
    monkeypatch.setitem(regression.PRESETS, "quick", (200, 20))
    monkeypatch.setattr(regression, "data_mesh", one_device)
    out = tmp_path / "regression"
    regression.main(regression.Config(units=20, out=out))
    (record,) = records.read(out, "regression")
    found = {(row["row"], row["column"]): row["ours"] for row in record.found["rows"]}
    assert found["plain network", "band away from data"] == 0
    assert found["ensemble of 10", "band away from data"] > 0
    assert found["Bayes by Backprop", "band away from data"] > 0
    assert (out / "figure5.png").stat().st_size > 10_000


def test_the_committed_band_widens_away_from_the_data():
    (record,) = records.read(RESULTS, "regression")
    found = {(row["row"], row["column"]): row["ours"] for row in record.found["rows"]}
    assert found["Bayes by Backprop", "widens by a factor of"] > 2


@pytest.fixture(scope="module")
def trained(tmp_path_factory, shared_data):
    """Two rows of Table 1 and the pruning, very short."""
    out = tmp_path_factory.mktemp("wu") / "run"
    short = {
        "epochs": 1,
        "search_epochs": 1,
        "seeds": 4,  # as many as settings of the mixture are searched: compiled once
        "data_dir": str(shared_data / "tensorflow_datasets"),
        "out": out,
    }
    small = training.PRESETS["quick"]._replace(train=1_500, other=300)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(training.PRESETS, "quick", small)
        for module in (training, classification, pruning):
            patch.setattr(module, "data_mesh", one_device)
        digits = training.load(
            training.TrainingConfig(data_dir=short["data_dir"])
        )  # once is enough
        for module in (classification, pruning):
            patch.setattr(module, "load", lambda config: digits)
        methods = "sgd(learning_rate=0.001),mixture"
        classification.main(classification.Config(methods=methods, units=(16,), **short))
        pruning.main(pruning.Config(units=16, methods=methods, **short))
    return out


def test_a_short_run_learns_and_records_what_it_did(trained):
    found = {record.name: record.found for record in records.read(trained, "classification-")}
    names = ("sgd-learning_rate=0.001", "mixture")
    assert set(found) == {f"classification-{name}-16" for name in names}
    assert found["classification-sgd-learning_rate=0.001-16"]["searched"] == 0
    first = found["classification-mixture-16"]["rows"][0]
    assert first["column"] == "16, 1 epochs"
    assert first["low"] < first["ours"] < first["high"]
    assert first["ours"] < 80  # chance is 90
    assert first["verdict"] is None  # the paper has no such width
    minutes = [row for row in found["classification-mixture-16"]["rows"] if "min" in row["column"]]
    assert [row["column"] for row in minutes] == ["16, 1 epochs, minutes to 2 % test error"]
    assert minutes[0]["ours"] is None  # an epoch is not enough
    assert found["classification-mixture-16"]["searched"] == 4
    assert found["classification-mixture-16"]["hardware"]


def test_pruning_ends_at_chance_and_begins_where_training_ended(trained):
    cell, pruned = (
        records.read(trained, name)[0] for name in ("classification-mixture-16", "pruning-mixture")
    )
    np.testing.assert_allclose(
        pruned.arrays["mean_error"][0], cell.arrays["test_mean_error"][-1], atol=2e-3
    )
    assert np.all(pruned.arrays["error"][-1] > pruned.arrays["error"][0] + 0.05)


def test_the_report_lists_what_has_not_been_run(trained, tmp_path, capsys):
    out = tmp_path / "report"
    keep = tmp_path / "kept"
    report.main(report.Config(runs=(trained, tmp_path / "absent"), out=out, keep=keep))
    rows = json.loads((out / "result.json").read_text())["rows"]
    verdicts = {row["verdict"] for row in rows if row["paper"] is not None}
    assert verdicts == {"not run"}
    assert sum(row["table"] == "1" and row["paper"] is not None for row in rows) == 12
    assert "0 are met, 0 missed" in capsys.readouterr().out
    html = (out / "report.html").read_text()
    assert html.count("data:image/png") == 4
    assert (keep / "figure4.png").exists()
    again = tmp_path / "again"
    report.main(report.Config(runs=(keep,), out=again))
    assert (again / "result.json").read_text() == (out / "result.json").read_text()


def test_of_two_runs_of_a_cell_the_later_one_counts(tmp_path):
    arrays = {
        "epochs": np.arange(1, 4),
        "test_error": np.full((3, 2), 0.02),
        "weights": np.linspace(-0.1, 0.1, 9),
    }
    for name, ours in (("one", 1.9), ("two", 1.7)):
        line = records.row("1", "SGD", "400", ours, target=Target(1.83, 0.2))
        records.write(tmp_path / name, "classification-sgd-400", {"rows": [line]}, arrays)
    runs, out = (tmp_path / "one", tmp_path / "two"), tmp_path / "out"
    report.main(report.Config(runs=runs, out=out, keep=tmp_path / "kept"))
    rows = json.loads((out / "result.json").read_text())["rows"]
    assert [row["ours"] for row in rows if row["row"] == "SGD" and row["ours"]] == [1.7]
    kept = records.read(tmp_path / "kept", "classification-")
    assert kept[0].found["rows"][0]["ours"] == 1.7
    assert (tmp_path / "kept" / "figure2.png").exists()  # drawn from both runs


def test_of_several_settings_the_one_chosen_on_validation_counts(tmp_path, capsys):
    """Not the one with the lowest test error."""
    settings = {"": (1.9, 0.025), "-momentum=0.8": (2.1, 0.018), "-momentum=0.9": (1.7, 0.021)}
    for name, (ours, valid) in settings.items():
        line = records.row(
            "1", f"SGD{name.replace('-', ', ')}", "400", ours, target=Target(1.83, 0.2)
        )
        arrays = {"epochs": np.arange(1, 4), "weights": np.linspace(-0.1, 0.1, 9)}
        arrays |= {"valid_error": np.full((3, 2), valid), "test_error": np.full((3, 2), ours / 100)}
        records.write(tmp_path / "run", f"classification-sgd{name}-400", {"rows": [line]}, arrays)
    report.main(report.Config(runs=(tmp_path / "run",), out=tmp_path / "out"))
    rows = json.loads((tmp_path / "out" / "result.json").read_text())["rows"]
    assert [row["ours"] for row in rows if row["ours"]] == [2.1, 1.7, 1.9]
    assert "1 were run here by its protocol: 0 are met, 1 missed" in capsys.readouterr().out


def test_a_report_of_nothing_is_an_error(tmp_path):
    with pytest.raises(UserError, match="nothing has been run there"):
        report.main(report.Config(runs=(tmp_path,), out=tmp_path / "report"))


def test_verdicts():
    def verdict(ours):
        return records.row("1", "r", "c", ours, target=Target(1.32, 0.2))["verdict"]

    assert (verdict(1.5), verdict(1.53), verdict(1.0)) == ("met", "missed", "met")
    short = records.row("1", "r", "c", 5.0, target=Target(1.32, 0.2, is_as_paper=False))
    assert (short["ours"], short["paper"], short["verdict"]) == (5.0, 1.32, None)
    assert records.not_run("1", "r", "c", 1.3)["verdict"] == "not run"
