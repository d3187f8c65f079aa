"""The benchmark: a tiny run makes the table, the same again trains nothing."""

import json
import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.special import log_softmax

from experiments import cli
from experiments.benchmark import __main__ as benchmark
from experiments.benchmark import run as benchmark_run
from experiments.benchmark.costs import measure_costs
from research.methods.ensemble import ensemble
from research.methods.mc_dropout import mc_dropout
from research.methods.point import point
from research.models import chain, vgg
from research.models.layers import Dense, Dropout, Flatten
from research.runtime.errors import UserError

TINY = (
    *("--data", "digits", "--width", "0.05", "--epochs", "1", "--limit", "40", "--batch_size", "8"),
    *("--test_limit", "8", "--corrupted_limit", "5", "--methods", "mc_dropout(num_samples=3)"),
)
BOUNDED = ("accuracy", "ece", "ood_auroc", "ood_fpr95", "corrupted_accuracy", "corrupted_ece_5")


def _run(*arguments) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["benchmark", *map(str, arguments)])
        # Five convolutions, not thirteen: they compile in a third of the time.
        patch.setattr(vgg, "BLOCKS", tuple((1, channels) for _, channels in vgg.BLOCKS))
        jax.config.update("jax_disable_most_optimizations", True)  # likewise
        try:
            cli.run(benchmark.main, benchmark.Config)
        finally:
            jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="session")
def strange(tmp_path_factory):
    """Images of another kind: noise, as an .npz with splits cut at random."""
    random = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("strange") / "noise.npz"
    images = random.integers(0, 256, (120, 32, 32, 3), dtype=np.uint8)
    np.savez(path, images=images, labels=np.arange(120) % 3)
    return path


@pytest.fixture(scope="session")
def out(strange, tmp_path_factory):
    """The folder of a tiny run of two methods at two seeds."""
    folder = tmp_path_factory.mktemp("benchmark") / "run"
    _run(*TINY, "--ood", strange, "--seeds", "2", "--out", folder)
    return folder


@pytest.fixture(scope="session")
def rows(out):
    """Its rows, by (method, tempered, metric)."""
    text = (out / "result.json").read_text()
    result = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in result.json"))
    return {(row["method"], row["tempered"], row["metric"]): row for row in result["rows"]}


@pytest.mark.slow
def test_rows_hold_every_metric_before_and_after_temperature(rows):
    methods = {"point", "mc_dropout(num_samples=3)"}
    assert {method for method, _, _ in rows} == methods
    for method in methods:
        for tempered in (False, True):
            for metric in ("nll", "brier", "aurc", "corrupted_nll", "corrupted_nll_1", *BOUNDED):
                row = rows[method, tempered, metric]
                assert row["seeds"] == 2
                assert row["low"] <= row["value"] <= row["high"]
                assert row["value"] == pytest.approx(np.mean(list(row["each_seed"].values())))
                assert metric not in BOUNDED or 0 <= row["low"] <= row["high"] <= 1


@pytest.mark.slow
def test_the_draws_of_a_method_are_tempered_before_they_are_averaged(rows, out):
    with np.load(out / "seed-0" / "point" / "predictions.npz") as file:
        plain, tempered = file["test"]
        scaled = plain / file["temperature"]
    scaled = scaled - np.logaddexp.reduce(scaled, axis=-1, keepdims=True)
    np.testing.assert_allclose(tempered, scaled, atol=1e-5)
    one = [rows["point", tempered, "accuracy"]["each_seed"] for tempered in (False, True)]
    assert one[0] == one[1]  # of one network the answers stay

    draws = np.log(np.array([[[0.8, 0.2]], [[0.1, 0.9]]]))
    found = np.exp(benchmark_run._plain_and_tempered(draws, lambda x: log_softmax(x / 2, axis=-1)))
    roots = np.sqrt(np.exp(draws))
    wanted = [np.exp(draws).mean(0), (roots / roots.sum(-1, keepdims=True)).mean(0)]
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


@pytest.mark.slow
def test_seeds_differ_and_recipes_of_a_seed_share_the_point_network(out):
    seeds = [out / f"seed-{seed}" for seed in (0, 1)]
    labels = [np.load(seed / "point" / "predictions.npz")["labels"] for seed in seeds]
    assert not np.array_equal(*labels)  # digits have no splits of their own
    for seed in seeds:
        point, dropout = (
            dict(np.load(seed / name / "predictions.npz"))
            for name in ("point", "mc_dropout_num_samples=3")
        )
        np.testing.assert_array_equal(point["labels"], dropout["labels"])
        assert dropout["point_seconds"] == point["seconds"]
        # Nothing is trained further; what is added is the time of a `finish` that does nothing.
        assert dropout["seconds"] == pytest.approx(float(point["seconds"]), rel=0.01)
        assert point["worse"].shape == (2, 8, 5, 5, 10)
        assert point["test"].shape == (2, 8, 10)
        assert point["outside"].shape[::2] == (2, 10)


@pytest.mark.slow
def test_costs(rows):
    cost = {
        (method.split("(")[0], name): rows[method, False, name]["value"]
        for method in ("point", "mc_dropout(num_samples=3)")
        for name in ("parameters", "draws", "forward_passes", "training_time", "step_megabytes")
    }
    assert cost["point", "parameters"] == cost["mc_dropout", "parameters"]
    assert cost["point", "draws"] == cost["point", "training_time"] == 1
    assert cost["point", "forward_passes"] == pytest.approx(1, abs=0.01)
    assert cost["mc_dropout", "draws"] == 3
    assert 1 < cost["mc_dropout", "forward_passes"] < 3  # the convolutions run once
    # That of the point network, which it starts from.
    assert cost["mc_dropout", "training_time"] == pytest.approx(1, rel=0.01)
    assert cost["mc_dropout", "step_megabytes"] is None


@pytest.mark.slow
def test_the_same_command_again_trains_nothing_and_prints_the_same(
    out, strange, capsys, monkeypatch
):
    table = (out / "table.md").read_text()
    for name in ("fit", "predictor", "calibrate"):
        monkeypatch.setattr(benchmark_run, name, lambda *_: pytest.fail("nothing is left to do"))
    monkeypatch.setattr(benchmark, "load", lambda *_, **__: pytest.fail("no data are needed"))
    _run(*TINY, "--ood", strange, "--seeds", "2", "--out", out)
    printed = capsys.readouterr()
    assert printed.out.startswith(table)
    assert printed.err == ""
    assert "with the same --out train only what is missing" in printed.out.splitlines()[-1]


@pytest.mark.slow
def test_fewer_seeds_are_read_from_the_same_folder_with_intervals_over_images(out, strange, capsys):
    before = {path: path.read_bytes() for path in (out / "table.md", out / "result.json")}
    _run(*TINY, "--ood", strange, "--out", out)
    printed = capsys.readouterr().out
    assert "One seed: in brackets, 95 % intervals over the test images" in printed
    lines = [line for line in printed.splitlines() if line.startswith("| `")]
    assert [line.split("|")[1].strip() for line in lines] == [
        *["`point`"] * 2,
        *["`mc_dropout(num_samples=3)`"] * 2,
    ]
    for path, content in before.items():
        path.write_bytes(content)


@pytest.mark.slow
def test_the_table_says_its_rule(out):
    text = (out / "table.md").read_text()
    assert text.startswith("digits: 40 training, 10 validation and 8 test images, 5 of them corr")
    assert "Means over 2 seeds, each with its own splits" in text
    header = next(line for line in text.splitlines() if line.startswith("| method"))
    assert all(line.count("|") == header.count("|") for line in text.splitlines() if "|" in line)


@pytest.mark.slow
def test_what_cannot_be_trained_does_not_stop_the_others(out, strange, capsys, monkeypatch):
    def refuse(recipe, bench, params=None):
        if recipe == benchmark_run.POINT:  # which is there
            return SimpleNamespace(state=SimpleNamespace(params={}), seconds=1.0)
        raise UserError(None, "training diverged: the loss is not finite")

    monkeypatch.setattr(benchmark_run, "_fit", refuse)
    before = {path: path.read_bytes() for path in (out / "table.md", out / "result.json")}
    with pytest.raises(SystemExit, match="2"):
        _run(*TINY[:-1], "mc_dropout(num_samples=2)", "--ood", strange, "--out", out)
    printed = capsys.readouterr()
    assert "| `point` |" in printed.out
    assert "1 of 2 trainings failed: mc_dropout(num_samples=2) at seed 0: training diverged" in (
        printed.err
    )
    assert (out / "seed-0" / "point" / "predictions.npz").exists()
    for path, content in before.items():
        path.write_bytes(content)


BAD = {
    "methods": (("--methods", "nonsense"), "there is no method nonsense"),
    "option": (("--methods", "mc_dropout(samples=3)"), "mc_dropout has no option samples"),
    "seeds": (("--seeds", "0"), "--seeds 0: give a number above 0"),
    "width": (("--width", "-1"), "--width -1.0: give a number above 0"),
    "limit": (("--corrupted_limit", "0"), "--corrupted_limit 0: give a number above 0"),
    "crop": (("--crop", "-1"), "--crop -1: give 0 or more"),
    "same": (("--ood", "digits"), "--ood digits: the same as --data"),
    "ood": (("--ood", "nowhere"), "--ood nowhere: no such folder"),
    "devices": (("--batch_size", "9"), "--batch_size 9: not a multiple of the 8 devices"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_leaves_no_trace(case, tmp_path, capsys):
    arguments, words = BAD[case]
    with pytest.raises(SystemExit, match="2"):
        _run("--limit", "40", *arguments, "--out", tmp_path / "new" / "run")
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_another_configuration_is_refused(out, capsys):
    with pytest.raises(SystemExit, match="2"):
        _run(*TINY, "--epochs", "2", "--out", out)
    assert "holds a run of a different configuration" in capsys.readouterr().err


def test_costs_of_known_programs():
    """Parameters by hand; members count each, what only training needs does not."""
    layers = Dropout(0.5), Dense("hidden", 8, "relu"), Dense("predictions", 3)
    model = chain.as_model(chain.Chain((Flatten(), *layers)), lambda x: x.astype(jnp.float32))
    tx, image, size = optax.adam(1e-3), (8, 8, 3), 192 * 8 + 8 + 8 * 3 + 3
    methods = {
        "point": point(model, tx),
        "mc_dropout": mc_dropout(model, tx, num_samples=4),
        "ensemble": ensemble(point(model, tx), num_members=3),
    }
    found = {}
    for name, method in methods.items():
        state = jax.eval_shape(method.init, jax.random.key(0), jnp.zeros((1, *image), jnp.uint8))
        found[name] = measure_costs(method, state, model, image, 8, is_trained=True)
    assert {name: costs["parameters"] for name, costs in found.items()} == {
        "point": size,
        "mc_dropout": size,
        "ensemble": 3 * size,
    }
    assert found["point"]["forward_passes"] == pytest.approx(1, abs=0.05)
    assert found["ensemble"]["forward_passes"] == pytest.approx(3, abs=0.15)
    # A step holds weights and two moments of each, for each member, and three batches.
    stored = 4 * 3 * size / 1e6
    assert found["point"]["step_megabytes"] > stored
    assert found["ensemble"]["step_megabytes"] > 3 * stored
