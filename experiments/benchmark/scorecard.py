"""How a classifier does on images of its own kind, of another kind, and made worse.

Ovadia et al. 2019, Can You Trust Your Model's Uncertainty?: what matters is not only how right and
how honest it is on the test split, but whether it stays so as the images get worse, and whether it
doubts what it has never seen. Out of distribution is told by the entropy of the prediction.

Over several seeds a number is a mean with Student's interval, mean ± t(0.975, n-1) s/√n: it holds
the spread from training to training. One seed has only the bootstrap over its test images, which
says nothing of that.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np

from research.metrics import detection
from research.metrics.evaluate import TABLE
from research.metrics.intervals import (
    UNDEFINED,
    Estimate,
    bootstrap,
    proportion,
    student_interval,
)
from research.metrics.scores import predictive, scores

METRICS = ("accuracy", "nll", "ece", "brier", "aurc")
OUTSIDE = {"ood_auroc": detection.auroc, "ood_fpr95": detection.fpr95}
WORSE = ("accuracy", "nll", "ece")
NO_MORE_THAN_1 = ("accuracy", "ece", "aurc", "ood_auroc", "ood_fpr95")


class Predicted(NamedTuple):
    """Log-probabilities of the predictive distribution, draws already averaged."""

    test: np.ndarray  # [N, K]
    labels: np.ndarray  # [N]
    outside: np.ndarray | None  # [M, K] on images of another kind
    worse: np.ndarray  # [C, L, n, K] of C corruptions at L levels
    worse_labels: np.ndarray  # [n]


class _Group(NamedTuple):
    """Metrics that are resampled together."""

    metrics: dict[str, Callable]  # (weights) -> float, or [R]
    sizes: tuple[int, ...]


def _mean_of(functions: list[Callable], weights: np.ndarray | None) -> float | np.ndarray:
    return np.mean([function(weights) for function in functions], axis=0)


def _groups(predicted: Predicted) -> Iterator[_Group]:
    inside = scores(predicted.test[None], predicted.labels)
    yield _Group({n: partial(TABLE[n].function, inside) for n in METRICS}, (len(inside.labels),))

    if predicted.outside is not None:
        entropies = inside.entropy, predictive(predicted.outside[None]).entropy
        sizes = len(entropies[0]), len(entropies[1])
        score, strange = np.concatenate(entropies), np.repeat([False, True], sizes)
        measures = {
            name: lambda w, f=function: f(score, strange, weights=w)
            for name, function in OUTSIDE.items()
        }
        yield _Group(measures, sizes)

    worse = [
        [scores(level[None], predicted.worse_labels) for level in corruption]
        for corruption in predicted.worse
    ]
    metrics = {}
    for name in WORSE:
        cells = [[partial(TABLE[name].function, s) for s in levels] for levels in worse]
        for level, same in enumerate(zip(*cells, strict=True), start=1):
            metrics[f"corrupted_{name}_{level}"] = partial(_mean_of, list(same))
        metrics[f"corrupted_{name}"] = partial(_mean_of, [f for levels in cells for f in levels])
    yield _Group(metrics, (len(predicted.worse_labels),))


def values(predicted: Predicted) -> dict[str, float]:
    """Every number of the card.

    `METRICS` on the test split; `ood_auroc` and `ood_fpr95` where there are images of another kind;
    `corrupted_accuracy_1` to `_5`, means over the corruptions, and `corrupted_accuracy`, over the
    levels too; likewise of NLL and ECE.

    Raises:
        UserError: see `research.metrics.predictive.scores`.
    """
    return {
        name: float(metric(None))
        for group in _groups(predicted)
        for name, metric in group.metrics.items()
    }


def bootstrapped(
    predicted: Predicted, *, seed: int = 0, replicates: int = 1000
) -> dict[str, Estimate]:
    """The same with 95 % intervals over the images.

    All corruptions of an image are resampled with it.

    Args:
        predicted: of one training.
        seed: of the resamples.
        replicates: how many.
    """
    estimates = {}
    for group in _groups(predicted):
        estimates |= bootstrap(
            group.metrics,
            group.sizes,
            biased=frozenset(name for name in group.metrics if "ece" in name),
            seed=seed,
            replicates=replicates,
        )
    # A bootstrap of a sample without errors would be sure of 100 %.
    accuracy = estimates["accuracy"].value
    return estimates | {"accuracy": proportion(accuracy, len(predicted.labels))}


def over_seeds(name: str, each: list[float]) -> Estimate:
    """The mean of a number over two seeds or more, with Student's 95 % interval.

    The interval is cut where the metric itself ends, at 0 and for shares at 1.

    Args:
        name: of the metric.
        each: the number at each seed.
    """
    if not np.all(np.isfinite(each)):
        return UNDEFINED
    is_share = any(part in name for part in NO_MORE_THAN_1)
    return student_interval(np.array(each), 0.0, 1.0 if is_share else np.inf)
