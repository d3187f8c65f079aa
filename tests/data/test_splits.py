"""Splits are stratified, fixed by the seed, of the sizes asked for, and never share an image."""

import numpy as np
import pytest

from research.data.sources.source import TEST, TRAIN, VALID
from research.data.splits import DROPPED, apportion, assign, choose, trim
from research.runtime.errors import UserError


def generator(seed=0):
    return np.random.default_rng(seed)


def test_apportion_by_hand():
    np.testing.assert_array_equal(apportion(np.array([50, 30, 20]), 10), [5, 3, 2])
    np.testing.assert_array_equal(apportion(np.array([97, 2, 1]), 5), [3, 1, 1])
    np.testing.assert_array_equal(apportion(np.array([5, 0, 5]), 3).sum(), 3)
    np.testing.assert_array_equal(apportion(np.array([4, 3]), 100), [4, 3])


@pytest.mark.parametrize("seed", range(20))
def test_apportion_gives_the_total_and_every_class_its_share(seed):
    counts = generator(seed).integers(1, 200, 12)
    total = int(generator(seed).integers(12, counts.sum()))
    shares = apportion(counts, total)
    assert shares.sum() == total
    assert (shares >= 1).all()
    assert (shares <= counts).all()


def test_a_limit_below_the_number_of_classes():
    with pytest.raises(UserError, match=r"limit 2.*3 classes"):
        apportion(np.array([5, 5, 5]), 2)


def test_own_splits_are_70_15_15_in_every_class():
    labels = np.repeat([0, 1, 2], [1000, 200, 20])
    split = assign(labels, np.zeros(1220, int), np.arange(1220), generator())
    for label, count in enumerate([1000, 200, 20]):
        found = np.bincount(split[labels == label], minlength=3)
        np.testing.assert_array_equal(found, np.array([0.7, 0.15, 0.15]) * count)


def test_tiny_classes_are_in_every_split():
    labels = np.repeat([0, 1, 2], [3, 4, 5])
    split = assign(labels, np.zeros(12, int), np.arange(12), generator())
    for label in range(3):
        assert set(split[labels == label]) == {TRAIN, VALID, TEST}


def test_splits_are_fixed_by_the_seed():
    labels = generator().integers(0, 4, 500)
    args = (labels, np.zeros(500, int), np.arange(500))
    np.testing.assert_array_equal(assign(*args, generator(1)), assign(*args, generator(1)))
    assert (assign(*args, generator(1)) != assign(*args, generator(2))).any()


def test_cut_is_random_within_a_class():
    """Every record is as likely to be in test: of 300 seeds, 15 % each, within five deviations."""
    labels = np.zeros(20, int)
    in_test = sum(
        assign(labels, np.zeros(20, int), np.arange(20), generator(s)) == TEST for s in range(300)
    )
    assert np.abs(in_test / 300 - 0.15).max() < 5 * np.sqrt(0.15 * 0.85 / 300)


def test_valid_is_cut_from_train_where_test_is_given():
    labels = np.tile([0, 1], 100)
    given = np.repeat([TRAIN, TEST], [120, 80])
    split = assign(labels, given, np.arange(200), generator())
    np.testing.assert_array_equal(split[120:], TEST)
    np.testing.assert_array_equal(np.bincount(split[:120]), [102, 18])


def test_copies_stay_together_and_splits_stay_stratified():
    labels = np.repeat([0, 1], [400, 200])
    groups = generator().permutation(np.repeat(np.arange(300), 2))  # pairs, some across classes
    split = assign(labels, np.zeros(600, int), groups, generator(3))
    for group in range(300):
        assert len(set(split[groups == group])) == 1
    np.testing.assert_array_equal(np.bincount(split, minlength=3), [420, 90, 90])
    # 90 records from 45 pairs: the share of class 0 deviates by at most sqrt(2/9 / 45) = 0.07.
    for code in (TRAIN, VALID, TEST):
        assert abs(np.mean(labels[split == code] == 0) - 2 / 3) < 5 * np.sqrt(2 / 9 / 45)


def test_one_image_copied_a_hundred_times_does_not_fill_a_small_split():
    groups = np.concatenate([np.zeros(100, int), np.arange(1, 101)])
    for seed in range(10):
        split = assign(np.zeros(200, int), np.zeros(200, int), groups, generator(seed))
        assert (split[:100] == TRAIN).all()
        assert set(split[100:]) == {TRAIN, VALID, TEST}


def test_of_copies_in_given_splits_the_later_one_stays():
    #         0      1     2      3      4     5
    given = np.array([TRAIN, TEST, VALID, TRAIN, VALID, TRAIN])
    groups = np.array([0, 0, 1, 1, 2, 3])
    split = assign(np.zeros(6, int), given, groups, generator())
    np.testing.assert_array_equal(split, [DROPPED, TEST, VALID, DROPPED, VALID, TRAIN])


@pytest.mark.parametrize("limit", [10, 57, 300])
@pytest.mark.parametrize("test_given", [False, True])
def test_a_limit_fills_train_and_is_never_exceeded(limit, test_given):
    labels = generator().integers(0, 7, 6000)
    given = np.where(np.arange(6000) % 5 == 0, TEST, TRAIN) * test_given
    rows = choose(labels, given, limit, generator(1))
    assert len(set(rows)) == len(rows) < 4 * limit
    split = assign(labels[rows], given[rows], np.arange(len(rows)), generator(1))
    split = trim(labels[rows], split, limit, generator(1))
    sizes = [np.sum(split == code) for code in (TRAIN, VALID, TEST)]
    assert sizes[TRAIN] == limit
    assert max(sizes) == limit
    assert min(sizes) >= 7
    counts = np.bincount(labels[rows][split == TRAIN], minlength=7)
    expected = limit * np.bincount(labels[given == TRAIN]) / np.sum(given == TRAIN)
    # Three numbers of each class are rounded: its part of the limit, of valid and of test.
    assert np.abs(counts - expected).max() < 3


def test_no_limit_chooses_everything():
    labels = np.array([0, 1, 0])
    np.testing.assert_array_equal(choose(labels, np.zeros(3, int), None, generator()), [0, 1, 2])
