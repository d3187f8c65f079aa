"""Does it doubt strange images more than those of the kind it was trained on?

The images from elsewhere are the positives (Hendrycks & Gimpel 2017). Three scores, each rising
with doubt: `doubt`, 1 - max_k p_k; `entropy` of the predictive distribution; `mutual_information`,
which asks only whether the draws disagree (0 for one draw, so its AUROC is 0.5).
"""

import numpy as np

from research.metrics import detection
from research.metrics.intervals import Estimate, bootstrap
from research.metrics.scores import predictive

MEASURES = {"auroc": detection.auroc, "aupr": detection.aupr, "fpr95": detection.fpr95}


def out_of_distribution(
    log_probs_in: np.ndarray, log_probs_out: np.ndarray, *, seed: int = 0, replicates: int = 1000
) -> dict[str, Estimate]:
    """AUROC, AUPR and FPR95 of each score, named `doubt_auroc` and so on.

    Args:
        log_probs_in: [S, N, K] on the test split.
        log_probs_out: [S, M, K] on images of another kind.
        seed: of the bootstrap; the two sets are resampled each by itself.
        replicates: bootstrap resamples.

    Raises:
        UserError: a row is not a distribution.
    """
    inside, outside = predictive(log_probs_in), predictive(log_probs_out)
    sizes = len(inside.doubt), len(outside.doubt)
    strange = np.repeat([False, True], sizes)
    scores = {
        name: np.concatenate([score(inside), score(outside)])
        for name, score in {
            "doubt": lambda p: p.doubt,
            "entropy": lambda p: p.entropy,
            "mutual_information": lambda p: p.entropy - p.expected_entropy,
        }.items()
    }
    return bootstrap(
        {
            f"{name}_{measure}": lambda w, f=function, s=score: f(s, strange, weights=w)
            for name, score in scores.items()
            for measure, function in MEASURES.items()
        },
        sizes,
        seed=seed,
        replicates=replicates,
    )
