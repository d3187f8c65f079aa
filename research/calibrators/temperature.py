"""Temperature scaling: one number divides the logits, fitted on the validation split.

Guo et al. 2017, On Calibration of Modern Neural Networks: T minimises the validation NLL of
softmax(logits / T); the most probable class stays the same. T > 1 means that the network was too
sure.

The fit works on u = log T in float64, inside a bracket that a grid of values gives: gradient
descent on T in float32 is known to run off to millions, or below zero. With S draws, the NLL is
that of the mean of the S tempered distributions.
"""

from functools import partial
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import brentq, minimize_scalar
from scipy.special import log_softmax, logsumexp
from scipy.stats import chi2

from research.calibrators import Calibrator
from research.calibrators._averaged import floored

LOG_T_BOUND = float(np.log(100.0))  # T from 0.01 to 100; an optimum outside is called divergent


class Fit(NamedTuple):
    """A fitted temperature.

    `low` and `high` bound T at 95 % by profile likelihood; 0 or infinity where the validation set
    does not bound it. `diverged` is -1 when the NLL falls all the way to T = 0 (the validation set
    is separable: every prediction right), +1 when it falls all the way to infinity (no better than
    guessing), else 0. A divergent T is left at 1.
    """

    temperature: float
    low: float
    high: float
    nll_before: float  # nats, at T = 1
    nll_after: float  # nats, at T
    diverged: int


def _nll(log_probs: np.ndarray, labels: np.ndarray, u: float) -> float:
    """Mean NLL at T = exp(u)."""
    tempered = log_softmax(np.exp(-u) * log_probs, axis=-1)  # [S, N, K]
    total = logsumexp(tempered[:, np.arange(len(labels)), labels], axis=0)  # [N]
    return -np.mean(total - np.log(len(log_probs)))


def fit_temperature(log_probs: np.ndarray, labels: np.ndarray) -> Fit:
    """The temperature that minimises the NLL of held-out predictions.

    Args:
        log_probs: [S, N, K] log-probabilities or logits of S draws.
        labels: [N] int.
    """
    nll = partial(_nll, np.asarray(log_probs, np.float64), labels)
    grid = np.linspace(-LOG_T_BOUND, LOG_T_BOUND, 41)
    best = int(np.argmin([nll(u) for u in grid]))
    if best in (0, len(grid) - 1):
        return Fit(1.0, 0.0, np.inf, nll(0.0), nll(0.0), -1 if best == 0 else 1)
    bracket = grid[best - 1], grid[best + 1]
    options = {"xatol": 1e-9}
    found: Any = minimize_scalar(nll, bounds=bracket, method="bounded", options=options)
    u = found.x
    # Profile likelihood: the total NLL rises by half the chi-squared quantile at the interval's
    # ends.
    ceiling = nll(u) + chi2.ppf(0.95, df=1) / 2 / len(labels)

    def excess(v):
        return nll(v) - ceiling

    def crossing(a, b) -> Any:
        return brentq(excess, a, b)

    bound = LOG_T_BOUND
    low = np.exp(crossing(-bound, u)) if excess(-bound) > 0 else 0.0
    high = np.exp(crossing(u, bound)) if excess(bound) > 0 else np.inf
    return Fit(float(np.exp(u)), float(low), float(high), nll(0.0), nll(u), 0)


def temperature(log_probs: np.ndarray, labels: np.ndarray) -> Calibrator:
    """Fits T to the NLL of the mean of the tempered draws; S' = S.

    Where no T is best (`separable`, or no better than guessing), T stays 1.

    Args:
        log_probs: [S, N, K] normalised, of the validation split.
        labels: [N] int.
    """
    fit = fit_temperature(floored(log_probs), labels)
    return Calibrator(
        lambda log_probs: log_softmax(floored(log_probs) / fit.temperature, axis=-1),
        {
            "temperature": fit.temperature,
            "low": fit.low,
            "high": fit.high if np.isfinite(fit.high) else None,
            "separable": fit.diverged == -1,
            "diverged": fit.diverged,
        },
    )
