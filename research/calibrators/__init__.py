"""Post-hoc calibration: predictions in, predictions out; the network stays as it is.

One file per calibrator, found by its name: `research/calibrators/NAME.py` holds the function
`NAME(log_probs, labels)`, which is fitted to the validation split alone. Files whose names begin
with an underscore are shared by several of them.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class Calibrator(NamedTuple):
    """A fitted map of predictions.

    `apply` takes log_probs [S, N, K] of any split and gives [S', N, K] float64, normalised and
    finite. S' is S where each draw is mapped by itself, and 1 where their average is mapped: the
    disagreement of the draws is then part of that one distribution.
    """

    apply: Callable[[np.ndarray], np.ndarray]
    fitted: dict[str, Any]  # what was fitted, ready for JSON
