"""Train, valid and test: stratified by class, fixed by the seed, and no image in two of them.

Where a source has no validation or no test split, each is cut from train as 15 % of it. Exact
copies of one image form a group, and a group lies in one split: a copy of a training image in the
test set would be remembered, not recognised, and every number of the test set would be too good.

scikit-learn's StratifiedGroupKFold is not used: tried on five classes of 40 to 4 images, its folds
lacked a class in valid or test for 64 of 100 seeds, and on 100,000 images it took over a minute.
"""

import numpy as np

from research.data.sources.source import TEST, TRAIN, VALID
from research.runtime.errors import UserError

SHARE = 0.15  # of train, for each split that is cut from it
DROPPED = -1


def missing_splits(given: np.ndarray) -> list[int]:
    """Which of valid and test no record of `given` [N] belongs to: to be cut from train."""
    return [code for code in (VALID, TEST) if code not in given]


def apportion(counts: np.ndarray, total: int) -> np.ndarray:
    """Shares `total` among the classes in proportion to `counts`, by largest remainder.

    Args:
        counts: [K] how many there are of each class.
        total: number of records to take; all are taken where there are fewer.

    Returns:
        [K] int, at most `counts`, with at least one of each class that there is any of.

    Raises:
        UserError: `total` is less than the number of classes.
    """
    if total >= counts.sum():
        return counts.copy()
    least = np.minimum(counts, 1)
    if total < least.sum():
        raise UserError(
            "limit", f"fewer than the {least.sum()} classes", "give a larger one", value=total
        )
    exact = counts * (total / counts.sum())
    shares = np.maximum(least, np.floor(exact).astype(int))
    while shares.sum() < total:
        shares[np.argmax(np.where(shares < counts, exact - shares, -np.inf))] += 1
    while shares.sum() > total:
        shares[np.argmax(np.where(shares > least, shares - exact, -np.inf))] -= 1
    return shares


def _rank(sorted_labels: np.ndarray) -> np.ndarray:
    """The place of each record among those of its class. [N] sorted -> [N]."""
    return np.arange(len(sorted_labels)) - np.searchsorted(sorted_labels, sorted_labels)


def _sample(
    pool: np.ndarray, labels: np.ndarray, wanted: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """`wanted` [K] records of each class, at random from the indices `pool`, in ascending order."""
    order = generator.permutation(pool)
    order = order[np.argsort(labels[order], kind="stable")]
    return np.sort(order[_rank(labels[order]) < wanted[labels[order]]])


def choose(
    labels: np.ndarray, given: np.ndarray, limit: int | None, generator: np.random.Generator
) -> np.ndarray:
    """Which records to decode: all, or enough of each class that every split gets up to `limit`.

    Args:
        labels: [N] int.
        given: [N] TRAIN, VALID or TEST; all TRAIN where the source has no splits.
        limit: largest number of images in a split; None: no limit.
        generator: chooses.

    Returns:
        Their indices, ascending.
    """
    if limit is None:
        return np.arange(len(labels))
    num_cut = len(missing_splits(given))
    chosen = []
    for code in np.unique(given):
        pool = np.flatnonzero(given == code)
        counts = np.bincount(labels[pool])
        wanted = apportion(counts, limit)
        if code == TRAIN:
            cut_off = np.maximum(1, np.ceil(wanted * SHARE / (1 - SHARE * num_cut)).astype(int))
            wanted = np.minimum(counts, wanted + num_cut * cut_off)
        chosen.append(_sample(pool, labels, wanted, generator))
    return np.sort(np.concatenate(chosen))


def assign(
    labels: np.ndarray, given: np.ndarray, groups: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """Puts every record into a split, exact copies together.

    Of copies that the source has in several splits, those in the earlier ones are dropped, so that
    test stays whole. A class with too few different images for every split stays in train.

    Args:
        labels: [N] int.
        given: [N] TRAIN, VALID or TEST; all TRAIN where the source has no splits.
        groups: [N] int; the same number for exact copies.
        generator: cuts valid and test from train.

    Returns:
        [N] TRAIN, VALID, TEST or DROPPED.
    """
    last = np.full(groups.max() + 1, DROPPED)
    np.maximum.at(last, groups, given)
    split = np.where(given == last[groups], given, DROPPED)
    cut = missing_splits(given)
    train = np.flatnonzero(split == TRAIN)
    if not cut or not len(train):
        return split

    _, first, group, size = np.unique(
        groups[train], return_index=True, return_inverse=True, return_counts=True
    )
    label = labels[train][first]  # [G] the class of each group
    counts = np.bincount(label)
    quota = np.maximum(1, np.round(SHARE * counts).astype(int))
    quota[counts <= len(cut)] = 0
    # A group that alone would fill a split goes last, that is, to train.
    too_big = size > quota[label]
    order = generator.permutation(len(label))
    order = order[np.lexsort((too_big[order], label[order]))]
    place = _rank(label[order]) // np.maximum(1, quota[label[order]])
    place[quota[label[order]] == 0] = len(cut)
    group_split = np.full(len(label), TRAIN)
    for number, code in enumerate(cut):
        group_split[order[place == number]] = code
    split[train] = group_split[group]
    return split


def trim(
    labels: np.ndarray, split: np.ndarray, limit: int | None, generator: np.random.Generator
) -> np.ndarray:
    """Drops what a split has beyond `limit`, in proportion to its classes. [N] -> [N]."""
    if limit is None:
        return split
    trimmed = np.full_like(split, DROPPED)
    for code in (TRAIN, VALID, TEST):
        pool = np.flatnonzero(split == code)
        wanted = apportion(np.bincount(labels[pool]), limit)
        trimmed[_sample(pool, labels, wanted, generator)] = code
    return trimmed
