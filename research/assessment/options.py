"""The options of an assessment: which methods are tried besides, and what is compared."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from research.calibrators.fit import parse as parse_calibrators
from research.runtime.errors import UserError
from research.runtime.options import check_ranges
from research.training.recipe import Recipe, options_of, parse


@dataclass(frozen=True)
class AssessmentOptions:
    """What is tried besides the classifier as it is, and what it is compared with."""

    methods: str | None = None
    """cures to train and judge besides: names and options, such as
    swag,ensemble(bayes_by_backprop(estimator=local),num_members=3)"""
    calibrate: str | None = None
    """calibrators to fit besides temperature: vector, platt, isotonic, histogram; default: platt
    where there are two classes"""
    budget: float = 0.0
    """minutes for cures of the whole network (swag, an ensemble, Bayes by Backprop); the head's
    take seconds and are tried wherever they fit a cause that was found"""
    max_error: float = 0.05
    """find how much to refuse so that the rest is wrong at most so often, with 95 % certainty"""
    bayes: Literal["head", "last", "all"] | None = None
    """which weights are uncertain, in the methods that can choose; default: each method's own"""
    dropout_samples: int = 30
    """draws of Monte Carlo dropout"""
    compare: Path | None = None
    """a folder of images that it is asked about now, without labels: are they of the same kind?"""

    @property
    def recipes(self) -> tuple[Recipe, ...]:
        """The recipes in `methods`."""
        return parse(self.methods) if self.methods else ()

    @property
    def calibrators(self) -> tuple[str, ...]:
        """The names in `calibrate`."""
        return parse_calibrators(self.calibrate or "")

    def check(self) -> None:
        """Refuses options that are out of range, cannot be read or would do nothing.

        Raises:
            UserError: an option is refused.
        """
        check_ranges(self, above_0=("dropout_samples",), from_0=("budget",))
        if not 0 < self.max_error < 1:
            raise UserError("max_error", "give a number between 0 and 1", value=self.max_error)
        parse_calibrators(self.calibrate or "")
        can_choose = any("bayes" in options_of(recipe.base.name) for recipe in self.recipes)
        if self.bayes and not can_choose:
            problem = "no method of `methods` can choose"
            raise UserError("bayes", problem, "leave it out", value=self.bayes)
