"""Platt scaling: a logistic regression of the label on the log-odds, for two classes.

Platt 1999, Probabilistic Outputs for Support Vector Machines:

    p_1 = sigmoid(a f + b),  f = log p_1 - log p_0 of the averaged prediction.

The targets are not 0 and 1 but 1 / (N0 + 2) and (N1 + 1) / (N1 + 2), for N0 and N1 examples of each
class (Platt's equation for t): N examples without a mistake do not show that there will be none. So
a set that is separable has a finite fit too.
"""

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from research.calibrators import Calibrator
from research.calibrators._averaged import averaged
from research.runtime.errors import UserError


def _log_odds(log_probs: np.ndarray) -> np.ndarray:
    """f [N] of log_probs [S, N, 2]."""
    return np.diff(averaged(log_probs), axis=1)[:, 0]


def require_two(num_classes: int) -> None:
    """Demands two classes.

    Raises:
        UserError: there are more.
    """
    if num_classes != 2:
        problem = f"is for two classes, and there are {num_classes}"
        raise UserError("calibrate", problem, "take vector", value="platt")


def platt(log_probs: np.ndarray, labels: np.ndarray) -> Calibrator:
    """Fits a and b to the cross-entropy with the smoothed targets; S' = 1.

    Args:
        log_probs: [S, N, 2] normalised, of the validation split.
        labels: [N] int.

    Raises:
        UserError: there are not two classes.
    """
    require_two(np.shape(log_probs)[-1])
    f = _log_odds(log_probs)
    ones = np.sum(labels)
    targets = np.where(labels, (ones + 1) / (ones + 2), 1 / (len(labels) - ones + 2))  # [N]
    spread = max(f.std(), 1.0)  # the search is over a * spread: better conditioned

    def objective(parameters):
        z = parameters[0] * f / spread + parameters[1]
        error = expit(z) - targets
        return np.mean(np.logaddexp(0, z) - targets * z), np.array(
            [np.mean(error * f) / spread, np.mean(error)]
        )

    found = minimize(
        objective,
        np.array([spread, 0.0]),
        jac=True,
        method="L-BFGS-B",
        options={"ftol": 1e-15, "gtol": 1e-10},
    )
    a, b = found.x[0] / spread, found.x[1]

    def apply(log_probs: np.ndarray) -> np.ndarray:
        z = a * _log_odds(log_probs) + b
        return -np.logaddexp(0, np.stack([z, -z], axis=1))[None]

    return Calibrator(apply, {"a": float(a), "b": float(b)})
