"""Two methods on the same examples: the difference, with an interval of its own.

Both methods find the same images hard, so their scores rise and fall together from one resample to
the next. The interval of the difference is then far narrower than the two intervals side by side
suggest: overlapping intervals do not mean that the methods may be equal.
"""

import numpy as np

from research.metrics import proper
from research.metrics.intervals import Estimate, bootstrap
from research.metrics.scores import Scores


def nll_change(before: Scores, after: Scores, *, seed: int = 0, replicates: int = 1000) -> Estimate:
    """Mean NLL of `after` minus that of `before`, in nats; below zero is better.

    Args:
        before: of N examples.
        after: of the same examples in the same order.
        seed: of the resamples.
        replicates: how many.
    """
    with np.errstate(invalid="ignore"):  # two infinite NLLs: their difference is undefined
        difference = after.nll - before.nll  # [N]
    metrics = {"nll_change": lambda weights: proper.nll(difference, weights=weights)}
    sizes = (len(difference),)
    return bootstrap(metrics, sizes, seed=seed, replicates=replicates)["nll_change"]
