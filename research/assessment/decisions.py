"""What the classifier may decide by itself: abstention with a bound, sets with a guarantee.

Thresholds are chosen on the validation images; what they do is counted on the test images.
"""

from collections.abc import Mapping

import numpy as np

from research.data.dataset import Split
from research.metrics.abstention import choose_threshold, summarise_choice
from research.metrics.conformal import KINDS, conformal_sets, fit_conformal, summarise_conformal
from research.metrics.scores import scores

MISS = 0.1  # the share of sets that may lack the right answer


def decide(
    log_probs: Mapping[str, np.ndarray], splits: Mapping[str, Split], max_error: float
) -> dict | None:
    """A method's threshold of abstention and its prediction sets.

    Args:
        log_probs: predictions by split, each [S, N, K].
        splits: labels by split.
        max_error: the error rate allowed among the answers that are given.

    Returns:
        `abstention` (see `summarise_choice`) and `sets` by kind (see `summarise_conformal`); None
        where there are no validation images.
    """
    if "valid" not in log_probs:
        return None
    valid = scores(log_probs["valid"], splits["valid"].labels)
    test = scores(log_probs["test"], splits["test"].labels)
    choice = choose_threshold(valid.uncertainty, ~valid.correct, max_error)
    sets = {}
    for kind in KINDS:
        fit = fit_conformal(log_probs["valid"], splits["valid"].labels, MISS, kind)
        held = conformal_sets(fit, log_probs["test"])
        sets[kind] = summarise_conformal(fit, held, splits["test"].labels)
    return {"abstention": summarise_choice(choice, test.uncertainty, ~test.correct), "sets": sets}
