"""The softmax was applied twice, or probabilities were read as logits.

A softmax of probabilities q is log q' = q + c: log-probabilities shifted so that they sum to 1 over
the classes are then themselves probabilities, all from 0 to 1. Of a network that is sure of itself
almost all of them are close to 0 or 1; no network that was trained to be right looks so by chance.
"""

import numpy as np
from scipy.special import log_softmax

from research.diagnosis.evidence import Evidence
from research.diagnosis.verdict import ABSENT, PRESENT, Verdict, effect_between
from research.metrics.intervals import proportion

TITLE = "The softmax was applied twice"
FAULT_OF = "output"
ROUNDING = 1e-3
LEAST_IMAGES = 20


def undo(log_probs: np.ndarray) -> np.ndarray:
    """The probabilities below the second softmax, as log-probabilities [N, K]."""
    x = np.asarray(log_probs, np.float64)
    inside = x + (1 - x.sum(axis=1, keepdims=True)) / x.shape[1]
    clipped = np.clip(inside, 1e-7, None)
    return np.log(clipped / clipped.sum(axis=1, keepdims=True))


def examine(evidence: Evidence) -> Verdict:
    """Whether the answers are a softmax of probabilities."""
    part = evidence.splits["test"]
    x = np.asarray(part.log_probs, np.float64)
    k = x.shape[1]
    inside = x + (1 - x.sum(axis=1, keepdims=True)) / k  # sums to 1, as q does
    fits = (inside.min(axis=1) > -ROUNDING) & (inside.max(axis=1) < 1 + ROUNDING)
    is_sure = inside.max(axis=1) > 0.9
    share = proportion(float(np.mean(fits)), len(fits))
    # All rows fit, and some q are so sure that a second softmax explains why p is not.
    is_there = len(fits) >= LEAST_IMAGES and fits.all() and np.mean(is_sure) > 0.1
    measure = "share of answers that are the softmax of probabilities"
    test = "every answer, shifted to sum to 1 in logarithms, lies within 0 and 1"
    if not is_there:
        return Verdict(ABSENT, "Its answers are one softmax of logits.", measure, share, test)
    top = np.exp(log_softmax(np.eye(k)[0]))[0]
    return Verdict(
        PRESENT,
        f"No answer is surer than {top:.1%}, which is all that a softmax of probabilities can say "
        f"with {k} classes; undone, the answers are probabilities.",
        measure,
        share,
        test,
        effect_between(x, undo(x), part.labels, evidence.seed),
        "Remove one softmax: give the model a linear last layer, or train with from_logits=False.",
        corrected=evidence.transformed(undo),
    )
