"""Why is it so sure? Every cause in `research/diagnosis/` is asked; those present are ranked.

A cause is a file with a `TITLE`, a sentence in a person's words, and `judge(evidence) -> Verdict`.
A new cause is a new file. Faults of the plumbing (`IS_PLUMBING = True`) are asked first: what they
spoil is mended before anything else is judged, or they would be taken for faults of the training.
Those present come first, by the NLL that each explains or hides.
"""

import importlib
import pkgutil
from types import ModuleType
from typing import NamedTuple

import research.diagnosis
from research.evidence import Evidence
from research.verdict import ABSENT, PRESENT, UNKNOWN, Verdict


class Found(NamedTuple):
    """A verdict and whose it is."""

    cause: str  # the file's name
    title: str
    verdict: Verdict


def cause_names() -> list[str]:
    """Every file in research/diagnosis."""
    return sorted(module.name for module in pkgutil.iter_modules(research.diagnosis.__path__))


def load(name: str) -> ModuleType:
    """The module of a cause."""
    return importlib.import_module(f"research.diagnosis.{name}")


def _weight(found: Found) -> float:
    """The NLL that a cause explains; hiding errors counts as much as making them."""
    effect = found.verdict.effect
    return abs(effect.nll.value) if effect and effect.nll.value is not None else 0.0


def diagnose(evidence: Evidence) -> list[Found]:
    """Asks every cause.

    Args:
        evidence: of one classifier.

    Returns:
        Those present, the weightiest first; then what cannot be told; then what is absent.
    """
    causes = {name: load(name) for name in cause_names()}
    is_plumbing = {name: getattr(cause, "IS_PLUMBING", False) for name, cause in causes.items()}
    found = []
    for name in sorted(causes, key=lambda name: not is_plumbing[name]):
        verdict = causes[name].judge(evidence)
        found.append(Found(name, causes[name].TITLE, verdict))
        evidence = verdict.mended or evidence
    order = {PRESENT: 0, UNKNOWN: 1, ABSENT: 2}
    return sorted(found, key=lambda each: (order[each.verdict.state], -_weight(each)))
