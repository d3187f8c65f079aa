"""Whether two samples have the same distribution: a classifier two-sample test.

A logistic regression is cross-validated to tell one sample from the other (Lopez-Paz & Oquab 2017).
Where it can, its AUROC is above one half.
"""

from typing import Any, NamedTuple

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold

from research.metrics import format
from research.metrics.detection import auroc
from research.metrics.intervals import Estimate, bootstrap

FOLDS, REPLICATES = 5, 200
COMPONENTS = 32  # the first features of each example, which are principal components
LEAST_IMAGES = 20
MOST_IMAGES = 1_000  # of a split
TEST = "classifier two-sample test"


class Comparison(NamedTuple):
    """How well two samples are told apart."""

    auroc: Estimate  # with its bootstrap interval
    first: np.ndarray  # [N] log-odds that an example is of the second sample, from held-out folds
    second: np.ndarray  # [M]; NaN in both for classes that one of the samples lacks

    def sentence(self, samples: str) -> str:
        """The AUROC in a sentence, of samples named as in "A from B"."""
        value, _, _ = self.auroc.numbers()
        return (
            f"A simple classifier tells {samples} with AUROC {format.number(value)} "
            "(0.5: not at all)."
        )


def two_sample_test(
    first: np.ndarray,
    second: np.ndarray,
    labels: tuple[np.ndarray, np.ndarray] | None = None,
    *,
    seed: int,
) -> Comparison:
    """How well two samples are told apart, class by class.

    Args:
        first: features [N, D], of five examples at least.
        second: features [M, D], likewise.
        labels: ([N], [M]) int; every class has the same weight in both samples, and a class that is
            missing from either is left out. None: there are no classes.
        seed: of the folds and the resamples.
    """
    x = np.concatenate([first[:, :COMPONENTS], second[:, :COMPONENTS]])
    is_second = np.repeat([False, True], [len(first), len(second)])
    classes = np.zeros(len(x), int) if labels is None else np.concatenate(labels)
    weights = np.zeros(len(x))
    for label in np.unique(classes):
        of_class = [(classes == label) & (is_second == side) for side in (False, True)]
        for members, others in (of_class, of_class[::-1]):
            if members.any() and others.any():
                weights[members] = 1 / members.sum()
    kept = weights > 0
    x, side, weights = x[kept], is_second[kept], weights[kept]
    score = np.zeros(len(x))
    for fit, held in StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(x, side):
        model = LogisticRegression(C=0.1, max_iter=200)
        model.fit(x[fit], side[fit], sample_weight=weights[fit] * len(fit) / weights[fit].sum())
        score[held] = model.decision_function(x[held])
    weighted = weights / weights.mean()

    def area(counts) -> Any:
        return auroc(score, side, weights=weighted * (1 if counts is None else counts))

    def one(counts):
        return float(area(np.ones((1, len(x))))[0]) if counts is None else area(counts)

    scores = np.full(len(kept), np.nan)
    scores[kept] = score
    estimate = bootstrap({"auroc": one}, (len(x),), seed=seed, replicates=REPLICATES)["auroc"]
    return Comparison(estimate, scores[~is_second], scores[is_second])
