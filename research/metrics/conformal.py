"""Split conformal prediction: sets of answers that hold the right one as often as they say.

On n calibration examples the label y gets a score that is high where its probability is low; the
threshold is their ⌈(n + 1)(1 - α)⌉-th smallest score, and a set holds every class whose score is at
most that. If the calibration and the test images are exchangeable, P(label in set) >= 1 - α, over
both of them and whatever the classifier (Vovk et al. 2005; Papadopoulos et al. 2002). Where n <
1/α - 1 there is no such score: the threshold is infinite and every set holds all classes.

- `plain`: 1 - p_y (LAC; Sadinle et al. 2019). The smallest sets on average, but the hard images
  pay for the easy ones. As the score -log p_y, which gives the same sets.
- `adaptive`: the probability of all classes above y, and a random share u of p_y (APS; Romano,
  Sesia & Candès 2020, section 2). Hard images get larger sets. Randomised, or the sets would hold
  too many; a set can then be empty where the classifier is right more often than 1 - α. As the
  score -log(1 - that): what is left, Σ_{j below y} p_j + (1 - u) p_y, does not round off.

RAPS (Angelopoulos et al. 2021) is not offered: its penalty would have to be tuned on yet another
split.

Scores are in logs so that 0.999999 and 0.9999999 stay apart.
"""

from fractions import Fraction
from math import ceil
from typing import Any, NamedTuple

import numpy as np

from research.metrics.intervals import proportion
from research.metrics.scores import predictive, scores
from research.runtime.errors import UserError

KINDS = ("plain", "adaptive")
CALIBRATION, TEST = 0, 1  # the random shares u of the two splits are independent


class Conformal(NamedTuple):
    """A fitted threshold."""

    kind: str
    alpha: float  # the share of sets that may miss the right answer
    threshold: float  # in units of the score; infinite where there are too few examples
    num_calibration: int  # n
    seed: int  # of the adaptive scores' random shares


def _class_scores(log_probs: np.ndarray, kind: str, seed: int, split: int) -> np.ndarray:
    """The score [N, K] of every class of predictive log-probabilities [N, K]."""
    if kind == "plain":
        return -log_probs
    u = np.random.default_rng([seed, split]).random((len(log_probs), 1))  # [N, 1], in [0, 1)
    order = np.argsort(log_probs, axis=1, kind="stable")  # least probable first
    rising = np.take_along_axis(log_probs, order, axis=1)
    below = np.full_like(rising, -np.inf)  # log of the sum over less probable classes
    below[:, 1:] = np.logaddexp.accumulate(rising[:, :-1], axis=1)
    left = np.empty_like(rising)
    np.put_along_axis(left, order, np.logaddexp(below, rising + np.log1p(-u)), axis=1)
    return -left


def fit_conformal(
    log_probs: np.ndarray,
    labels: np.ndarray,
    alpha: float = 0.1,
    kind: str = "plain",
    seed: int = 0,
) -> Conformal:
    """The threshold, from the calibration split.

    Args:
        log_probs: [S, N, K] normalised; the draws are averaged. The classifier must not have been
            fitted to these examples.
        labels: [N] int.
        alpha: the share of sets that may miss the right answer, between 0 and 1.
        kind: `plain` or `adaptive`.
        seed: seed of the adaptive scores' random shares.

    Raises:
        UserError: alpha or kind is out of range, or see `research.metrics.scores.scores`.
    """
    if not 0 < alpha < 1:
        raise UserError("alpha", "not between 0 and 1", "take 0.1, for 90 % sets", value=alpha)
    if kind not in KINDS:
        raise UserError("kind", "unknown", f"choose from {', '.join(KINDS)}", value=kind)
    labels = scores(log_probs, labels).labels
    num_examples = len(labels)
    by_class = _class_scores(predictive(log_probs).log_probs, kind, seed, CALIBRATION)
    rising = np.sort(by_class[np.arange(num_examples), labels])
    # 10 * (1 - 0.7) is not 3 in floating point, and the rank must be right.
    rank = ceil((num_examples + 1) * (1 - Fraction(str(float(alpha)))))
    threshold = rising[rank - 1] if rank <= num_examples else np.inf
    return Conformal(kind, float(alpha), float(threshold), num_examples, seed)


def conformal_sets(fit: Conformal, log_probs: np.ndarray) -> np.ndarray:
    """The sets of new images.

    Args:
        fit: from `fit_conformal`.
        log_probs: [S, N, K] normalised.

    Returns:
        [N, K] bool: the class is in the set.
    """
    by_class = _class_scores(predictive(log_probs).log_probs, fit.kind, fit.seed, TEST)
    return by_class <= fit.threshold


def summarise_conformal(fit: Conformal, sets: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """How often the sets hold the label and how large they are, ready for JSON.

    Args:
        fit: from `fit_conformal`.
        sets: [N, K] bool, from `conformal_sets`.
        labels: [N] int.

    Returns:
        The fit; `vacuous`: every set holds all classes, as there are too few calibration examples;
        `coverage` with Wilson's 95 % interval; `mean_size`; `share_empty`; `share_single`;
        `sizes`, how many sets hold 0, 1, .. K classes; `by_class`, for every true class its
        `count`, `coverage` and `mean_size` (None where there are none); `guarantee`, a sentence.
    """
    labels = np.asarray(labels)
    held = sets[np.arange(len(labels)), labels]
    size = sets.sum(axis=1)
    sizes = np.bincount(size, minlength=sets.shape[1] + 1)
    masks = [labels == k for k in range(sets.shape[1])]
    vacuous, needed = fit.threshold == np.inf, ceil(1 / Fraction(str(fit.alpha))) - 1
    guarantee = (
        f"Over exchangeable images, on average and not for each class or image, at least "
        f"{1 - fit.alpha:.6g} of the sets hold the right answer."
    )
    if fit.num_calibration < needed:
        guarantee += (
            f" With {fit.num_calibration} calibration images only sets of all classes do: it takes "
            f"{needed}."
        )
    return {
        "kind": fit.kind,
        "alpha": fit.alpha,
        "threshold": None if vacuous else fit.threshold,
        "num_calibration": fit.num_calibration,
        "vacuous": vacuous,
        "coverage": proportion(float(held.mean()), len(labels))._asdict(),
        "mean_size": float(size.mean()),
        "share_empty": float(np.mean(size == 0)),
        "share_single": float(np.mean(size == 1)),
        "sizes": sizes.tolist(),
        "by_class": [
            {
                "count": int(mask.sum()),
                "coverage": float(held[mask].mean()) if mask.any() else None,
                "mean_size": float(size[mask].mean()) if mask.any() else None,
            }
            for mask in masks
        ],
        "guarantee": guarantee,
    }
