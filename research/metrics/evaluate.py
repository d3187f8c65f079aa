"""Every number about a set of predictions, each with its 95 % interval.

To add a metric: write the function (per-example arrays in, `weights=None` keyword, see
`weighted.py`) and add one line to `TABLE`.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

from research.metrics import calibration, detection, proper, selective
from research.metrics.confidence import average, confidence_on_errors, share_identical
from research.metrics.intervals import Estimate, bootstrap, proportion
from research.metrics.scores import Scores, scores


class Metric(NamedTuple):
    """One line of the table."""

    function: Callable[..., float | np.ndarray]  # (scores, weights) -> float, or [R]
    description: str  # for a person who has never heard of it
    coverage: float | None = None  # a proportion, of this share of the examples: Wilson's interval
    biased: bool = False  # noise adds to it: the basic bootstrap, see intervals.py
    binary_only: bool = False  # for K = 2


TABLE: dict[str, Metric] = {
    "accuracy": Metric(
        lambda s, w: average(s.correct, weights=w),
        "The share of answers that are right.",
        coverage=1.0,
    ),
    "mean_confidence": Metric(
        lambda s, w: average(s.confidence, weights=w),
        "How sure it says it is, on average: the probability it gives its own answer.",
    ),
    "overconfidence": Metric(
        lambda s, w: average(s.confidence - s.correct, weights=w),
        "Mean confidence minus accuracy: above zero it claims more than it delivers.",
    ),
    "confidence_on_errors": Metric(
        lambda s, w: confidence_on_errors(s.confidence, s.correct, weights=w),
        "How sure it says it is, on average, when it is wrong.",
    ),
    **{
        f"share_above_{c}": Metric(
            lambda s, w, c=c: average(s.confidence > c, weights=w),
            f"The share of answers given with more than {100 * c:.6g} % confidence.",
            coverage=1.0,
        )
        for c in (0.99, 0.999, 0.999999)
    },
    "share_identical": Metric(
        lambda s, w: share_identical(s.confidence, weights=w),
        "The share of answers that show one and the same confidence, the most common one.",
        coverage=1.0,
    ),
    "nll": Metric(
        lambda s, w: proper.nll(s.nll, weights=w),
        "Negative log-likelihood, in nats: the average surprise at the right answer. Lower is "
        "better; a sure mistake costs most.",
    ),
    "brier": Metric(
        lambda s, w: proper.brier(s.probs, s.labels, weights=w),
        "Squared distance between the probabilities and the right answer, from 0 (best) to 2.",
    ),
    "brier_reliability": Metric(
        lambda s, w: proper.brier_reliability(s.probs, s.labels, weights=w),
        "The part of the Brier score that comes from probabilities that do not match how often "
        "things happen. 0 is best.",
        biased=True,
    ),
    "brier_resolution": Metric(
        lambda s, w: proper.brier_resolution(s.probs, s.labels, weights=w),
        "The part of the Brier score earned by telling the examples apart. Higher is better.",
        biased=True,
    ),
    "brier_uncertainty": Metric(
        lambda s, w: proper.brier_uncertainty(s.labels, s.probs.shape[1], weights=w),
        "The Brier score of always answering with each class's share: how hard the data are.",
        biased=True,
    ),
    "ece": Metric(
        lambda s, w: calibration.ece(s.confidence, s.correct, weights=w),
        "Expected calibration error of its own answer (top label): how far, on average, the "
        "confidence is from the share that is right. 0 is best.",
        biased=True,
    ),
    "equal_mass_ece": Metric(
        lambda s, w: calibration.equal_mass_ece(s.confidence, s.correct, weights=w),
        "The same error over groups of equal size, so that the crowded end near 100 % is seen "
        "in detail.",
        biased=True,
    ),
    "debiased_ece": Metric(
        lambda s, w: calibration.debiased_ece(s.confidence, s.correct, weights=w),
        "A calibration error (root mean square) with the part that is only noise taken off.",
        biased=True,
    ),
    "class_wise_ece": Metric(
        lambda s, w: calibration.class_wise_ece(s.probs, s.labels, weights=w),
        "The calibration error of the probability given to each class, averaged over classes.",
        biased=True,
    ),
    "positive_class_ece": Metric(
        lambda s, w: calibration.positive_class_ece(s.probs, s.labels, weights=w),
        "The calibration error of the probability given to the second class, where there are two.",
        binary_only=True,
        biased=True,
    ),
    "mce": Metric(
        lambda s, w: calibration.mce(s.confidence, s.correct, weights=w),
        "The calibration error of the worst group of confidences, however few fall in it.",
        biased=True,
    ),
    "ks_error": Metric(
        lambda s, w: calibration.ks_error(s.confidence, s.correct, weights=w),
        "The largest gap between confidence claimed and answers right, added up over the examples "
        "from the least sure to the surest. It needs no groups.",
        biased=True,
    ),
    "aurc": Metric(
        lambda s, w: selective.aurc(s.uncertainty, ~s.correct, weights=w),
        "The share of errors among the answers it is surest of, averaged over how many are kept. "
        "Lower is better.",
    ),
    "e_aurc": Metric(
        lambda s, w: selective.e_aurc(s.uncertainty, ~s.correct, weights=w),
        "The same, less what a perfect ranking of these answers would get. 0 is best.",
    ),
    **{
        f"accuracy_at_coverage_{c}": Metric(
            lambda s, w, c=c: selective.accuracy_at_coverage(
                s.uncertainty, ~s.correct, c, weights=w
            ),
            f"The share right when it answers only the {c:.0%} of examples it is surest of.",
            coverage=c,
        )
        for c in (0.8, 0.9, 0.95)
    },
    "error_auroc": Metric(
        lambda s, w: detection.auroc(s.uncertainty, ~s.correct, weights=w),
        "The chance that a wrong answer comes with more doubt than a right one: 0.5 is a coin "
        "toss, 1 is best.",
    ),
    "error_aupr": Metric(
        lambda s, w: detection.aupr(s.uncertainty, ~s.correct, weights=w),
        "How pure the answers it doubts most are in errors, averaged over how many errors are "
        "found. 1 is best; chance is the share of errors.",
    ),
    "error_fpr95": Metric(
        lambda s, w: detection.fpr95(s.uncertainty, ~s.correct, weights=w),
        "The share of right answers one must question to catch 95 % of the wrong ones.",
    ),
    "entropy": Metric(
        lambda s, w: average(s.entropy, weights=w),
        "How spread out the probabilities are, in nats: 0 is sure.",
    ),
    "expected_entropy": Metric(
        lambda s, w: average(s.expected_entropy, weights=w),
        "The part of that spread which every draw of the model shows: doubt about the example.",
    ),
    "mutual_information": Metric(
        lambda s, w: average(s.mutual_information, weights=w),
        "The part of that spread on which the draws disagree: doubt about the model. 0 for one "
        "draw.",
    ),
}

DESCRIPTIONS: dict[str, str] = {
    **{name: metric.description for name, metric in TABLE.items()},
    "perfectly_calibrated_ece": "The calibration error that chance alone would show, for as many "
    "examples, in a model whose every confidence is right: an error within this range is no error.",
}


def evaluate(
    log_probs: np.ndarray, labels: np.ndarray, *, seed: int = 0, replicates: int = 1000
) -> dict[str, Estimate]:
    """Every metric of `TABLE` that applies, in its order, then `perfectly_calibrated_ece`.

    Args:
        log_probs: [S, N, K] normalised log-probabilities of S draws; -inf is a probability of 0.
        labels: [N] int, 0..K-1.
        seed: seed of the bootstrap and of the simulation.
        replicates: bootstrap resamples, shared by all metrics.

    Returns:
        Estimates by name. A number that is undefined (no errors to detect) or infinite (the NLL of
        a label given probability 0) is None.

    Raises:
        UserError: see `research.metrics.scores.scores`.
    """
    s = scores(log_probs, labels)
    num_examples, num_classes = s.probs.shape
    table = {n: m for n, m in TABLE.items() if num_classes == 2 or not m.binary_only}
    estimates = bootstrap(
        {n: partial(m.function, s) for n, m in table.items() if m.coverage is None},
        (num_examples,),
        biased=frozenset(n for n, m in table.items() if m.biased),
        seed=seed,
        replicates=replicates,
    )
    for name, metric in table.items():
        if metric.coverage is not None:
            trials = int(selective.kept(metric.coverage, num_examples))
            estimates[name] = proportion(float(metric.function(s, None)), trials)
    return {
        **{name: estimates[name] for name in table},
        "perfectly_calibrated_ece": calibration.perfectly_calibrated_ece(
            s.confidence, seed=seed, replicates=replicates
        ),
    }


def nll_change(before: Scores, after: Scores, *, seed: int = 0, replicates: int = 1000) -> Estimate:
    """Mean NLL of `after` minus that of `before`, in nats, by a paired bootstrap.

    Below zero is better. Both find the same images hard, so their losses rise and fall together
    from one resample to the next, and the interval of the difference is far narrower than the two
    intervals side by side suggest.

    Args:
        before: scores of N examples.
        after: scores of the same examples in the same order.
        seed: seed of the resamples.
        replicates: number of resamples.
    """
    with np.errstate(invalid="ignore"):  # two infinite NLLs: their difference is undefined
        difference = after.nll - before.nll  # [N]
    metrics = {"nll_change": lambda weights: proper.nll(difference, weights=weights)}
    sizes = (len(difference),)
    return bootstrap(metrics, sizes, seed=seed, replicates=replicates)["nll_change"]
