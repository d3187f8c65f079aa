"""Are two samples of the same kind? A classifier two-sample test (Lopez-Paz & Oquab 2017).

A logistic regression, cross-validated, tells the one from the other. Where it can, its AUROC is
above one half.
"""

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold

from research.metrics.detection import auroc
from research.metrics.intervals import Estimate, bootstrap

FOLDS, REPLICATES = 5, 200


def two_sample_test(
    x: np.ndarray, is_second: np.ndarray, labels: np.ndarray, *, seed: int
) -> tuple[Estimate, np.ndarray]:
    """How well the samples are told apart, class by class.

    Args:
        x: features [N, D] of both samples.
        is_second: [N] bool; five of each sample at least.
        labels: [N] int; every class weighs the same in both samples, and one that is missing from
            either is left out.
        seed: of the folds and the resamples.

    Returns:
        The AUROC with its bootstrap interval, and the score of each example [N], held out: the
        higher, the more it looks like the second sample (nan where it was left out).
    """
    weights = np.zeros(len(x))
    for label in np.unique(labels):
        of_class = [(labels == label) & (is_second == side) for side in (False, True)]
        for members, others in (of_class, of_class[::-1]):
            if members.any() and others.any():
                weights[members] = 1 / members.sum()
    kept = weights > 0
    x, is_second, weights = x[kept], is_second[kept], weights[kept]
    score = np.zeros(len(x))
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    for fit, held in folds.split(x, is_second):
        model = LogisticRegression(C=0.1, max_iter=200)
        told = weights[fit] * len(fit) / weights[fit].sum()
        model.fit(x[fit], is_second[fit], sample_weight=told)
        score[held] = model.decision_function(x[held])
    weighted = weights / weights.mean()

    def area(counts):
        return auroc(score, is_second, weights=weighted * (1 if counts is None else counts))

    def one(counts):
        return float(area(np.ones((1, len(x))))[0]) if counts is None else area(counts)

    scores = np.full(len(kept), np.nan)
    scores[kept] = score
    return bootstrap({"auroc": one}, (len(x),), seed=seed, replicates=REPLICATES)["auroc"], scores
