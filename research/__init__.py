"""Candor's library: what a classifier claims, what it delivers, why, and what helps.

Imports nothing from experiments/. In a notebook:

    import research
    research.evaluate(probs, labels)                          # every metric, with intervals
    research.fit("swag", images, labels).predict(new_images)  # any method of the table
    research.assess_predictions(probs, labels)                # the whole report
    research.assess_keras(model, images, labels)              # the same, with causes and remedies
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from research.assessment.arrays import evaluate, fit
    from research.assessment.assess_arrays import assess_keras, assess_predictions

__all__ = ["assess_keras", "assess_predictions", "evaluate", "fit"]


def __getattr__(name: str):
    """The functions for arrays, imported at their first use: `import research` alone is quick."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = "assess_arrays" if name.startswith("assess") else "arrays"
    return getattr(importlib.import_module(f"research.assessment.{module}"), name)
