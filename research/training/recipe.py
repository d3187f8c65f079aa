"""From a line such as `ensemble(swag(rank=10), num_members=3)` to a `Method`.

A recipe names files of research/methods and gives their options; a wrapper takes another recipe
first. A calibrator around a recipe, as in `temperature(swag)`, maps that method's predictions.
Nothing is evaluated: the text is read as names, numbers and strings. What a factory needs to know
of the training it is part of (the network, N, the number of steps) it gets by the names of its
parameters, from a `Context`. The fields of `Training` can be given among a method's options, and
change how it is trained: `bayes_by_backprop(start=scratch, epochs=2)`.
"""

import ast
import contextlib
import importlib
import inspect
import math
import pkgutil
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple, cast

import optax

import research.methods
from research.calibrators.fit import calibrator_names
from research.method import Method, Model, Training
from research.methods._options import FROM_0, number, one_of, or_none
from research.runtime.errors import UserError
from research.training.optimizer import SCHEDULES

TIMES_POINT = number(lambda value: 0 <= value < math.inf, "a number, times that of point")
TRAINING_RULES = {
    "start": one_of("scratch", "point"),
    "keep": one_of("best", "last"),
    "schedule": one_of(None, *SCHEDULES),
    "epochs": TIMES_POINT,
    "learning_rate": TIMES_POINT,
    "weight_decay": or_none(FROM_0, "for that of point"),
}
FORM = "write them as in point,ensemble(swag,num_members=3)"


@dataclass(frozen=True)
class Recipe:
    """A method's name, what it wraps, and its options; `str` gives the line again."""

    name: str
    inner: "Recipe | None" = None
    options: tuple[tuple[str, Any], ...] = ()

    def __str__(self) -> str:
        inside = [str(self.inner)] if self.inner else []
        inside += [f"{name}={value}" for name, value in self.options]
        return f"{self.name}({', '.join(inside)})" if inside else self.name

    @property
    def base(self) -> "Recipe":
        """The innermost method, which is trained on a model."""
        return self if self.inner is None else self.inner.base

    @cached_property
    def training(self) -> Training:
        """How the innermost method is trained.

        Raises:
            UserError: an option about training has a value that is not allowed; never of a recipe
                from `parse`, which has checked them.
        """
        return self.inner.training if self.inner else _training(self)

    @cached_property
    def start(self) -> "Recipe | None":
        """What has to be trained first: `point`, or an ensemble of as many; None: nothing."""
        if self.training.start == "scratch":
            return None
        if self.inner is None:
            return POINT
        if self.name in calibrator_names():
            return self.inner.start
        return replace(self, inner=self.inner.start)


POINT = Recipe("point")


class Context(NamedTuple):
    """The training that a method is part of; a factory takes fields by the names of its parameters.

    The last two matter to training only: a method that is to predict does without them.
    """

    model: Model
    num_train: int  # N, the number of training examples
    num_steps: int
    steps_per_epoch: int
    tx: optax.GradientTransformation = optax.identity()
    learning_rate: optax.Schedule = optax.constant_schedule(0.0)


def method_names() -> list[str]:
    """Every file in research/methods that is a method."""
    names = (module.name for module in pkgutil.iter_modules(research.methods.__path__))
    return sorted(name for name in names if not name.startswith("_"))


def _module(name: str):
    return importlib.import_module(f"research.methods.{name}")


def _parameters(name: str) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(getattr(_module(name), name)).parameters)


def is_wrapper(name: str) -> bool:
    """Whether a name is of an ensemble or a calibrator, which take another recipe first."""
    return name in calibrator_names() or next(iter(_parameters(name))) == "method"


def options_of(name: str) -> dict[str, Any]:
    """The options that a recipe can give, with their defaults; a calibrator has none."""
    if name in calibrator_names():
        return {}
    options = {
        option: parameter.default
        for option, parameter in _parameters(name).items()
        if parameter.default is not inspect.Parameter.empty
    }
    return options if is_wrapper(name) else options | _module(name).TRAINING._asdict()


def _value(node: ast.expr, where: str) -> Any:
    if isinstance(node, ast.Name):
        return node.id
    with contextlib.suppress(ValueError):
        value = ast.literal_eval(node)
        if value is None or isinstance(value, bool | int | float | str):
            return value
    raise UserError("methods", f"{where}: give a number or a word")


def _recipe(node: ast.expr, text: str) -> Recipe:
    call = node if isinstance(node, ast.Call) else ast.Call(node, [], [])
    if not isinstance(call.func, ast.Name) or any(k.arg is None for k in call.keywords):
        raise UserError("methods", FORM, value=text)
    name = call.func.id
    names = sorted([*method_names(), *calibrator_names()])
    if name not in names:
        raise UserError("methods", f"there is no method {name}", f"choose from {', '.join(names)}")
    known = options_of(name)
    if is_wrapper(name) != (len(call.args) == 1) or len(call.args) > 1:
        way_out = f"{name}(point)" if is_wrapper(name) else f"{name}({next(iter(known), '')}=...)"
        raise UserError("methods", f"{name} is written as in {way_out}")
    options = []
    for keyword in call.keywords:
        if keyword.arg not in known:
            problem = f"{name} has no option {keyword.arg}"
            raise UserError("methods", problem, f"it has: {', '.join(known) or 'none'}")
        value = _value(keyword.value, f"{name}({keyword.arg}=...)")
        options.append((keyword.arg, value))
    inner = _recipe(call.args[0], text) if call.args else None
    if inner is not None and calibrators_of(inner) and name not in calibrator_names():
        raise UserError(
            "methods",
            f"{name}({inner}): a calibrator maps the predictions of the whole",
            f"put it outside, as in {inner.name}({name}(point))",
        )
    recipe = Recipe(name, inner, tuple(sorted(options)))
    _ = recipe.training  # raises where an option about training has a value that is not allowed
    return recipe


def parse(text: str) -> tuple[Recipe, ...]:
    """The recipes of a line, separated by commas.

    Args:
        text: a line such as `swag,ensemble(point,num_members=3)`.

    Raises:
        UserError: there is no such method or option, or the text is not of that form.
    """
    try:
        tree = cast(ast.Tuple, ast.parse(f"({text},)", mode="eval").body)
    except SyntaxError as error:
        raise UserError("methods", FORM, value=text) from error
    recipes = [_recipe(node, text) for node in tree.elts]
    return tuple(dict.fromkeys(recipes))  # without repetitions


def calibrators_of(recipe: Recipe | None) -> tuple[str, ...]:
    """The calibrators around a method, the innermost first, in the order they are applied in."""
    if recipe is None or recipe.name not in calibrator_names():
        return ()
    return (*calibrators_of(recipe.inner), recipe.name)


def uncalibrated(recipe: Recipe) -> Recipe:
    """The method inside the calibrators, which are fitted to its predictions when it is trained."""
    if recipe.inner is None or recipe.name not in calibrator_names():
        return recipe
    return uncalibrated(recipe.inner)


def _training(recipe: Recipe) -> Training:
    """The training of a method that wraps none, as its file has it and its options change it."""
    changes = {n: v for n, v in recipe.options if n in Training._fields}
    training = _module(recipe.name).TRAINING._replace(**changes)
    for name, (allows, way_out) in TRAINING_RULES.items():
        value = getattr(training, name)
        if not allows(value):
            raise UserError("methods", f"{recipe.name}({name}={value}): {way_out}")
    return training


def with_options(recipe: Recipe, **options: Any) -> Recipe:
    """The recipe with these options wherever its methods have them and it does not give them."""
    known = options_of(recipe.name)
    kept = {n: v for n, v in options.items() if n in known} | dict(recipe.options)
    inner = recipe.inner and with_options(recipe.inner, **options)
    return Recipe(recipe.name, inner, tuple(sorted(kept.items())))


def build(recipe: Recipe, context: Context) -> Method:
    """The method of a recipe, without the calibrators around it.

    Args:
        recipe: the recipe.
        context: the training that the method is part of.

    Raises:
        UserError: the method does not allow the value of an option.
    """
    recipe = uncalibrated(recipe)
    factory = getattr(_module(recipe.name), recipe.name)
    options = dict(recipe.options)
    if recipe.inner is not None:
        return factory(build(recipe.inner, context), **options)
    known = _parameters(recipe.name)
    given = {n: v for n, v in context._asdict().items() if n in known}
    return factory(**given, **{n: v for n, v in options.items() if n in known and n not in given})
