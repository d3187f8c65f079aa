"""How wide the prior N(0, 1/tau) of a weight is: one number, searched on its logarithm.

Either the evidence decides (MacKay 1992, Bayesian Interpolation), in closed form from the
eigenvalues of the GGN; or any function of tau does, such as the NLL of held-out predictions.
"""

from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from tqdm import tqdm

from research.posteriors import ggn
from research.posteriors.curvature import Curvature, spectrum

LOG10_TAU = (-4.0, 6.0)  # a weight's prior standard deviation is between 100 and 0.001


def log_occam_factor(spectra: list, weights_squared: float, tau: float) -> float:
    """What the evidence multiplies the best likelihood by (MacKay 1992), in nats.

        log p(w* | tau) + P/2 log 2 pi - 1/2 log det(GGN + tau I)
            = -tau/2 |w*|^2 - 1/2 sum_i log(1 + lambda_i / tau)

    Args:
        spectra: arrays of eigenvalues, float64 on the host.
        weights_squared: |w*|^2 of the weights that these belong to.
        tau: prior precision, finite.
    """
    volumes = sum(np.sum(np.log1p(values / tau)) for values in spectra)
    return float(-0.5 * tau * weights_squared - 0.5 * volumes)


def minimise(function, accuracy: float | None) -> float:
    """The power of ten within LOG10_TAU at which a function is lowest: a grid, then Brent.

    On a terminal a bar shows how much of the grid is left.
    """
    grid = np.linspace(*LOG10_TAU, round(LOG10_TAU[1] - LOG10_TAU[0]) + 1)
    bar = tqdm(grid, desc="fitting the prior", unit="value", leave=False, disable=None)
    values = [function(u) for u in bar]
    best = int(np.argmin(values))
    if accuracy is None:
        return grid[best]
    bounds = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
    options = {"xatol": accuracy}
    found: Any = minimize_scalar(function, bounds=bounds, method="bounded", options=options)
    return found.x if found.fun < values[best] else grid[best]


def maximise_evidence(params: Any, curvatures: dict[str, Curvature]) -> float:
    """tau of the highest marginal likelihood of the training data, to six digits.

    The evidence has one maximum: its slope in log tau falls everywhere.
    """
    spectra = [np.asarray(spectrum(c), np.float64) for c in curvatures.values()]
    weights = [np.asarray(ggn.to_matrix(params[name]), np.float64) for name in curvatures]
    squares = sum(np.sum(np.square(w)) for w in weights)
    return 10.0 ** minimise(lambda u: -log_occam_factor(spectra, squares, 10.0**u), accuracy=1e-6)
