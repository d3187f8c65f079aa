"""Remedies fit the causes, the training images are counted as verdicts say, and time is kept."""

from typing import NamedTuple

import numpy as np
import pytest

from research.assessment import remedies
from research.data.dataset import Dataset, Split
from research.diagnosis.diagnose import Found, cause_names, load
from research.diagnosis.verdict import ABSENT, PRESENT, Verdict
from research.training.recipe import parse


class Collected(NamedTuple):
    rows: dict


def found(cause, state=PRESENT, **fields):
    return Found(cause, cause, Verdict(state, "", **fields))


def test_every_remedy_is_a_recipe():
    named = [load(cause) for cause in cause_names() if hasattr(load(cause), "REMEDIES")]
    assert named
    for cause in named:
        assert len(parse(",".join(cause.REMEDIES))) == len(cause.REMEDIES)


def test_a_remedy_is_tried_once_against_every_cause_that_it_fits():
    chosen = remedies.choose([found("learning_rate"), found("capacity"), found("leakage")])
    assert [each.against for each in chosen] == [("learning_rate", "capacity")] * 2
    assert not remedies.choose([found("overfitting", ABSENT)])


def dataset(n):
    labels = np.arange(n, dtype=np.int32) % 2
    ids = np.array([str(i) for i in range(n)])
    split = Split(np.arange(n, dtype=np.float32)[:, None], labels, ids)
    return Dataset("made up", ("a", "b"), split, split, split)


def test_images_are_learnt_as_often_as_the_verdicts_say():
    rows = Collected({"train": np.array([1, 3, 4, 6])})  # the others were not looked at
    noise = found("label_noise", counts=np.array([1, 0, 1, 1]))
    balance = found("class_imbalance", counts=np.array([1, 3, 2, 1]))
    learnt, note = remedies.resample(dataset(8), [noise, balance], rows)
    assert learnt.train.ids.tolist() == ["1", "4", "4", "6"]
    assert learnt.train.images[:, 0].tolist() == [1, 4, 4, 6]
    assert len(learnt.test.labels) == 8
    assert note == "1 training image left out and 1 training image learnt more often"


def test_without_counts_nothing_is_left_out():
    whole = dataset(8)
    learnt, note = remedies.resample(whole, [found("overfitting")], Collected({}))
    assert learnt is whole
    assert note == ""


@pytest.mark.parametrize(
    ("recipe", "trainings"),
    [("point", 1), ("swag", 1), ("ensemble(point,num_members=3)", 3), ("bayes_by_backprop", 2)],
)
def test_cost(recipe, trainings):
    assert remedies.cost(parse(recipe)[0]) == trainings


def test_the_whole_network_is_fitted_as_far_as_the_time_goes(capsys):
    tried = []

    def fit_one(recipe):
        tried.append(str(recipe))
        return recipe

    fitted = remedies.fit_networks(2.5, 60.0, {}, fit_one)  # point took a minute
    assert tried == ["swag", "bayes_by_backprop"]
    assert [str(recipe) for recipe in fitted] == tried
    assert "--budget 2.5: no time for ensemble(point, num_members=3)" in capsys.readouterr().err
    remedies.fit_networks(10.0, 60.0, {"swag": None}, fit_one)
    assert tried[2:] == ["bayes_by_backprop", "ensemble(point, num_members=3)"]
    assert not capsys.readouterr().err
