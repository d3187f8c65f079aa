"""The order of training is a function of the step; evaluation gives N results for N images."""

from itertools import islice

import jax
import numpy as np
import pytest

from research.data import Split, load
from research.data.batches import epoch_order, map_batches, training_batches
from research.data.images import UnreadableImage

KEY = jax.random.key(7)


def test_epoch_order_is_a_permutation_that_changes():
    first, second = epoch_order(KEY, 0, 50), epoch_order(KEY, 1, 50)
    np.testing.assert_array_equal(np.sort(first), np.arange(50))
    assert (first != second).any()
    np.testing.assert_array_equal(first, epoch_order(KEY, 0, 50))
    assert (first != epoch_order(jax.random.key(8), 0, 50)).any()


def test_batches_walk_through_the_epochs():
    split = Split(np.zeros((10, 2), np.float32), np.zeros(10, np.int32), np.arange(10).astype(str))
    steps = np.array([indices for _, indices in training_batches(split, KEY, 3, 0, 6)])
    np.testing.assert_array_equal(steps[:3].ravel(), epoch_order(KEY, 0, 10)[:9])
    np.testing.assert_array_equal(steps[3:].ravel(), epoch_order(KEY, 1, 10)[:9])


@pytest.fixture
def both(make_folder):
    spec = str(make_folder({"a": 9, "b": 9}))
    return load(spec, image_size=16), load(spec, image_size=16, memory_gb=0.0)


def test_streamed_batches_equal_those_in_memory(both):
    kept, streamed = (
        list(training_batches(data.train, KEY, 5, start_step=3, num_steps=6)) for data in both
    )
    assert len(kept) == len(streamed) == 6
    for (nothing, indices), (images, same) in zip(kept, streamed, strict=True):
        assert nothing is None
        np.testing.assert_array_equal(indices, same)
        np.testing.assert_array_equal(images, both[0].train.images[indices])


@pytest.mark.parametrize("which", [0, 1])
def test_a_resumed_run_sees_the_same_batches(both, which):
    split = both[which].train
    whole = list(training_batches(split, KEY, 4, 0, 8))
    resumed = list(training_batches(split, KEY, 4, 5, 3))
    jax.tree.map(np.testing.assert_array_equal, whole[5:], resumed)


def test_stopping_early_is_fine(both):
    assert len(list(islice(training_batches(both[1].train, KEY, 4, 0, 10**6), 2))) == 2


def test_a_file_that_breaks_during_training(make_folder):
    root = make_folder({"a": 9, "b": 9})
    data = load(str(root), memory_gb=0.0)
    for id in data.train.ids:
        (root / id).write_bytes(b"")
    with pytest.raises(UnreadableImage):
        list(training_batches(data.train, KEY, 4, 0, 2))


@pytest.mark.parametrize("n", [1, 3, 4, 5, 11])
@pytest.mark.parametrize("axis", [0, 1])
def test_map_batches_gives_n_results_with_one_compile(n, axis):
    images = np.random.default_rng(0).integers(0, 256, (n, 2, 2, 3), dtype=np.uint8)
    shapes = []

    @jax.jit
    def total(batch):
        shapes.append(batch.shape)
        result = batch.astype(np.float32).sum((1, 2, 3))
        return result if axis == 0 else result[None] * np.array([[1.0], [2.0]], np.float32)

    found = map_batches(total, images, 4, axis)
    expected = images.sum((1, 2, 3)).astype(np.float32)
    np.testing.assert_array_equal(found, expected if axis == 0 else [expected, 2 * expected])
    assert shapes == [(4, 2, 2, 3)]


def test_map_batches_of_streamed_images(both):
    kept, streamed = (map_batches(np.asarray, data.train.images, 4) for data in both)
    np.testing.assert_array_equal(kept, both[0].train.images)
    np.testing.assert_array_equal(kept, streamed)


def test_features_batch_like_images():
    features = np.arange(12, dtype=np.float32).reshape(6, 2)
    split = Split(features, np.zeros(6, np.int32), np.arange(6).astype(str))
    (nothing, indices), *_ = training_batches(split, KEY, 4, 0, 1)
    assert nothing is None
    assert indices.shape == (4,)
    np.testing.assert_array_equal(map_batches(lambda x: 2 * x, features, 4), 2 * features)
