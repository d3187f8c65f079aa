"""The examination: seeds, scores, and two cases from beginning to end."""

import json

import numpy as np
import pytest

from experiments.exam import __main__ as exam
from experiments.exam import cases as exam_cases
from experiments.exam import classifier as exam_classifier
from experiments.exam import surfaces
from experiments.exam.faults import FAULTS
from experiments.exam.scores import confusion, score
from research.diagnosis.diagnose import cause_names
from research.runtime.errors import UserError


def row(fault, named, seed=0, strength="middle"):
    return {"fault": fault, "data": "digits", "strength": strength, "seed": seed, "named": named}


def test_every_fault_that_is_planted_is_a_cause_and_the_other_way_round():
    assert set(FAULTS) - {"healthy"} == set(cause_names()) - set(exam.NOT_FAULTS)


def test_seeds():
    assert list(exam.parse_seeds("100:102", 5)) == [100, 101, 102]
    assert list(exam.parse_seeds("7", 5)) == [7]
    assert list(exam.parse_seeds(None, 3)) == [0, 1, 2]
    for wrong in ("a:b", "5:3", "1:", "-1:2"):
        with pytest.raises(UserError, match="FIRST:LAST"):
            exam.parse_seeds(wrong, 5)


def test_scores_count_what_they_say():
    rows = [
        row("leakage", ["leakage", "overfitting"]),
        row("leakage", ["overfitting", "leakage"], 1),
        row("leakage", [], 2),
        row("healthy", []),
        row("healthy", ["leakage"], 1),
    ]
    scores = score(rows)
    assert scores["named_first"]["value"] == pytest.approx(1 / 3)
    assert scores["named"]["value"] == pytest.approx(2 / 3)
    assert scores["false_alarm"]["value"] == pytest.approx(1 / 2)
    assert all(share["low"] < share["value"] < share["high"] for share in scores.values())
    planted, named, counts = confusion(rows)
    assert counts.sum() == len(rows)
    assert counts[planted.index("leakage"), named.index("overfitting")] == 1


@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_a_fault_changes_only_what_it_should(fault):
    """Planted twice from the same seed it is the same; shapes stay in step with labels."""
    images, labels = surfaces.generate(60, seed=0)
    third = np.array_split(np.arange(60), 3)
    splits = dict(zip(("train", "valid", "test"), third, strict=True))
    sound = exam_cases.Case(
        surfaces.CLASSES,
        {name: images[index] for name, index in splits.items()},
        {name: labels[index] for name, index in splits.items()},
    )
    plant = FAULTS[fault]
    one, two = (plant(sound, 1, np.random.default_rng(3)) for _ in range(2))
    for split in splits:
        assert len(one.images[split]) == len(one.labels[split])
        np.testing.assert_array_equal(one.images[split], two.images[split])
        np.testing.assert_array_equal(one.labels[split], two.labels[split])
    is_same = all(np.array_equal(one.images[s], sound.images[s]) for s in splits)
    in_pixels = {
        "class_imbalance",
        "leakage",
        "overfitting",
        "uninformative_features",
        "covariate_shift",
    }
    in_pixels |= {"shortcut", "underrepresented_groups", "too_few_images"}
    assert is_same == (fault not in in_pixels)


def test_the_command_scores_draws_and_goes_on(tmp_path, monkeypatch, capsys):
    def examined(fault, data, strength, seed, data_dir):
        named = [] if fault == "healthy" else [fault]
        return row(fault, named, seed, strength) | {"data": data, "seconds": 1.0}

    monkeypatch.setattr(exam, "examine", examined)
    config = exam.Config(seeds="3:4", causes="healthy,double_softmax", out=tmp_path / "exam")
    exam.main(config)
    result = json.loads((tmp_path / "exam" / "result.json").read_text())
    assert (result["named_first"]["value"], result["named_first"]["n"]) == (1, 2)
    assert (result["false_alarm"]["value"], result["false_alarm"]["n"]) == (0, 2)
    assert (tmp_path / "exam" / "confusion.png").exists()
    assert "double softmax" in capsys.readouterr().out
    monkeypatch.setattr(exam, "examine", None)  # what is there is not examined again
    exam.main(config)


def test_a_case_gives_the_evidence_for_a_diagnosis(monkeypatch):
    """A trained head's predictions: those of `predict`, and right far more often than by chance."""
    monkeypatch.setattr(exam_cases, "SIZES", {"train": 200, "valid": 60, "test": 60})
    case = exam_cases.draw("inspection", np.random.default_rng(0), None)
    quick = case._replace(head=case.head._replace(epochs=5, hidden=16))
    evidence = exam_classifier.train(quick, 0)
    part = evidence.splits["test"]
    assert len(evidence.history) == 5
    assert np.mean(part.log_probs.argmax(axis=1) == part.labels) > 0.65
    np.testing.assert_allclose(evidence.predict(part.images), part.log_probs, atol=1e-4)


def test_unknown_faults_are_an_error():
    with pytest.raises(UserError, match="choose from"):
        exam.main(exam.Config(causes="gremlins"))
