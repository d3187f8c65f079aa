"""A kind of images was rare in training, and is not now: it has hardly learnt that kind.

The features are clustered (k-means over all splits), and the counts of the clusters in the test
split are set against what their shares in training lead one to expect (a chi-square test). Where
those kinds of images cost more than the others, and cost a careful head more too, that is the
fault. Shares are counted within classes, because rare classes have a cause of their own
(`class_balance.py`), and so have kinds that the validation images lack too (`shifted_images.py`).
"""

import numpy as np
from scipy.stats import chi2_contingency
from sklearn.cluster import KMeans

from research import words
from research.evidence import Evidence
from research.metrics.intervals import Estimate
from research.verdict import (
    ABSENT,
    LEAST_EFFECT,
    PRESENT,
    Effect,
    Verdict,
    difference_of,
    is_above,
    scaled,
    unknown,
)

TITLE = "A kind of images was too rare in training"
REMEDIES = ("point(weight_decay=0.1)", "ensemble(point,num_members=5)")
GROUPS = 8
COMPONENTS = 16
LEAST_IMAGES = 200
LEAST_RATIO = 3.0
LEAST_P = 1e-4
LEAST_IN_VALID = 0.5  # of the share in the test images
MOST_OFTEN = 20  # an image is learnt, of the rarest kind
MOST_SUSPECTS = 12


def _groups(inputs: dict[str, np.ndarray], seed: int) -> dict[str, np.ndarray]:
    """The cluster of each example, by split."""
    names = list(inputs)
    x = np.concatenate([inputs[name][:, :COMPONENTS] for name in names]).astype(np.float64)
    found = KMeans(GROUPS, n_init=3, random_state=seed).fit_predict(x)
    ends = np.cumsum([len(inputs[name]) for name in names])
    return dict(zip(names, np.split(found, ends[:-1]), strict=True))


def judge(evidence: Evidence) -> Verdict:
    """Whether kinds of images that are frequent now were rare in training."""
    if (refits := evidence.refits) is None:
        return unknown("Needs the training images beside the test images.")
    sizes = {name: len(labels) for name, labels in refits.labels.items()}
    if min(sizes["train"], sizes["test"]) < LEAST_IMAGES:
        return unknown(f"Needs {LEAST_IMAGES} training images and as many test images.")
    groups = _groups(refits.inputs, evidence.seed)
    k = len(evidence.classes)
    train, test = (
        np.bincount(refits.labels[n] * GROUPS + groups[n], minlength=k * GROUPS).reshape(k, GROUPS)
        for n in ("train", "test")
    )
    # What the training shares lead one to expect, with as many of each class as there are now; one
    # image more in each group, so that what was never seen is not infinitely rarer.
    share = (train + 1) / (train.sum(axis=1, keepdims=True) + GROUPS)
    expected = (share * test.sum(axis=1, keepdims=True)).sum(axis=0)
    seen = test.sum(axis=0)
    p = chi2_contingency(np.stack([expected, seen]) + 1).pvalue
    is_rare = seen + 1 >= LEAST_RATIO * (expected + 1)
    of_kind = {name: is_rare[group] for name, group in groups.items()}
    in_train, in_test = (of_kind[name].mean() for name in ("train", "test"))
    times = float((seen[is_rare].sum() + 1) / (expected[is_rare].sum() + 1))
    measure = "how much rarer those kinds of images were in training"
    name = "chi-square of the counts of clusters; bootstrap of their NLL"
    number = Estimate(times, None, None, "none")
    text = (
        f"Of {GROUPS} kinds of images {int(is_rare.sum())} make up {words.percent(in_train)} of "
        f"the training and {words.percent(in_test)} of the test images."
    )
    is_known = of_kind["valid"].mean() >= LEAST_IN_VALID * in_test
    if p > LEAST_P or not is_rare.any() or not is_known:
        return Verdict(ABSENT, text, measure, number, name)
    part, now = evidence.parts["test"], of_kind["test"]
    as_it_is, careful = evidence.said["test"].nll, refits.healthy.nll("test", part.labels)
    worse, still_worse = (
        difference_of(nll[now], nll[~now], evidence.seed) for nll in (as_it_is, careful)
    )
    cost = scaled(worse, float(in_test))
    if not (is_above(cost, LEAST_EFFECT) and is_above(still_worse, LEAST_EFFECT)):
        return Verdict(ABSENT, text + " It does as well on those.", measure, number, name)
    often = np.where(of_kind["train"], min(MOST_OFTEN, round(times)), 1)
    shown = np.flatnonzero(now)[:MOST_SUSPECTS]
    return Verdict(
        PRESENT,
        f"{text} NLL {words.number(as_it_is[now].mean())} on those, "
        f"{words.number(as_it_is[~now].mean())} on the others.",
        measure,
        number,
        name,
        Effect(cost, None),
        "Add images of the kinds shown to the training images.",
        tuple(("test", int(i)) for i in shown),
        counts=often,
    )
