"""Confidence on the scale where saturated answers differ: the decades of the doubt.

On a scale from 0 to 1 every answer of a saturated classifier falls in the last bin. What differs
is the doubt d = 1 - confidence: 0.99 claims one mistake in a hundred, 0.999999 one in a million. So
the bins are decades of log10 d, with one more edge at 50 % confidence.
"""

import numpy as np

LOG_DOUBT_EDGES = (-8.0, -7.0, -6.0, -5.0, -4.0, -3.0, -2.0, -1.0, float(np.log10(0.5)), 0.0)


def histogram(doubt: np.ndarray, correct: np.ndarray) -> dict:
    """Counts right and wrong answers by decade of doubt.

    Args:
        doubt: [N], 1 minus the confidence in the predicted class, computed without cancellation
            (`metrics.predictive.scores` gives it); 0 to 1.
        correct: [N] bool.

    Returns:
        `edges` [10] (log10 of the doubt; the first bin also holds every smaller doubt, and a doubt
        on an edge belongs to the bin below it), `right` [9] and `wrong` [9] counts.
    """
    inner_edges = 10.0 ** np.asarray(LOG_DOUBT_EDGES[1:-1])
    bins = np.searchsorted(inner_edges, doubt, side="left")  # [N]
    count = len(inner_edges) + 1
    return {
        "edges": list(LOG_DOUBT_EDGES),
        "right": np.bincount(bins[correct], minlength=count).tolist(),
        "wrong": np.bincount(bins[~correct], minlength=count).tolist(),
    }
