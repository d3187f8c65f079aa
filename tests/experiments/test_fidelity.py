"""`experiments.fidelity`: measures by hand, the reference by quadrature, the command in small."""

import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit, log_expit

from experiments import cli
from experiments.fidelity import __main__ as fidelity
from experiments.fidelity.methods import Length
from experiments.fidelity.picture import entropy_bits
from experiments.fidelity.reference import Chains, Reference, nuts
from research.method import Batch
from research.models import chain
from research.models.layers import Dense


@pytest.fixture
def small(monkeypatch):
    """The command without NUTS and with the shortest training; the reference is 0.8 and 0.2."""

    def fake(key, model, precision, batch, grid, length):
        del key, model, precision, batch, length
        return Reference(np.tile([0.8, 0.2], (len(grid), 1)), 1.5, 9.0, 0)

    monkeypatch.setattr(fidelity, "nuts", fake)
    monkeypatch.setattr(fidelity, "SIDE", 6)
    monkeypatch.setattr(fidelity, "PRESETS", {"quick": (Chains(1, 1, 1), Length(3, 2))})


def run(monkeypatch, *arguments) -> None:
    monkeypatch.setattr(sys, "argv", ["fidelity", *map(str, arguments)])
    cli.run(fidelity.main, fidelity.Config)


def test_measures_worked_by_hand():
    p = np.array([[0.9, 0.1], [0.4, 0.6]])
    q = np.array([[0.6, 0.4], [0.7, 0.3]])
    assert fidelity.total_variation(p, q) == pytest.approx(0.3)
    assert fidelity.agreement(p, q) == 0.5
    assert fidelity.total_variation(p, p) == 0
    assert fidelity.agreement(p, p) == 1
    np.testing.assert_allclose(entropy_bits(np.array([[0.5, 0.5], [1.0, 0.0]])), [1, 0])


def test_a_row_has_the_mean_over_the_seeds_and_the_spread():
    exact = np.array([[0.6, 0.4]])
    row = fidelity.row("swag", np.array([[[0.7, 0.3]], [[0.9, 0.1]]]), exact, 2.0)
    assert row["total_variation"] == pytest.approx(0.2)
    assert row["total_variation_sd"] == pytest.approx(0.2 / 2**0.5)
    assert fidelity.row("swag", exact[None], exact, 2.0)["total_variation_sd"] is None


def test_surprises_follow_from_the_rows():
    def surprises(**distances):
        names = {"point": "point", "ens": "ensemble(point)", "mf": "ivon", "mc": "sgmcmc(cycles=0)"}
        return fidelity.surprises(
            [{"method": names[name], "total_variation": tv} for name, tv in distances.items()]
        )

    assert surprises(point=0.3, ens=0.1, mf=0.2, mc=0.05) == []
    assert surprises(point=0.1, mf=0.2) == ["ivon (0.200) is no nearer than point (0.100)"]
    assert surprises(point=0.3, ens=0.25, mf=0.2, mc=0.1) == [
        "ensemble(point) (0.250) is no nearer than mean-field ivon (0.200)"
    ]
    assert len(surprises(point=0.1, ens=0.2, mf=0.15, mc=0.3)) == 5


def test_nuts_gives_the_predictive_of_quadrature():
    """A logistic regression of two weights depends on their difference alone, d ~ N(0, 2)."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=15)
    y = (generator.uniform(size=15) < expit(2 * x)).astype(np.int32)
    model = chain.as_model(chain.Chain((Dense("predictions", 2, use_bias=False),)))
    batch = Batch(jnp.asarray(x[:, None], jnp.float32), jnp.asarray(y))
    points = np.array([[-1.0], [0.3], [2.0]], np.float32)
    length = Chains(4, 150, 300)
    found = nuts(jax.random.key(0), model, 1.0, batch, jnp.asarray(points), length)

    d = np.linspace(-12, 14, 20001)
    log_density = log_expit(np.multiply.outer(d, np.where(y, x, -x))).sum(-1) - d**2 / 4
    weights = np.exp(log_density - log_density.max())
    weights /= weights.sum()
    probs = expit(np.multiply.outer(d, points[:, 0]))  # [D, 3]
    mean = weights @ probs
    error = np.sqrt(weights @ (probs - mean) ** 2 / found.effective_draws)
    assert found.effective_draws > 200, "too few draws to tell"
    assert found.r_hat < 1.05
    assert np.all(np.abs(found.probs[:, 1] - mean) < 5 * error)
    np.testing.assert_allclose(found.probs.sum(-1), 1, atol=1e-6)


@pytest.mark.slow
def test_the_command_writes_rows_and_a_picture(small, monkeypatch, capsys, tmp_path):
    methods = "ensemble(swag,num_members=2)"
    run(monkeypatch, "--methods", methods, "--seeds", 2, "--out", tmp_path)
    result = json.loads((tmp_path / "result.json").read_text())
    names = [row["method"] for row in result["rows"]]
    assert names == [fidelity.NUTS, "ensemble(swag, num_members=2)"]
    assert result["rows"][0]["total_variation"] == 0
    for row in result["rows"][1:]:
        assert 0 < row["total_variation"] < 0.8
        assert row["total_variation_sd"] > 0
    assert (tmp_path / "fidelity.png").read_bytes().startswith(b"\x89PNG")
    out = capsys.readouterr().out
    assert "| method | total variation | agreement | seconds |" in out
    assert "the reference has not converged" in out
    assert out.splitlines()[-1].startswith("Next: ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds", "0"], "--seeds 0: give a whole number, 1 or more"),
        (["--methods", "nuts"], "there is no method nuts"),
    ],
)
def test_bad_input_is_one_line(small, monkeypatch, capsys, tmp_path, arguments, message):
    with pytest.raises(SystemExit) as stopped:
        run(monkeypatch, *arguments, "--out", tmp_path / "out")
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()
