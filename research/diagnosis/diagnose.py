"""Every cause in `causes/` is examined, and those that are present are ranked.

A cause is a file with a `TITLE`, a sentence in plain English, and `examine(evidence) -> Verdict`. A
new cause is a new file. Faults of what goes into the network or comes out of it
(`FAULT_OF = "input"` or `"output"`) are examined first, in that order: the evidence is corrected
for them before the other causes see it, or they would be taken for faults of the training. Causes
that are present come first, by the NLL that each explains or hides.
"""

import importlib
import pkgutil
from types import ModuleType
from typing import NamedTuple

from research.diagnosis import causes
from research.diagnosis.evidence import Evidence
from research.diagnosis.verdict import ABSENT, PRESENT, UNKNOWN, Verdict

STAGES = ("input", "output", "training")


class Found(NamedTuple):
    """A verdict and its cause."""

    cause: str  # the file's name
    title: str
    verdict: Verdict


def cause_names() -> list[str]:
    """Every file in research/diagnosis/causes."""
    return sorted(module.name for module in pkgutil.iter_modules(causes.__path__))


def load(name: str) -> ModuleType:
    """The module of a cause."""
    return importlib.import_module(f"research.diagnosis.causes.{name}")


def _weight(found: Found) -> float:
    """The NLL that a cause explains; hiding errors counts as much as making them."""
    effect = found.verdict.effect
    return abs(effect.nll.value) if effect and effect.nll.value is not None else 0.0


def diagnose(evidence: Evidence) -> list[Found]:
    """Examines every cause.

    Args:
        evidence: of one classifier.

    Returns:
        Those present, the largest NLL first; then what cannot be told; then what is absent.
    """
    modules = {name: load(name) for name in cause_names()}
    stage = {n: STAGES.index(getattr(m, "FAULT_OF", "training")) for n, m in modules.items()}
    found = []
    for name in sorted(modules, key=lambda name: (stage[name], name)):
        verdict = modules[name].examine(evidence)
        found.append(Found(name, modules[name].TITLE, verdict))
        evidence = verdict.corrected or evidence
    order = {PRESENT: 0, UNKNOWN: 1, ABSENT: 2}
    return sorted(found, key=lambda one: (order[one.verdict.state], -_weight(one)))
