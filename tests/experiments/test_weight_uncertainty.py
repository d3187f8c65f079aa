"""The paper's experiments in a small mode, their arithmetic, and bad input."""

import json
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from PIL import Image
from sklearn.datasets import load_digits

from experiments import cli
from experiments.weight_uncertainty import (
    classification,
    mnist,
    pruning,
    records,
    regression,
    report,
    training,
)
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
from research.data.sources.source import TEST, TRAIN, Source
from research.posteriors.mean_field import MeanField, softplus_inverse
from research.runtime.errors import UserError

MIXTURE = "mixture(initial_sigma=0.02)"
RESULTS = Path(classification.__file__).with_name("results")


def one_device():
    """Fewer programs to compile than with eight; `test_sweep.py` shares runs out."""
    devices = jax.devices()[:1]
    return jax.make_mesh((1,), ("data",), axis_types=(AxisType.Auto,), devices=devices)


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
    monkeypatch.setitem(regression.PRESETS, "quick", (200, 5))
    monkeypatch.setattr(regression, "MEMBERS", 3)
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


def fake_source(name: str, data_dir: str | None) -> Source:
    """Digits of 8x8 pixels in place of MNIST, the last 300 for testing; "clothes" are negatives."""
    del data_dir
    digits = load_digits()
    images = np.kron(digits.images * 15, np.ones((3, 3))).astype(np.uint8)
    if name == "tfds:fashion_mnist":
        images = 255 - images
    given = np.repeat([TRAIN, TEST], [len(images) - 300, 300])
    ids = np.arange(len(images)).astype(str)

    def read(index):
        return Image.fromarray(images[index]).convert("RGB")

    return Source(name, tuple("0123456789"), digits.target, ids, read, "", given)


def test_validation_images_are_a_part_of_the_training_images(monkeypatch):
    monkeypatch.setattr(mnist.tfds, "open_source", fake_source)
    monkeypatch.setattr(mnist, "NUM_VALID", 200)
    data, ood = mnist.load(None, train=None, other=250)
    counts = [len(split.labels) for split in data]
    assert counts == [1297, 200, 250]  # of 1497 and 300
    assert ood.shape == (250, 24, 24)
    everything = fake_source("tfds:mnist", None)
    np.testing.assert_array_equal(data.test.labels, everything.labels[1497:1747])
    rows = {image.tobytes() for image in data.train.images}
    assert not rows & {image.tobytes() for image in data.valid.images}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two rows of Table 1 and the pruning, very short."""
    out = tmp_path_factory.mktemp("wu") / "run"
    # As many seeds as settings of the mixture are searched: the programs are compiled once.
    short = {"epochs": 4, "search_epochs": 4, "seeds": 2, "out": out}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mnist.tfds, "open_source", fake_source)
        patch.setattr(mnist, "NUM_VALID", 200)
        patch.setattr(pruning, "SWEEP", (0.0, 0.75, 0.98, 0.995))
        for module in (training, classification, pruning):
            patch.setattr(module, "data_mesh", one_device)
        methods = f"sgd(learning_rate=0.001),{MIXTURE}"
        classification.main(classification.Config(methods=methods, units=(16,), **short))
        pruning.main(pruning.Config(units=16, methods=methods, **short))
    return out


def test_a_short_run_learns_and_records_what_it_did(trained):
    found = {record.name: record.found for record in records.read(trained, "classification-")}
    names = ("sgd-learning_rate=0.001", label(MIXTURE))
    assert set(found) == {f"classification-{name}-16" for name in names}
    assert found["classification-sgd-learning_rate=0.001-16"]["searched"] == 0
    mixture = found[f"classification-{label(MIXTURE)}-16"]
    first = mixture["rows"][0]
    assert first["column"] == "16, 4 epochs"
    assert first["low"] < first["ours"] < first["high"]
    assert first["ours"] < 80  # chance is 90
    assert first["verdict"] is None  # the paper has no such width
    minutes = [row for row in mixture["rows"] if "min" in row["column"]]
    assert [row["column"] for row in minutes] == ["16, 4 epochs, minutes to 2 % test error"]
    assert minutes[0]["ours"] is None  # four epochs are not enough
    assert mixture["searched"] == 2
    assert mixture["hardware"]


def test_pruning_ends_at_chance_and_begins_where_training_ended(trained):
    cell, pruned = (
        records.read(trained, name)[0] for name in ("classification-mixture", "pruning-mixture")
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
