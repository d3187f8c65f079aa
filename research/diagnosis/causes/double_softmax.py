"""The softmax was applied twice, or probabilities were read as logits.

A softmax of probabilities q is log q' = q + c: log-probabilities shifted so that they sum to 1 over
the classes are then themselves probabilities, all from 0 to 1. Where a network is confident, almost
all of them are close to 0 or 1; no network that was trained to be right looks so by chance.
"""

import numpy as np
from scipy.special import log_softmax

from research.diagnosis.evidence import Evidence
from research.diagnosis.verdict import Verdict, Verdicts, effect_between
from research.metrics.intervals import proportion

TITLE = "The softmax was applied twice"
FAULT_OF = "output"
ROUNDING = 1e-3
LEAST_IMAGES = 20
FINDING = Verdicts(
    "share of answers that are the softmax of probabilities",
    "every answer, shifted to sum to 1 in logarithms, lies within 0 and 1",
)


def _inner(log_probs: np.ndarray) -> np.ndarray:
    """The log-probabilities [N, K] shifted to sum to 1, as the inner softmax does."""
    x = np.asarray(log_probs, np.float64)
    return x + (1 - x.sum(axis=1, keepdims=True)) / x.shape[1]


def undo(log_probs: np.ndarray) -> np.ndarray:
    """The probabilities below the second softmax, as log-probabilities [N, K]."""
    clipped = np.clip(_inner(log_probs), 1e-7, None)
    return np.log(clipped / clipped.sum(axis=1, keepdims=True))


def examine(evidence: Evidence) -> Verdict:
    """Whether the predictions are a softmax of probabilities."""
    test = evidence.splits["test"]
    x = np.asarray(test.log_probs, np.float64)
    inner, k = _inner(x), x.shape[1]
    fits = (inner.min(axis=1) > -ROUNDING) & (inner.max(axis=1) < 1 + ROUNDING)
    is_confident = inner.max(axis=1) > 0.9
    share = proportion(float(np.mean(fits)), len(fits))
    # All rows fit, and some q are so high that only a second softmax explains why p is not.
    if len(fits) < LEAST_IMAGES or not fits.all() or np.mean(is_confident) <= 0.1:
        return FINDING.absent("Its answers are one softmax of logits.", share)
    top = np.exp(log_softmax(np.eye(k)[0]))[0]
    return FINDING.present(
        f"No answer is surer than {top:.1%}, which is all that a softmax of probabilities can say "
        f"with {k} classes; undone, the answers are probabilities.",
        share,
        effect_between(x, undo(x), test.labels, evidence.seed),
        "Remove one softmax: give the model a linear last layer, or train with from_logits=False.",
        corrected=evidence.transformed(undo),
    )
