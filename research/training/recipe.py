"""From a line such as `ensemble(swag(rank=10), num_members=3)` to a `Method`.

A recipe names files of research/methods and gives their options; wrappers take another recipe
first. A calibrator around a recipe, as in `temperature(swag)`, maps that method's predictions.
Nothing is evaluated: the text is read as names, numbers and strings. What a factory needs to know
of the training it is part of (the network, N, the number of steps), it gets by the names of its
parameters. How a method is trained can be told among its options, by the fields of `Training`:
`bayes_by_backprop(start=scratch, epochs=2)`.
"""

import ast
import importlib
import inspect
import pkgutil
from typing import Any, NamedTuple

import optax

import research.methods
from research.calibrators.fit import calibrator_names
from research.method import Method, Model, Training
from research.runtime.errors import UserError
from research.training.optimizer import SCHEDULES


class Recipe(NamedTuple):
    """A method's name, what it wraps, and its options; `str` gives the line again."""

    name: str
    inner: "Recipe | None" = None
    options: tuple[tuple[str, Any], ...] = ()

    def __str__(self) -> str:
        inside = [str(self.inner)] if self.inner else []
        inside += [f"{name}={value}" for name, value in self.options]
        return f"{self.name}({', '.join(inside)})" if inside else self.name


class Given(NamedTuple):
    """What factories can ask for by the name of a parameter."""

    model: Model
    tx: optax.GradientTransformation
    learning_rate: optax.ScalarOrSchedule
    num_train: int  # N, of the data set itself
    num_steps: int
    steps_per_epoch: int


def method_names() -> list[str]:
    """Every file in research/methods that is a method."""
    names = (module.name for module in pkgutil.iter_modules(research.methods.__path__))
    return sorted(name for name in names if not name.startswith("_"))


def _module(name: str):
    return importlib.import_module(f"research.methods.{name}")


def _parameters(name: str) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(getattr(_module(name), name)).parameters)


def is_wrapper(name: str) -> bool:
    """Whether it takes a method: an ensemble of several, or a calibrator."""
    return name in calibrator_names() or next(iter(_parameters(name))) == "method"


def options_of(name: str) -> dict[str, Any]:
    """What a recipe can tell a method, with the defaults; a calibrator has no options."""
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
    try:
        return ast.literal_eval(node)
    except ValueError as error:
        raise UserError(f"--methods: {where}: give a number or a word") from error


def _recipe(node: ast.expr, text: str) -> Recipe:
    call = node if isinstance(node, ast.Call) else ast.Call(node, [], [])
    if not isinstance(call.func, ast.Name) or any(k.arg is None for k in call.keywords):
        raise UserError(f"--methods {text}: write them as in point,ensemble(swag,num_members=3)")
    name = call.func.id
    names = sorted([*method_names(), *calibrator_names()])
    if name not in names:
        raise UserError(f"--methods: there is no method {name}; choose from {', '.join(names)}")
    known = options_of(name)
    if is_wrapper(name) != (len(call.args) == 1) or len(call.args) > 1:
        way_out = f"{name}(point)" if is_wrapper(name) else f"{name}({next(iter(known), '')}=...)"
        raise UserError(f"--methods: {name} is written as in {way_out}")
    options = []
    for keyword in call.keywords:
        if keyword.arg not in known:
            told = ", ".join(known) or "none"
            raise UserError(f"--methods: {name} has no option {keyword.arg}; it has: {told}")
        value = _value(keyword.value, f"{name}({keyword.arg}=...)")
        options.append((keyword.arg, value))
    inner = _recipe(call.args[0], text) if call.args else None
    if calibrators_of(inner) and name not in calibrator_names():
        raise UserError(
            f"--methods: {name}({inner}): a calibrator maps the predictions of the whole; put it "
            f"outside, as in {inner.name}({name}(point))"
        )
    return Recipe(name, inner, tuple(sorted(options)))


def parse(text: str) -> tuple[Recipe, ...]:
    """The recipes of a line, separated by commas.

    Args:
        text: such as `swag,ensemble(point,num_members=3)`.

    Raises:
        UserError: no such method or option, or not of that form.
    """
    try:
        tree = ast.parse(f"({text},)", mode="eval").body
    except SyntaxError as error:
        raise UserError(
            f"--methods {text}: write them as in point,ensemble(swag,num_members=3)"
        ) from error
    recipes = [_recipe(node, text) for node in tree.elts]
    return tuple(dict.fromkeys(recipes))  # each once


def calibrators_of(recipe: Recipe | None) -> tuple[str, ...]:
    """The calibrators around a method, the innermost first, in the order they are applied in."""
    if recipe is None or recipe.name not in calibrator_names():
        return ()
    return (*calibrators_of(recipe.inner), recipe.name)


def uncalibrated(recipe: Recipe) -> Recipe:
    """The method inside the calibrators, which are fitted to its predictions when it is trained."""
    return uncalibrated(recipe.inner) if recipe.name in calibrator_names() else recipe


def base(recipe: Recipe) -> Recipe:
    """The innermost method, which is trained on a model."""
    return recipe if recipe.inner is None else base(recipe.inner)


def training(recipe: Recipe) -> Training:
    """How the innermost method is trained.

    Raises:
        UserError: it was told otherwise in a way that there is not.
    """
    trained = base(recipe)
    told = {n: v for n, v in trained.options if n in Training._fields}
    result = _module(trained.name).TRAINING._replace(**told)
    choices = {
        "start": ("scratch", "point"),
        "keep": ("best", "last"),
        "schedule": (None, *SCHEDULES),
    }
    for name, allowed in choices.items():
        if getattr(result, name) not in allowed:
            words = ", ".join(str(each) for each in allowed)
            raise UserError(
                f"--methods: {trained.name}({name}={getattr(result, name)}): choose from {words}"
            )
    for name in ("epochs", "learning_rate", "weight_decay"):
        value = getattr(result, name)
        is_open = name == "weight_decay" and value is None
        if not is_open and (not isinstance(value, int | float) or not value >= 0):
            told = "0 or more" if name == "weight_decay" else "a number, times that of point"
            raise UserError(f"--methods: {trained.name}({name}={value}): give {told}")
    return result


def starting_point(recipe: Recipe) -> Recipe | None:
    """What has to be trained first: the point network, or an ensemble of as many; None: nothing."""
    if training(recipe).start == "scratch":
        return None

    def points(recipe):
        if recipe.inner is None:
            return Recipe("point")
        inner = points(recipe.inner)
        return recipe._replace(inner=inner) if recipe.name == "ensemble" else inner

    return points(recipe)


def with_options(recipe: Recipe, **options: Any) -> Recipe:
    """The recipe with these options wherever its methods have them and were not told otherwise."""
    known = options_of(recipe.name)
    kept = {n: v for n, v in options.items() if n in known} | dict(recipe.options)
    inner = recipe.inner and with_options(recipe.inner, **options)
    return Recipe(recipe.name, inner, tuple(sorted(kept.items())))


def build(recipe: Recipe, given: Given) -> Method:
    """The method; calibrators around it are no part of it.

    Args:
        recipe: from `parse`.
        given: what its factories can ask for.

    Raises:
        UserError: an option's value is refused by the method.
    """
    recipe = uncalibrated(recipe)
    factory = getattr(_module(recipe.name), recipe.name)
    options = dict(recipe.options)
    if recipe.inner is not None:
        return factory(build(recipe.inner, given), **options)
    asked = _parameters(recipe.name)
    wanted = {n: v for n, v in given._asdict().items() if n in asked}
    return factory(**wanted, **{n: v for n, v in options.items() if n in asked and n not in wanted})
