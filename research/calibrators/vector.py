"""Vector scaling: a scale and a bias for every class.

Guo et al. 2017, section 4.2, on log-probabilities in place of logits (which is Dirichlet
calibration with a diagonal matrix, Kull et al. 2019; with two classes, beta calibration, Kull et
al. 2017):

    q = softmax(w * log p + b),  w_k >= 0.

p is the average of the draws: the NLL of q is then convex in (w, b) and has one optimum, which the
NLL of an average of scaled draws has not. The most probable class may change.

With 2K numbers some class is often separable by itself, and its optimum is at infinity. So w - 1/T
and b have a standard normal prior, T the fitted temperature: it weighs as one example does against
N, and where the labels say little the result is temperature scaling. Where the whole set is
separable nothing is fitted, as there.
"""

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax

from research.calibrators import Calibrator
from research.calibrators._averaged import averaged
from research.calibrators.temperature import fit_temperature


def _fit(x: np.ndarray, labels: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """The w and b [K] of largest posterior probability, for x = log p [N, K]."""
    num_examples, num_classes = x.shape
    hits = np.eye(num_classes)[labels]  # [N, K]
    spread = np.maximum(x.std(axis=0), 1.0)  # the search is over w * spread: better conditioned

    def objective(parameters):
        w, b = parameters[:num_classes] / spread, parameters[num_classes:]
        log_q = log_softmax(w * x + b, axis=1)
        off = w - scale
        value = -np.sum(log_q * hits) + (off @ off + b @ b) / 2
        error = np.exp(log_q) - hits
        by_w, by_b = np.sum(error * x, axis=0) + off, error.sum(axis=0) + b
        return value / num_examples, np.concatenate([by_w / spread, by_b]) / num_examples

    found = minimize(
        objective,
        np.concatenate([scale * spread, np.zeros(num_classes)]),
        jac=True,
        method="L-BFGS-B",
        bounds=[(0, None)] * num_classes + [(None, None)] * num_classes,
        options={"ftol": 1e-15, "gtol": 1e-9, "maxiter": 5000, "maxfun": 10000},
    )
    return found.x[:num_classes] / spread, found.x[num_classes:]


def vector(log_probs: np.ndarray, labels: np.ndarray) -> Calibrator:
    """Fits w and b to the NLL of the averaged prediction; S' = 1.

    Args:
        log_probs: [S, N, K] normalised, of the validation split.
        labels: [N] int.
    """
    x = averaged(log_probs)
    start = fit_temperature(x[None], labels)
    separable = start.diverged == -1
    if separable:
        w, b = np.ones(x.shape[1]), np.zeros(x.shape[1])
    else:
        w, b = _fit(x, labels, 1 / start.temperature)
    return Calibrator(
        lambda log_probs: log_softmax(w * averaged(log_probs) + b, axis=1)[None],
        {"scale": w.tolist(), "bias": b.tolist(), "separable": separable},
    )
