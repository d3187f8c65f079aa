"""Abstention and prediction sets in the report: counted on the test split, chosen on validation."""

import numpy as np
import pytest

from research.assessment.decisions import decide
from research.data.dataset import Split
from research.report.decisions import rows
from research.report.next_steps import next_steps
from tests.report.conftest import make_method, make_result


def _predictions(n, seed):
    """Sure answers that are right, unsure ones that are wrong every other time."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 3, n)
    is_sure = generator.random(n) < 0.8
    guess = np.where(is_sure | (generator.random(n) < 0.5), labels, (labels + 1) % 3)
    top = np.where(is_sure, 0.99, 0.6) - 0.01 * generator.random(n)
    probs = np.repeat((1 - top)[:, None] / 2, 3, axis=1)
    probs[np.arange(n), guess] = top
    return np.log(probs)[None], Split(None, labels, np.arange(n).astype(str))


@pytest.fixture(scope="module")
def decided():
    parts = {"valid": _predictions(2000, 0), "test": _predictions(2000, 1)}
    log_probs = {name: part[0] for name, part in parts.items()}
    splits = {name: part[1] for name, part in parts.items()}
    return decide(log_probs, splits, max_error=0.05)


def test_the_least_certain_fifth_gets_no_answer(decided):
    abstention = decided["abstention"]["chosen"]
    assert abstention["share_abstained"] == pytest.approx(0.2, abs=0.11)
    assert abstention["bound"] <= 0.05
    assert abstention["error"]["value"] <= 0.05


def test_sets_hold_the_answer_as_often_as_promised(decided):
    for one in decided["sets"].values():
        assert one["coverage"]["value"] == pytest.approx(0.9, abs=5 * np.sqrt(2 * 0.09 / 2000))


def test_rows_have_a_cell_for_every_method(decided):
    table = rows([make_method(decisions=decided), make_method(decisions=decided)])
    assert [name for name, _ in table][:2] == ["Answers given", "Wrong among them"]
    assert all(len(cells) == 2 for _, cells in table)
    assert rows([make_method(decisions=decided), make_method()]) == []


def test_an_impossible_error_rate_is_named():
    parts = {"valid": _predictions(20, 0), "test": _predictions(20, 1)}
    few = decide(
        {n: p[0] for n, p in parts.items()}, {n: p[1] for n, p in parts.items()}, max_error=0.001
    )
    assert not few["abstention"]["possible"]
    assert rows([make_method(decisions=few)])[0][1] == [("not possible", "")]


def test_without_validation_images_nothing_is_decided():
    log_probs, split = _predictions(20, 0)
    assert decide({"test": log_probs}, {"test": split}, max_error=0.05) is None


def test_the_next_step_names_the_share_and_the_bound(decided):
    result = make_result({"point": make_method(decisions=decided)})
    (step,) = [each for each in next_steps(result) if "to a person" in each]
    assert "with 95 % certainty" in step
