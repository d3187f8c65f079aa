"""How far a number may be off, at 95 %.

A proportion takes the Wilson (1927) interval: a bootstrap of a sample without errors would say
[100 %, 100 %]. A number that is about right on average takes the bias-corrected percentile
bootstrap (Efron 1981): with z0 = Φ⁻¹(share of replicates below the value), from the percentile
Φ(2 z0 - 1.96) to Φ(2 z0 + 1.96).

An error over bins is not right on average: noise adds to it, and resampling adds noise once more.
Where that bias nears two standard errors, Efron's percentiles run off the end of the replicates
and the interval shrinks to nothing. Such a number takes the basic bootstrap (Davison & Hinkley
1997, section 5.2), 2 value - q(0.975) to 2 value - q(0.025), which takes the bias off; it is
stretched to hold the value itself, and stops at 0.

The mean of a number over several seeds takes Student's interval, mean ± t(0.975, R - 1) s/√R.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
from scipy.special import ndtr, ndtri
from scipy.stats import beta
from scipy.stats import t as student

Z = ndtri(0.975)
CHUNK_BYTES = 16_000_000  # of weights at a time; a metric's own arrays are a few times that


class Estimate(NamedTuple):
    """A number and its 95 % interval; all None where the number is undefined or infinite."""

    value: float | None
    low: float | None
    high: float | None
    interval: str  # where it comes from, such as one of the names below

    def numbers(self) -> tuple[float, float, float]:
        """Value, low and high of an estimate that has all three.

        Raises:
            ValueError: one is None.
        """
        if self.value is None or self.low is None or self.high is None:
            raise ValueError(f"{self} is undefined or has no interval")
        return self.value, self.low, self.high


WILSON = "Wilson"
EXACT = "Clopper-Pearson"
BIAS_CORRECTED = "bias-corrected bootstrap"
BASIC = "basic bootstrap"
SIMULATED = "simulation"
OVER_SEEDS = "Student's t over seeds"
NO_INTERVAL = "none"
UNDEFINED = Estimate(None, None, None, "undefined")


def wilson(
    successes: np.ndarray | float, trials: np.ndarray | float
) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's (1927) 95 % interval of a proportion, low and high; `trials` > 0.

    (p + z²/2n ± z sqrt(p (1 - p)/n + z²/4n²)) / (1 + z²/n)

    It is written out because SciPy's `binomtest` takes one whole number of successes at a time:
    here bins come at once, and ties cut through by a coverage leave fractions of a success.
    """
    p = successes / trials
    centre = p + Z**2 / (2 * trials)
    half = Z * np.sqrt(p * (1 - p) / trials + Z**2 / (4 * trials**2))
    scale = 1 + Z**2 / trials
    return np.clip((centre - half) / scale, 0.0, p), np.clip((centre + half) / scale, p, 1.0)


def proportion(value: float, trials: int) -> Estimate:
    """A share of `trials` examples with Wilson's interval."""
    low, high = wilson(value * trials, trials)
    return Estimate(value, float(low), float(high), WILSON)


def upper_bound(successes: int, trials: int, certainty: float) -> float:
    """Clopper & Pearson's (1934) one-sided upper bound on a proportion; 1 where all succeed.

    SciPy's `binomtest` finds the same number by a search that takes sixteen times as long.
    """
    if successes == trials:  # also where there are none
        return 1.0
    return float(beta.ppf(certainty, successes + 1, trials - successes))


def clopper_pearson(successes: int, trials: int, certainty: float = 0.975) -> Estimate:
    """A proportion with its exact interval; all None without trials.

    Args:
        successes: number of successes.
        trials: number of trials.
        certainty: that of each end by itself; the default gives a two-sided 95 % interval.
    """
    if not trials:
        return Estimate(None, None, None, EXACT)
    low = 1 - upper_bound(trials - successes, trials, certainty)
    return Estimate(successes / trials, low, upper_bound(successes, trials, certainty), EXACT)


def student_interval(
    values: np.ndarray, lowest: float = -np.inf, highest: float = np.inf
) -> Estimate:
    """The mean of one number a seed with Student's interval; a single seed has no interval.

    Args:
        values: numbers [R], one a seed.
        lowest: the least possible value; the interval stops there.
        highest: the largest possible value.
    """
    mean, count = float(np.mean(values)), len(values)
    if count < 2:
        return Estimate(mean, None, None, NO_INTERVAL)
    half = float(student.ppf(0.975, count - 1) * np.std(values, ddof=1) / np.sqrt(count))
    return Estimate(mean, max(mean - half, lowest), min(mean + half, highest), OVER_SEEDS)


def chunks(replicates: int, num_examples: int) -> Iterator[int]:
    """How many replicates to hold at a time, so that memory stays small."""
    size = max(1, CHUNK_BYTES // (8 * num_examples))
    for start in range(0, replicates, size):
        yield min(size, replicates - start)


def resamples(
    generator: np.random.Generator, sizes: tuple[int, ...], replicates: int
) -> Iterator[np.ndarray]:
    """Counts [r, N] of bootstrap resamples, in chunks that add up to `replicates` rows.

    `sizes` add up to N: each part is resampled by itself. The rows do not depend on the chunks.
    """
    for chunk in chunks(replicates, sum(sizes)):
        counts = [
            np.concatenate([np.bincount(generator.integers(n, size=n), minlength=n) for n in sizes])
            for _ in range(chunk)
        ]
        # Examples vary slowest in memory: sums per bin then run along the replicates.
        yield np.stack(counts, axis=1).astype(np.float64).T


def bias_corrected(value: float, replicates: np.ndarray) -> tuple[float, float]:
    """Efron's (1981) interval of `value`, from its replicates [R]."""
    below = np.mean(replicates < value) + 0.5 * np.mean(replicates == value)
    z0 = ndtri(np.clip(below, 0.5 / len(replicates), 1 - 0.5 / len(replicates)))
    low, high = np.quantile(replicates, ndtr([2 * z0 - Z, 2 * z0 + Z]))
    return min(float(low), value), max(float(high), value)


def basic(value: float, replicates: np.ndarray) -> tuple[float, float]:
    """The basic bootstrap interval of a `value` that is never below 0, from its replicates [R]."""
    low, high = 2 * value - np.quantile(replicates, [0.975, 0.025])
    return min(max(float(low), 0.0), value), max(float(high), value)


def bootstrap(
    metrics: Mapping[str, Callable[[np.ndarray | None], float | np.floating | np.ndarray]],
    sizes: tuple[int, ...],
    *,
    biased: frozenset[str] = frozenset(),
    seed: int,
    replicates: int,
) -> dict[str, Estimate]:
    """Values and intervals of many metrics from the same resamples.

    Args:
        metrics: by name, functions of the weights alone: None gives a float, [R, N] gives [R].
        sizes: sizes of the parts that are resampled by themselves, as in `resamples`.
        biased: names that take the basic interval.
        seed: seed of the resamples.
        replicates: R.
    """
    values = {name: float(metric(None)) for name, metric in metrics.items()}
    defined = [name for name in metrics if np.isfinite(values[name])]
    parts = [
        [metrics[name](weights) for name in defined]
        for weights in resamples(np.random.default_rng(seed), sizes, replicates)
    ]
    estimates = dict.fromkeys(metrics, UNDEFINED)
    for name, *chunk in zip(defined, *parts, strict=True):
        drawn = np.concatenate(chunk)
        drawn = drawn[np.isfinite(drawn)]  # a resample may hold no errors at all
        interval, kind = (basic, BASIC) if name in biased else (bias_corrected, BIAS_CORRECTED)
        ends = interval(values[name], drawn) if drawn.size else (None, None)
        estimates[name] = Estimate(values[name], *ends, kind)
    return estimates
