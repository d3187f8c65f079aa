"""A classifier cut once: base and head are the whole network, whichever of them is trained."""

import jax
import numpy as np
import pytest

from research.data.dataset import Dataset, Split
from research.models import chain
from research.models.classifier import fresh
from research.models.preprocess import PREPROCESS
from research.models.vgg import VGG16
from research.runtime.mesh import data_mesh
from research.runtime.run import Run

SIDE = 32


@pytest.fixture
def dataset():
    random = np.random.default_rng(0)

    def split(n):
        images = random.integers(0, 256, (n, SIDE, SIDE, 3), dtype=np.uint8)
        return Split(images, (np.arange(n) % 2).astype(np.int32), np.arange(n).astype(str))

    return Dataset("noise", ("a", "b"), split(6), split(4), split(5), fingerprint="noise")


@pytest.fixture
def classifier(dataset):
    return fresh(dataset, VGG16(2, "cifar", width=0.05))


@pytest.fixture
def params(classifier, dataset):
    return classifier.model.init(jax.random.key(1), dataset.test.images[:1])


def test_the_whole_network_starts_and_computes_as_flax_does(classifier, params, dataset):
    network = chain.as_model(VGG16(2, "cifar", width=0.05), PREPROCESS["torch"])
    images = dataset.test.images
    jax.tree.map(np.testing.assert_array_equal, params, network.init(jax.random.key(1), images[:1]))
    expected = network.apply(params, images)
    np.testing.assert_array_equal(classifier.model.apply(params, images), expected)
    logits = classifier.logits(params, classifier.features(params, images))
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-6)


def test_a_frozen_base_leaves_the_head_and_its_features(classifier, params, dataset, tmp_path):
    frozen = classifier.freeze(params, dataset, Run(tmp_path, data_mesh(), seed=0))
    assert (classifier.trainable, frozen.trainable) == ("all", "head")
    assert {*frozen.frozen, *frozen.model.layers} == params.keys()
    images = dataset.test.images
    expected = classifier.features(params, images)
    np.testing.assert_allclose(frozen.dataset.test.images, expected, rtol=1e-5, atol=1e-6)
    head = {name: params[name] for name in frozen.model.layers}
    np.testing.assert_array_equal(frozen.features(head, images), expected)
    logits = frozen.model.apply(head, frozen.dataset.test.images)
    np.testing.assert_allclose(logits, classifier.model.apply(params, images), atol=1e-5)


def test_what_is_trained_starts_from_the_weights_given(classifier, params, dataset):
    """Those of another shape or name start at random, and the run is another one."""
    given = {"block1_conv1": params["block1_conv1"]}
    started = classifier.start_from(given | {"elsewhere": params["predictions"]})
    assert started.start.keys() == given.keys()
    assert started.params is None
    assert started.dataset.fingerprint != dataset.fingerprint
    weights = started.model.init(jax.random.key(2), dataset.test.images[:1])
    assert weights.keys() == params.keys()
    np.testing.assert_array_equal(
        weights["block1_conv1"]["kernel"], params["block1_conv1"]["kernel"]
    )
    assert np.any(weights["predictions"]["kernel"] != params["predictions"]["kernel"])


def test_another_preprocessing_is_another_network(classifier, params, dataset):
    other = classifier.with_preprocess("caffe")
    assert other.other_preprocess == ()
    images = dataset.test.images
    expected = other.base.apply(params, PREPROCESS["caffe"](images))
    np.testing.assert_allclose(other.features(params, images), expected, rtol=1e-6)
    assert np.any(other.features(params, images) != classifier.features(params, images))
