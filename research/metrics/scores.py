"""From S draws of log-probabilities to one predictive distribution an example, right at 0.999999.

A float32 softmax that is sure gives its top class a log-probability of 0, as if p were 1; the other
classes' log-probabilities are still exact. So each draw is normalised again in float64, with the
top class's computed from the others: log p_top = -log1p(Σ_{k≠top} exp(x_k - x_top)). Draws are
averaged as probabilities, p = 1/S Σ_s p_s, never as logits nor as log-probabilities
(Lakshminarayanan et al. 2017, section 2.4).

Uncertainty splits as H[p] = 1/S Σ_s H[p_s] + MI: the total is what the draws agree on (expected
entropy) plus what they disagree on (mutual information; Houlsby et al. 2011).
"""

from typing import NamedTuple

import numpy as np

from research.runtime.errors import UserError


class Scores(NamedTuple):
    """What the metrics see: per-example arrays in float64."""

    labels: np.ndarray  # [N] int
    probs: np.ndarray  # [N, K] predictive probabilities
    confidence: np.ndarray  # [N] probability of the predicted class
    uncertainty: np.ndarray  # [N] 1 - confidence, without cancellation: it tells 1e-20 from 1e-30
    correct: np.ndarray  # [N] bool: the predicted class is the label
    nll: np.ndarray  # [N] nats; infinite where the label was given probability 0
    entropy: np.ndarray  # [N] nats, of the predictive distribution
    expected_entropy: np.ndarray  # [N] nats, the mean entropy of one draw
    mutual_information: np.ndarray  # [N] nats, never negative


class Predictive(NamedTuple):
    """The predictive distribution, where there need be no labels."""

    log_probs: np.ndarray  # [N, K] float64
    top: np.ndarray  # [N] int: the predicted class, the first of tied ones
    uncertainty: np.ndarray  # [N]
    entropy: np.ndarray  # [N] nats
    expected_entropy: np.ndarray  # [N] nats, at most the entropy


def normalise(log_probs: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log-probabilities [N, K] float64 that sum to 1, the top class [N], and its uncertainty [N].

    Uncertainty is 1 - p_top = r / (1 + r), with r = Σ_{k≠top} exp(x_k - x_top).
    """
    x = np.asarray(log_probs, np.float64)
    top = np.argmax(x, axis=1)[:, None]  # [N, 1]
    x = x - np.take_along_axis(x, top, axis=1)
    others = np.exp(x)
    np.put_along_axis(others, top, 0.0, axis=1)
    rest = others.sum(axis=1)  # [N]
    return x - np.log1p(rest)[:, None], top[:, 0], rest / (1 + rest)


def shannon_entropy(log_probs: np.ndarray) -> np.ndarray:
    """-Σ_k p_k log p_k [N], in nats, of log-probabilities [N, K]; 0 log 0 is 0."""
    probs = np.exp(log_probs)
    return -np.sum(np.multiply(probs, log_probs, out=np.zeros_like(probs), where=probs > 0), axis=1)


def predictive(log_probs: np.ndarray) -> Predictive:
    """The average of S draws, and how far they agree.

    Args:
        log_probs: [S, N, K] normalised, in float32 or float64; -inf is a probability of 0.

    Raises:
        UserError: a row is not a distribution (NaN, +inf, or all -inf).
    """
    log_probs = np.asarray(log_probs)
    broken = ~np.isfinite(log_probs.max(axis=2))  # [S, N]; a NaN anywhere in a row is its maximum
    if broken.any():
        raise UserError(
            None,
            f"predictions: example {np.nonzero(broken)[1][0]} has NaN or infinite scores "
            f"({broken.any(axis=0).sum()} such examples)",
            "check the model's weights and its inputs",
        )
    total = np.full(log_probs.shape[1:], -np.inf)  # [N, K]
    expected_entropy = np.zeros(len(total))
    for draw in log_probs:  # one at a time: S float64 copies might not fit
        normalised = normalise(draw)[0]
        total = np.logaddexp(total, normalised)
        expected_entropy += shannon_entropy(normalised) / len(log_probs)
    averaged, top, uncertainty = normalise(total)
    entropy = shannon_entropy(averaged)
    # Entropy is concave, so the expected one is the smaller but for rounding, and one draw has no
    # other to disagree with.
    expected_entropy = np.minimum(expected_entropy, entropy) if len(log_probs) > 1 else entropy
    return Predictive(averaged, top, uncertainty, entropy, expected_entropy)


def disagreement(log_probs: np.ndarray) -> float:
    """How far one draw is from the mean of all: the mean total variation distance, 0 to 1.

    Args:
        log_probs: [S, N, K] normalised.
    """
    probs = np.exp(np.asarray(log_probs, np.float64))
    return float(np.mean(np.abs(probs - probs.mean(axis=0)).sum(axis=-1)) / 2)


def scores(log_probs: np.ndarray, labels: np.ndarray) -> Scores:
    """The per-example arrays that every metric is a function of.

    Args:
        log_probs: [S, N, K].
        labels: [N] int, 0..K-1.

    Raises:
        UserError: there are no examples, labels and predictions differ in number, a label is out of
            range, or a row of log-probabilities is not a distribution.
    """
    labels = np.asarray(labels)
    _, num_examples, num_classes = np.shape(log_probs)
    if not num_examples or labels.shape != (num_examples,):
        what = f"predictions: {num_examples} predictions for labels of shape {labels.shape}"
        raise UserError(None, what, "there must be at least one example, and one label for each")
    if labels.min() < 0 or labels.max() >= num_classes:
        what = f"labels: they run from {labels.min()} to {labels.max()}"
        what += f", but the predictions have {num_classes} classes"
        raise UserError(None, what, f"number the classes from 0 to {num_classes - 1}")
    p = predictive(log_probs)
    return Scores(
        labels=labels,
        probs=np.exp(p.log_probs),
        confidence=1 - p.uncertainty,
        uncertainty=p.uncertainty,
        correct=p.top == labels,
        nll=-p.log_probs[np.arange(num_examples), labels],
        entropy=p.entropy,
        expected_entropy=p.expected_entropy,
        mutual_information=p.entropy - p.expected_entropy,
    )
