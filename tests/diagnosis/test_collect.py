"""Evidence: what is known of a classifier is taken as it is, and the rest is computed from it."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from research.data.dataset import Dataset, Split
from research.diagnosis import collect as module
from research.diagnosis.collect import collect
from research.models.classifier import fresh
from research.models.vgg import VGG16
from research.runtime.mesh import data_mesh
from research.runtime.run import Run

SIZES = {"train": 9, "valid": 5, "test": 7}


@pytest.fixture(scope="module")
def dataset():
    random = np.random.default_rng(0)
    splits = {
        name: Split(
            random.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8),
            (np.arange(n) % 2).astype(np.int32),
            np.arange(n).astype(str),
        )
        for name, n in SIZES.items()
    }
    return Dataset("noise", ("a", "b"), **splits, fingerprint="noise")


@pytest.fixture(scope="module")
def network(dataset, tmp_path_factory):
    """A frozen network that may have been trained with another preprocessing, and its weights."""
    whole = fresh(dataset, VGG16(2, "cifar", width=0.05))
    params = whole.model.init(jax.random.key(0), dataset.test.images[:1])
    frozen = whole.freeze(params, dataset, Run(tmp_path_factory.mktemp("run"), data_mesh(), 0))
    head = {name: params[name] for name in frozen.model.layers}
    return replace(frozen, trainable="none", other_preprocess=("caffe", "raw")), head


def collected(network, dataset, **fields):
    known = {name: np.full((1, n, 2), np.log(0.5)) for name, n in SIZES.items()}
    return collect(*network, dataset, known, (), 0, **fields)


def test_known_predictions_and_cached_features_are_taken(network, dataset):
    evidence = collected(network, dataset).evidence
    for name, split in evidence.splits.items():
        np.testing.assert_array_equal(split.log_probs, np.log(0.5))
        np.testing.assert_array_equal(split.features, network[0].dataset.splits[name].images)
        np.testing.assert_array_equal(split.labels, dataset.splits[name].labels)
    assert not evidence.knows_training


def test_predictions_are_those_of_the_network(network, dataset):
    classifier, params = network
    images = dataset.test.images
    logits = classifier.logits(params, classifier.features(params, images))
    found = collected(network, dataset).evidence.predict(images)
    np.testing.assert_allclose(found, jax.nn.log_softmax(logits), atol=1e-5)
    assert found.dtype == np.float64


def test_another_preprocessing_gives_evidence_of_its_own(network, dataset):
    new = dataset.valid.images, dataset.valid.ids
    evidence = collected(network, dataset, new=new).evidence
    assert evidence.predict_as.keys() == {"caffe", "raw"}
    other = evidence.with_preprocess("caffe")
    expected = evidence.predict_as["caffe"](dataset.test.images)
    np.testing.assert_allclose(other.splits["test"].log_probs, expected, atol=1e-6)
    np.testing.assert_allclose(other.new.log_probs, other.splits["valid"].log_probs, atol=1e-6)
    assert np.any(other.splits["test"].features != evidence.splits["test"].features)
    assert not other.predict_as


def test_rows_tell_which_images_the_evidence_holds(network, dataset, monkeypatch):
    monkeypatch.setattr(module, "MOST", 4)
    found = collected(network, dataset)
    for name, rows in found.rows.items():
        assert len(rows) == min(4, SIZES[name])
        np.testing.assert_array_equal(
            found.evidence.splits[name].images, dataset.splits[name].images[rows]
        )
