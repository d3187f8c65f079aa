"""The numbers about a classifier: on the test split, on images of another kind, on corrupted ones.

Ovadia et al. 2019, Can You Trust Your Model's Uncertainty?: accuracy and calibration matter not
only on the test split, but also as the images get worse, and the classifier has to be less certain
of images of another kind (out of distribution, OOD). The OOD score is the entropy of the
prediction.

Over several seeds a number is a mean with Student's interval, which holds the spread from training
to training. Of one seed there is only the bootstrap over its test images, which does not.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np

from research.metrics import detection
from research.metrics.evaluate import TABLE
from research.metrics.intervals import UNDEFINED, Estimate, bootstrap, proportion, student_interval
from research.metrics.scores import predictive, scores

METRICS = ("accuracy", "nll", "ece", "brier", "aurc")
OOD = {"ood_auroc": detection.auroc, "ood_fpr95": detection.fpr95}
CORRUPTED = ("accuracy", "nll", "ece")
NO_MORE_THAN_1 = ("accuracy", "ece", "aurc", "ood_auroc", "ood_fpr95")


class Predicted(NamedTuple):
    """Log-probabilities of the predictive distribution, draws already averaged."""

    test: np.ndarray  # [N, K]
    labels: np.ndarray  # [N]
    ood: np.ndarray | None  # [M, K] on images of another kind
    corrupted: np.ndarray  # [C, L, n, K] of C corruptions at L levels
    corrupted_labels: np.ndarray  # [n]


class _Group(NamedTuple):
    """Metrics that are resampled together."""

    metrics: dict[str, Callable]  # (weights) -> float, or [R]
    sizes: tuple[int, ...]


def _mean_of(functions: list[Callable], weights: np.ndarray | None) -> float | np.ndarray:
    return np.mean([function(weights) for function in functions], axis=0)


def _groups(predicted: Predicted) -> Iterator[_Group]:
    test = scores(predicted.test[None], predicted.labels)
    yield _Group({n: partial(TABLE[n].function, test) for n in METRICS}, (len(test.labels),))

    if predicted.ood is not None:
        entropies = test.entropy, predictive(predicted.ood[None]).entropy
        sizes = len(entropies[0]), len(entropies[1])
        score, is_ood = np.concatenate(entropies), np.repeat([False, True], sizes)
        measures = {
            name: lambda w, f=function: f(score, is_ood, weights=w)
            for name, function in OOD.items()
        }
        yield _Group(measures, sizes)

    corrupted = [
        [scores(level[None], predicted.corrupted_labels) for level in corruption]
        for corruption in predicted.corrupted
    ]
    metrics = {}
    for name in CORRUPTED:
        cells = [[partial(TABLE[name].function, s) for s in levels] for levels in corrupted]
        for level, same_level in enumerate(zip(*cells, strict=True), start=1):
            metrics[f"corrupted_{name}_{level}"] = partial(_mean_of, list(same_level))
        metrics[f"corrupted_{name}"] = partial(_mean_of, [f for levels in cells for f in levels])
    yield _Group(metrics, (len(predicted.corrupted_labels),))


def values(predicted: Predicted) -> dict[str, float]:
    """Every number about a classifier, by name.

    These are `METRICS` on the test split; `ood_auroc` and `ood_fpr95` where there are images of
    another kind; `corrupted_accuracy_1` to `_5`, means over the corruptions at each level, and
    `corrupted_accuracy`, the mean over the levels too; likewise for NLL and ECE.

    Raises:
        UserError: a row is not a distribution, or a label is out of range.
    """
    return {
        name: float(metric(None))
        for group in _groups(predicted)
        for name, metric in group.metrics.items()
    }


def bootstrapped(
    predicted: Predicted, *, seed: int = 0, replicates: int = 1000
) -> dict[str, Estimate]:
    """The numbers of `values` with 95 % intervals over the images.

    All corruptions of an image are resampled together with it.

    Args:
        predicted: the predictions of one training.
        seed: of the bootstrap.
        replicates: the number of resamples.
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


def over_seeds(name: str, values: list[float]) -> Estimate:
    """The mean of a metric over seeds, with Student's 95 % interval where there are two or more.

    The interval is cut where the metric itself ends, at 0 and for shares at 1.

    Args:
        name: of the metric.
        values: the number at each seed.
    """
    if not np.all(np.isfinite(values)):
        return UNDEFINED
    is_share = any(part in name for part in NO_MORE_THAN_1)
    return student_interval(np.array(values), 0.0, 1.0 if is_share else np.inf)
