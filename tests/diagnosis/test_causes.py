"""Each cause is found where it was planted, and not where all is well."""

import numpy as np
import pytest
from scipy.special import log_softmax

from research.diagnosis.diagnose import cause_names, diagnose, load
from research.diagnosis.evidence import Evidence, EvidenceSplit
from research.diagnosis.verdict import ABSENT, PRESENT, UNKNOWN
from tests.diagnosis.conftest import (
    evidence_of,
    examine,
    named,
    sample,
    true_log_probs,
    with_split,
)

FLAT = tuple({"loss": 1.0 + 0.9 * 0.5**e, "valid_nll": 0.5, "epoch": e} for e in range(20))
FALLING = tuple({"loss": 2.0 - 0.05 * e, "valid_nll": 0.5, "epoch": e} for e in range(20))
ROUGH = tuple({"loss": 1.0 + 0.5 * (e % 2), "valid_nll": 0.5, "epoch": e} for e in range(20))


def test_a_sound_classifier_has_no_cause(data):
    assert named(evidence_of(data)) == ["well_calibrated"]


def test_every_cause_has_a_title_and_is_found_by_its_name():
    titles = [load(name).TITLE for name in cause_names()]
    assert len(set(titles)) == len(titles) >= 15


def test_overfitting(data):
    """Answers far surer than the features allow, and right by heart in training."""
    labels = data["train"][1]

    def predict(features):
        log_probs = true_log_probs(features)
        if len(features) == len(labels):
            log_probs = log_probs + 4 * np.eye(3)[labels]
        return log_softmax(6 * log_probs, axis=1)

    found = examine("overfitting", evidence_of(data, predict))
    assert found.state == PRESENT
    assert found.effect.nll.low > 0
    assert found.effect.ece > 0
    assert "with labels drawn at random" in found.text
    # Steps that were too long end there too: the loss curve tells them.
    jumped = evidence_of(
        data, predict, history=({"loss": 30.0, "valid_nll": 0.5, "epoch": 0}, *ROUGH)
    )
    assert examine("overfitting", jumped).state == ABSENT
    assert examine("learning_rate", jumped).state == PRESENT
    # A curve that is merely rough, at the end of learning by heart, is minibatches' noise.
    rough = evidence_of(data, predict, history=ROUGH)
    assert examine("overfitting", rough).state == PRESENT
    assert examine("learning_rate", rough).state == ABSENT


def test_overfitting_where_no_tamer_head_is_as_good(data, monkeypatch):
    """A head may know less than the network did; the network's own predictions are tempered."""
    train, generator = data["train"][1], np.random.default_rng(1)

    def predict(features):
        log_probs = true_log_probs(features)
        if len(features) == len(train):
            log_probs = log_probs + 4 * np.eye(3)[train]
        return log_softmax(4 * log_probs, axis=1)

    blurred = evidence_of(data, predict)
    for split, part in blurred.splits.items():
        noise = generator.normal(scale=3, size=part.features.shape).astype(np.float32)
        blurred = with_split(blurred, split, features=part.features + noise)
    found = examine("overfitting", blurred)
    assert found.state == PRESENT
    assert found.effect.nll.low > 0.1
    assert "ask for a temperature of 4" in found.text
    monkeypatch.setattr(load("overfitting"), "LEAST_TEMPERATURE", np.inf)
    assert examine("overfitting", blurred).state == ABSENT


def test_evaluated_on_training_data(data):
    """Only where nobody knows what it was trained on can it have seen the test images."""
    of_length = {len(x): labels for x, labels in data.values()}

    def predict(features):
        return log_softmax(8 * np.eye(3)[of_length[len(features)]], axis=1)

    trained_on_test = evidence_of(data, predict, knows_training=False)
    assert named(trained_on_test)[0] == "evaluated_on_training_data"
    assert examine("evaluated_on_training_data", evidence_of(data, predict)).state == ABSENT

    def better_in_training(features):
        surer = 12 if len(features) == len(data["train"][1]) else 4
        return log_softmax(surer * np.eye(3)[of_length[len(features)]], axis=1)

    gifted = evidence_of(data, better_in_training, knows_training=False)
    assert examine("evaluated_on_training_data", gifted).state == ABSENT


def test_too_few_images(data):
    few = {
        name: (x[:20], labels[:20]) if name == "test" else (x, labels)
        for name, (x, labels) in data.items()
    }
    found = examine("too_few_images", evidence_of(few))
    assert found.state == PRESENT
    # 3 mistakes of 20 at most: Clopper and Pearson's bound by hand from the beta distribution.
    assert found.number.low <= found.number.value <= found.number.high
    assert examine("too_few_images", evidence_of(data)).state == ABSENT


def test_no_mistake_in_n_images_bounds_the_error_rate_by_about_3_over_n():
    part = EvidenceSplit(np.log(np.tile([[0.98, 0.01, 0.01]], (300, 1))), np.zeros(300, int))
    found = examine("too_few_images", Evidence(classes=("a", "b", "c"), splits={"test": part}))
    assert found.number.high == pytest.approx(1 - 0.05 ** (1 / 300), rel=1e-9)


def test_class_imbalance(data):
    x, labels = data["train"]
    kept = (labels != 0) | (np.random.default_rng(1).random(len(labels)) < 0.06)
    rare = data | {"train": (x[kept], labels[kept])}
    found = examine("class_imbalance", evidence_of(rare))
    assert found.state == PRESENT
    assert found.number.value > 2
    learnt = np.bincount(labels[kept], weights=found.counts)
    assert learnt.max() < 2 * learnt.min()  # rare images are learnt more often
    assert examine("class_imbalance", evidence_of(data)).state == ABSENT


def test_covariate_shift(data):
    x, labels = data["test"]
    moved = data | {"test": (x + np.eye(1, 6, dtype=np.float32) * 2, labels)}  # all look like "a"
    assert examine("covariate_shift", evidence_of(moved)).state == PRESENT
    assert examine("covariate_shift", evidence_of(data)).state == ABSENT


def test_a_shift_that_nobody_can_miss_need_not_prove_what_it_costs(data, monkeypatch):
    x, labels = data["test"]
    away = np.array([0.8, 0, 0, 0, 6, 0], np.float32)  # a little like "a", and far from all
    shifted = evidence_of(data | {"test": (x[:60] + away, labels[:60])})
    assert examine("covariate_shift", shifted).state == PRESENT
    monkeypatch.setattr(load("covariate_shift"), "OBVIOUS_AUROC", 1.0)
    assert examine("covariate_shift", shifted).state == ABSENT


def test_hard_images_are_no_wrong_labels():
    """Classes that overlap: a head is wrong as often as it admits, even where it is surest."""
    generator, hard = np.random.default_rng(0), {}
    for name, n in {"train": 900, "valid": 300, "test": 300}.items():
        x, labels = sample(n, generator)
        hard[name] = 0.6 * x + 0.8 * generator.normal(size=x.shape).astype(np.float32), labels
    assert examine("label_noise", evidence_of(hard)).state != PRESENT


def test_underrepresented_groups(data):
    """A kind of images that training hardly holds, and validation and test do."""

    def with_kind(share):
        generator, shifted = np.random.default_rng(7), {}
        for name, (x, labels) in data.items():
            of_kind = generator.random(len(labels)) < share[name]
            moved = np.where(of_kind[:, None], x[:, [1, 2, 0, 3, 4, 5]] + 4, x)
            shifted[name] = moved.astype(np.float32), labels
        return evidence_of(shifted)

    found = examine(
        "underrepresented_groups", with_kind({"train": 0.02, "valid": 0.4, "test": 0.4})
    )
    assert found.state == PRESENT
    assert found.number.low > 0.55
    assert found.effect.nll.low > 0
    assert found.counts.max() > 3
    even = with_kind({"train": 0.4, "valid": 0.4, "test": 0.4})
    assert examine("underrepresented_groups", even).state == ABSENT
    only_in_test = with_kind({"train": 0.02, "valid": 0.02, "test": 0.4})  # a shift
    assert examine("underrepresented_groups", only_in_test).state == ABSENT
    assert examine("underrepresented_groups", evidence_of(data)).state == ABSENT


def test_class_counts_alone_are_no_shift(data):
    """The two-sample test weighs the classes evenly."""
    x, labels = data["test"]
    kept = (labels != 0) | (np.arange(len(labels)) % 5 == 0)
    fewer = data | {"test": (x[kept], labels[kept])}
    assert examine("covariate_shift", evidence_of(fewer)).state == ABSENT


def test_leakage(data):
    x, labels = data["test"]
    x, labels = x.copy(), labels.copy()
    x[:60], labels[:60] = data["train"][0][:60] + np.float32(1e-3), data["train"][1][:60]
    found = examine("leakage", evidence_of(data | {"test": (x, labels)}))
    assert found.state == PRESENT
    assert found.number.value == pytest.approx(0.2)
    assert {index for _, index in found.suspects} <= set(range(60))
    assert examine("leakage", evidence_of(data)).state == ABSENT


def test_neighbours_in_a_plane_are_no_duplicates():
    """Of two features some rows lie near each other by chance."""
    for seed in range(3):
        generator = np.random.default_rng(seed)
        plane = {}
        for name, n in {"train": 400, "valid": 200, "test": 300}.items():
            x, labels = sample(n, generator)
            plane[name] = np.pad(x[:, :2], ((0, 0), (0, 4))), labels
        assert examine("leakage", evidence_of(plane)).state == ABSENT


def test_label_noise(data):
    generator = np.random.default_rng(2)
    far = {
        n: (x + 2 * np.eye(3, 6)[labels].astype(np.float32), labels)
        for n, (x, labels) in data.items()
    }  # classes that are easily told apart
    noisy, wrong = {}, {}
    for name, (x, labels) in far.items():
        wrong[name] = generator.random(len(labels)) < 0.25
        noisy[name] = x, np.where(wrong[name], (labels + 1) % 3, labels)
    found = examine("label_noise", evidence_of(noisy))
    assert found.state == PRESENT
    assert found.number.low < wrong["train"].mean() < found.number.high
    assert found.number.high - found.number.low < 0.15
    suspects = [index for _, index in found.suspects]
    assert wrong["train"][suspects].mean() > 0.9
    assert np.mean(found.counts[wrong["train"]] == 0) > 0.8  # they are not to be learnt
    assert np.mean(found.counts[~wrong["train"]] == 1) > 0.8
    assert examine("label_noise", evidence_of(far)).state == ABSENT


@pytest.mark.parametrize(
    ("history", "cause"),
    [(FLAT, "capacity"), (FALLING, "learning_rate"), (ROUGH, "learning_rate"), ((), None)],
)
def test_what_was_not_learnt(data, history, cause):
    """Predictions less confident than the features allow: the loss curve tells why."""
    shy = evidence_of(data, lambda x: log_softmax(0.2 * true_log_probs(x), axis=1), history=history)
    states = {name: examine(name, shy).state for name in ("capacity", "learning_rate")}
    if cause is None:
        assert set(states.values()) == {UNKNOWN}
    else:
        other = {"capacity": "learning_rate", "learning_rate": "capacity"}[cause]
        assert states == {cause: PRESENT, other: ABSENT}


def test_permuted_classes_are_found_and_corrected(data):
    order = np.array([1, 0, 2])
    swapped = evidence_of(data, lambda x: true_log_probs(x)[:, order])
    found = examine("permuted_classes", swapped)
    assert found.state == PRESENT
    for split in data:
        np.testing.assert_allclose(
            found.corrected.splits[split].log_probs, true_log_probs(data[split][0])
        )
    assert named(swapped)[0] == "permuted_classes"
    assert examine("permuted_classes", evidence_of(data)).state == ABSENT


def test_double_softmax_is_found_and_undone(data):
    def sure(x):
        return log_softmax(3 * true_log_probs(x), axis=1)

    twice = evidence_of(data, lambda x: log_softmax(np.exp(sure(x)), axis=1))
    found = examine("double_softmax", twice)
    assert found.state == PRESENT
    np.testing.assert_allclose(
        np.exp(found.corrected.splits["test"].log_probs), np.exp(sure(data["test"][0])), atol=1e-6
    )
    assert examine("double_softmax", evidence_of(data, sure)).state == ABSENT


def test_uninformative_features(data):
    generator = np.random.default_rng(3)
    blind = {
        n: (generator.normal(size=x.shape).astype(np.float32), y) for n, (x, y) in data.items()
    }
    assert examine("uninformative_features", evidence_of(blind)).state == PRESENT
    assert examine("uninformative_features", evidence_of(data)).state == ABSENT


def degenerate():
    generator = np.random.default_rng(5)
    x, labels = sample(60, generator)
    many = {"train": (x, labels), "valid": sample(40, generator), "test": sample(40, generator)}
    ten = {name: (x[:10], labels[:10]) for name, (x, labels) in many.items()}
    one_class = {name: (x, np.zeros_like(labels)) for name, (x, labels) in many.items()}
    constant = {name: (np.ones_like(x), labels) for name, (x, labels) in many.items()}

    def always_a(x):
        return np.tile(log_softmax(np.array([50.0, 0, 0])), (len(x), 1))

    yield "ten images", evidence_of(ten)
    yield "one class", evidence_of(one_class)
    yield "constant features", evidence_of(constant)
    right = {
        n: EvidenceSplit(log_softmax(60.0 * np.eye(3)[y], axis=1), y, x)
        for n, (x, y) in many.items()
    }
    yield "always right", Evidence(classes=("a", "b", "c"), splits=right)
    yield "always one class", evidence_of(many, always_a)
    only = EvidenceSplit(true_log_probs(x), labels)
    yield "answers alone", Evidence(classes=("a", "b", "c"), splits={"test": only})
    all_right = EvidenceSplit(log_softmax(60.0 * np.eye(3)[labels], axis=1), labels)
    yield "no mistake", Evidence(classes=("a", "b", "c"), splits={"test": all_right})
    one_wrong = all_right._replace(labels=np.concatenate([[(labels[0] + 1) % 3], labels[1:]]))
    yield "one mistake", Evidence(classes=("a", "b", "c"), splits={"test": one_wrong})


DEGENERATE = dict(degenerate())


@pytest.mark.parametrize("name", DEGENERATE)
def test_a_degenerate_case_has_a_verdict_and_never_crashes(name):
    found = diagnose(DEGENERATE[name])
    assert {one.cause for one in found} == set(cause_names())
    for one in found:
        assert one.verdict.state in (PRESENT, ABSENT, UNKNOWN)
        assert one.verdict.text
