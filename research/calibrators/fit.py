"""From a line such as `vector,isotonic` to calibrated predictions."""

import importlib
import pkgutil
from collections.abc import Callable
from functools import reduce

import numpy as np

import research.calibrators
from research.calibrators import Calibrator
from research.calibrators.platt import require_two
from research.metrics.scores import scores
from research.runtime.errors import UserError


def calibrator_names() -> list[str]:
    """The names of all files in research/calibrators that are calibrators."""
    names = (module.name for module in pkgutil.iter_modules(research.calibrators.__path__))
    return sorted(name for name in names if not name.startswith("_") and name != "fit")


def parse(text: str) -> tuple[str, ...]:
    """The calibrators of a line, separated by commas, each once; none in an empty line.

    Raises:
        UserError: there is no such calibrator.
    """
    names = tuple(dict.fromkeys(filter(None, (name.strip() for name in text.split(",")))))
    for name in names:
        if name not in calibrator_names():
            known = ", ".join(calibrator_names())
            raise UserError("calibrate", f"there is no calibrator {name}", f"choose from {known}")
    return names


def default(num_classes: int) -> tuple[str, ...]:
    """The calibrators of the baseline by default, besides the temperature, which it always has."""
    return ("platt",) if num_classes == 2 else ()


def check(names: tuple[str, ...], num_classes: int) -> None:
    """Raises before the training what `calibrate` would raise after it.

    Raises:
        UserError: Platt scaling is for two classes.
    """
    if "platt" in names:
        require_two(num_classes)


def _nll(log_probs: np.ndarray, labels: np.ndarray) -> float | None:
    mean = float(np.mean(scores(log_probs, labels).nll))
    return mean if np.isfinite(mean) else None


def calibrate(name: str, log_probs: np.ndarray, labels: np.ndarray) -> Calibrator:
    """Fits a calibrator to the validation split.

    Args:
        name: one of `calibrator_names()`.
        log_probs: [S, N, K] normalised.
        labels: [N] int.

    Returns:
        The calibrator; `fitted` also has `nll_before` and `nll_after` of these same examples, in
        nats, None where infinite.

    Raises:
        UserError: see `research.metrics.predictive.scores`; or the calibrator is not for so many
            classes.
    """
    labels = np.asarray(labels)
    before = _nll(log_probs, labels)
    fit = getattr(importlib.import_module(f"research.calibrators.{name}"), name)
    apply, fitted = fit(log_probs, labels)
    after = _nll(apply(log_probs), labels)
    return Calibrator(apply, {**fitted, "nll_before": before, "nll_after": after})


def calibrate_in_turn(
    names: tuple[str, ...], log_probs: np.ndarray, labels: np.ndarray
) -> Callable[[np.ndarray], np.ndarray]:
    """Fits several calibrators to the validation split, each to what the one before it gives.

    Args:
        names: of calibrators, the first to be applied first; without any nothing changes.
        log_probs: [S, N, K] normalised.
        labels: [N] int.

    Returns:
        A map of log-probabilities [S, N, K] to [S', N, K].
    """
    maps = []
    for name in names:
        maps.append(calibrate(name, log_probs, labels).apply)
        log_probs = maps[-1](log_probs)
    return lambda log_probs: reduce(lambda mapped, apply: apply(mapped), maps, log_probs)


def cross_calibrate(
    name: str, log_probs: np.ndarray, labels: np.ndarray, seed: int = 0
) -> np.ndarray:
    """Calibrated predictions where nothing else is held out: each half by the other's fit.

    Args:
        name: one of `calibrator_names()`.
        log_probs: [S, N, K] normalised, N at least 2.
        labels: [N] int.
        seed: decides which half an example falls into.

    Returns:
        [S', N, K] normalised log-probabilities, float64.
    """
    labels = np.asarray(labels)
    in_second = np.random.default_rng(seed).permutation(len(labels)) % 2 == 1
    halves = np.flatnonzero(~in_second), np.flatnonzero(in_second)
    parts = [
        calibrate(name, log_probs[:, fitted], labels[fitted]).apply(log_probs[:, scored])
        for fitted, scored in (halves, halves[::-1])
    ]
    return np.concatenate(parts, axis=1)[:, np.argsort(np.concatenate(halves[::-1]))]
