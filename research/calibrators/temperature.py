"""Temperature scaling: every draw's log-probabilities divided by one T, as a calibrator.

Guo et al. 2017. The fit is that of research/methods/temperature.py.
"""

import numpy as np
from scipy.special import log_softmax

from research.calibrators import Calibrator
from research.calibrators._averaged import floored
from research.methods.temperature import fit_temperature


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
        },
    )
