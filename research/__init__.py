"""Candor's library: what a classifier claims, what it delivers, why, and what helps.

Imports nothing from experiments/. In a notebook:

    import research
    research.evaluate(probs, labels)
    research.fit("swag", images, labels).predict(new_images)
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from research.assessment.arrays import evaluate, fit

__all__ = ["evaluate", "fit"]


def __getattr__(name: str):
    """The functions for arrays, imported at their first use: `import research` alone is quick."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from research.assessment import arrays

    return getattr(arrays, name)
