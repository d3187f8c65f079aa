"""Refuse the least sure x %, and the rest are wrong at most e, with 95 % certainty.

An answer is accepted when its uncertainty u, 1 minus its confidence, is below a threshold τ. Let τ
be the j-th smallest uncertainty of n calibration examples, j fixed beforehand. Given τ, those below
it are an independent sample of all images with u < τ; so of these m, the number k that is wrong is
binomial with the error rate R(τ) of accepted answers, and Clopper & Pearson's (1934) upper bound,
the largest R with P(Binomial(m, R) <= k) >= δ, is exceeded by R(τ) with probability at most δ. The
example at τ, and whatever is tied with it, is refused: a bound that counted it would not be exact.

Choosing among thresholds needs more. Here G shares to refuse are named beforehand and each bound is
taken at δ / G: by the union bound all of them hold at once, whichever is chosen and for whatever
reason. This is Learn then Test (Angelopoulos et al. 2021) with Bonferroni's correction. The
selection with guaranteed risk of Geifman & El-Yaniv 2017 also takes a union bound, over the
⌈log2 n⌉ steps of a bisection; but where it bisects depends on the errors, and the exact argument
above on j fixed. Fixed-sequence testing would spare the correction, but needs thresholds fixed
before the calibration uncertainties are known.

Images must be independent and of the same kind as the calibration images, and the classifier (its
temperature, the epoch that was kept) fitted to others: it is too sure of what it was fitted to.
"""

from typing import Any, NamedTuple

import numpy as np

from research.metrics.intervals import clopper_pearson, upper_bound
from research.runtime.errors import UserError

SHARES = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


class Abstention(NamedTuple):
    """A threshold on the uncertainty, and what holds of the answers below it."""

    threshold: float  # answers of less uncertainty are accepted; 1 accepts all, 0 none
    certainty: float
    share_abstained: float  # of the calibration examples
    accepted: int  # m of them
    errors: int  # k among the accepted
    bound: float  # on the error rate of accepted answers; 1 where it says nothing


class Choice(NamedTuple):
    """The answer to a wish."""

    max_error: float
    chosen: Abstention | None  # the least share that will do; None: none on the list does
    curve: tuple[Abstention, ...]  # every share on the list; all their bounds hold at once


def _check(**shares: float) -> None:
    for name, value in shares.items():
        if not 0 < value < 1:
            raise UserError(name, "not between 0 and 1", "take such as 0.05", value=value)


def abstain_share(
    uncertainty: np.ndarray, wrong: np.ndarray, share: float, certainty: float = 0.95
) -> Abstention:
    """What can be certified when a share, named beforehand, is refused.

    Args:
        uncertainty: uncertainties of the calibration split, [N], in [0, 1): 1 - confidence, or any
            other score that is higher for answers that are less sure.
        wrong: [N] bool.
        share: smallest share of the calibration examples that is refused. At 0 everything is
            accepted; above 0, examples tied with the last one refused are refused too.
        certainty: probability 1 - δ with which the bound holds.

    Raises:
        UserError: there are no examples, or a share is out of range.
    """
    _check(certainty=certainty)
    if not len(uncertainty):
        raise UserError(None, "there are no examples to calibrate on", "give a validation split")
    if not 0 <= share < 1:
        raise UserError("share", "not in 0..1", "take such as 0.1", value=share)
    # Rounded, because 0.1 * 30 is 3.0000000000000004.
    abstained = int(np.ceil(np.round(share * len(uncertainty), 9)))
    threshold = float(np.sort(uncertainty)[-abstained]) if abstained else 1.0
    below = np.asarray(uncertainty) < threshold
    accepted, errors = int(below.sum()), int(np.sum(np.asarray(wrong)[below]))
    bound = upper_bound(errors, accepted, certainty)
    share_abstained = (len(uncertainty) - accepted) / len(uncertainty)
    return Abstention(threshold, certainty, share_abstained, accepted, errors, bound)


def choose_threshold(
    uncertainty: np.ndarray,
    wrong: np.ndarray,
    max_error: float,
    certainty: float = 0.95,
    shares: tuple[float, ...] = SHARES,
) -> Choice:
    """The least share to refuse so that the rest are wrong at most `max_error`.

    Args:
        uncertainty: uncertainties of the calibration split, [N], as `Scores.uncertainty`.
        wrong: [N] bool.
        max_error: e, the error rate allowed among accepted answers.
        certainty: probability with which it holds, whichever share is chosen.
        shares: shares to choose from; each one more makes every bound a little wider.

    Raises:
        UserError: there are no examples, or a share is out of range.
    """
    _check(max_error=max_error, certainty=certainty)
    corrected = 1 - (1 - certainty) / len(shares)
    curve = tuple(
        abstain_share(uncertainty, wrong, share, corrected)._replace(certainty=certainty)
        for share in sorted(shares)
    )
    good = (point for point in curve if point.bound <= max_error)
    return Choice(max_error, next(good, None), curve)


def accept(abstention: Abstention, uncertainty: np.ndarray) -> np.ndarray:
    """Which answers are accepted: [N] bool."""
    return np.asarray(uncertainty) < abstention.threshold


def summarise_abstention(
    abstention: Abstention, uncertainty: np.ndarray, wrong: np.ndarray
) -> dict[str, Any]:
    """What a threshold does on the test split, ready for JSON.

    Args:
        abstention: the threshold, fitted to the calibration split.
        uncertainty: uncertainties of the test split, [N].
        wrong: [N] bool.

    Returns:
        The fields of `Abstention`; `coverage`, the share accepted, and `error`, the share wrong
        among those, each with its exact 95 % interval (None where nothing is accepted);
        `guarantee`, a sentence, None where nothing is certified.
    """
    taken = accept(abstention, uncertainty)
    errors, accepted = int(np.sum(np.asarray(wrong)[taken])), int(taken.sum())
    guarantee = (
        f"With {100 * abstention.certainty:.6g} % certainty, of the answers whose doubt is below "
        f"{abstention.threshold:.3g} at most {100 * abstention.bound:.3g} % are wrong, on "
        "independent images of the same kind as those it was calibrated on."
    )
    return {
        **abstention._asdict(),
        "coverage": clopper_pearson(accepted, len(taken))._asdict(),
        "error": clopper_pearson(errors, accepted)._asdict(),
        "guarantee": guarantee if abstention.bound < 1 else None,
    }


def summarise_choice(choice: Choice, uncertainty: np.ndarray, wrong: np.ndarray) -> dict[str, Any]:
    """The answer to a wish and how it fares on the test split, ready for JSON.

    Returns:
        `max_error`; `possible`; `chosen`, as from `summarise_abstention` (None where impossible);
        `curve`, the `share_abstained` and the `bound` of every share on the list.
    """
    return {
        "max_error": choice.max_error,
        "possible": choice.chosen is not None,
        "chosen": choice.chosen and summarise_abstention(choice.chosen, uncertainty, wrong),
        "curve": [{"share_abstained": r.share_abstained, "bound": r.bound} for r in choice.curve],
    }
