"""The verdict on a cause: present, absent, or impossible to tell; and what the cause costs."""

from typing import Any, NamedTuple

import numpy as np

from research.metrics.calibration import ece
from research.metrics.intervals import UNDEFINED, Estimate, bootstrap
from research.metrics.scores import scores

PRESENT, ABSENT, UNKNOWN = "present", "absent", "cannot tell"
LEAST_EFFECT = 0.01  # nats: below this nobody need act
MOST_SUSPECTS = 12  # images to inspect
MOST_OFTEN = 20  # times an image of the rarest kind is learnt
NEEDS_TRAINING = "Needs the training images beside the test images."
REPLICATES = 1000


class Effect(NamedTuple):
    """What the cause adds to the errors on the test split, or hides of them."""

    nll: Estimate  # nats
    ece: float | None


class Verdict(NamedTuple):
    """The finding about one cause.

    Texts name options in backquotes; what prints them turns those into flags (`errors.flags`).
    """

    state: str  # PRESENT, ABSENT or UNKNOWN
    text: str  # the evidence, or what would be needed to tell
    measure: str = ""  # what the number is
    number: Estimate = UNDEFINED
    test: str = ""  # how it was decided
    effect: Effect | None = None  # of a cause that is present
    advice: str = ""
    suspects: tuple[tuple[str, int], ...] = ()  # (split, index) of images to inspect
    heat: np.ndarray | None = None  # [rows, columns]: the importance of each region of the images
    counts: np.ndarray | None = None  # [N] training images: how often each should be learnt
    corrected: Any = None  # Evidence without this cause, for the causes that are examined after it


class Verdicts(NamedTuple):
    """Gives the verdicts of one cause, which share a measure and a test."""

    measure: str
    test: str

    def absent(self, text: str, number: Estimate = UNDEFINED, **fields) -> Verdict:
        """The cause is not there; `fields` are those of `Verdict`."""
        return Verdict(ABSENT, text, self.measure, number, self.test, **fields)

    def unknown(self, text: str, number: Estimate = UNDEFINED) -> Verdict:
        """There is a number, but it does not tell whether the cause is there."""
        return Verdict(UNKNOWN, text, self.measure, number, self.test)

    def present(
        self, text: str, number: Estimate, effect: Effect | None, advice: str, **fields
    ) -> Verdict:
        """The cause is there; `fields` are those of `Verdict`."""
        return Verdict(PRESENT, text, self.measure, number, self.test, effect, advice, **fields)


def unknown(text: str) -> Verdict:
    """Nothing can be told; the text says what would be needed."""
    return Verdict(UNKNOWN, text)


def mean_of(values: np.ndarray, seed: int) -> Estimate:
    """The mean of [N] with its bootstrap interval; undefined of fewer than two."""
    if len(values) < 2 or not np.isfinite(values).all():
        return UNDEFINED

    def mean(weights):
        return np.mean(values) if weights is None else weights @ values / len(values)

    return bootstrap({"mean": mean}, (len(values),), seed=seed, replicates=REPLICATES)["mean"]


def difference_of(a: np.ndarray, b: np.ndarray, seed: int) -> Estimate:
    """mean(a) - mean(b) of samples [N] and [M], resampled apart; undefined of fewer than two."""
    if min(len(a), len(b)) < 2 or not (np.isfinite(a).all() and np.isfinite(b).all()):
        return UNDEFINED
    signed = np.concatenate([a / len(a), -b / len(b)])

    def difference(weights):
        return signed.sum() if weights is None else weights @ signed

    sizes = (len(a), len(b))
    return bootstrap({"d": difference}, sizes, seed=seed, replicates=REPLICATES)["d"]


def scaled(estimate: Estimate, factor: float) -> Estimate:
    """An estimate and its interval, times a number that is not negative."""
    if estimate.value is None:
        return estimate
    value, low, high = estimate.numbers()
    return estimate._replace(value=factor * value, low=factor * low, high=factor * high)


def effect_between(worse: np.ndarray, better: np.ndarray, labels: np.ndarray, seed: int) -> Effect:
    """How much NLL and ECE fall from one set of predictions to another, on the same examples.

    Args:
        worse: log_probs [N, K] with the cause.
        better: without it.
        labels: [N].
        seed: of the resamples.
    """
    before, after = scores(worse[None], labels), scores(better[None], labels)
    change = float(ece(before.confidence, before.correct) - ece(after.confidence, after.correct))
    return Effect(mean_of(before.nll - after.nll, seed), change)


def is_above(estimate: Estimate, limit: float) -> bool:
    """Whether the whole interval lies above a limit."""
    return estimate.low is not None and estimate.low > limit
