"""What values the options of a method may have: the rules stand in the types of its factory.

    @checked
    def method(model, ..., rank: Whole = 20, kernel: Literal["sgld", "sghmc"] = "sghmc"): ...

A value that breaks its rule is one line, `method(rank=-1): give a whole number from 0`.
"""

import inspect
import math
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import jax

from research.method import CATEGORICAL, Method, Model
from research.runtime.errors import UserError


class Rule(NamedTuple):
    """A test of a value, and what to do where it fails."""

    allows: Callable[[Any], bool]
    way_out: str


def number(test: Callable[[float], bool], what: str) -> Rule:
    """A number that passes a test; True and False are not numbers."""

    def allows(value):
        return isinstance(value, int | float) and not isinstance(value, bool) and test(value)

    return Rule(allows, f"give {what}")


def whole(least: int) -> Rule:
    """A whole number that is not below another one."""
    rule = number(lambda value: value >= least, f"a whole number from {least}")
    return rule._replace(allows=lambda value: isinstance(value, int) and rule.allows(value))


def one_of(*values: Any) -> Rule:
    """One of some values."""
    return Rule(lambda value: value in values, f"choose from {', '.join(map(str, values))}")


def or_none(rule: Rule, meaning: str) -> Rule:
    """None, which leaves the value to the method, or what the rule allows."""
    way_out = f"{rule.way_out}, or None {meaning}"
    return Rule(lambda value: value is None or rule.allows(value), way_out)


ABOVE_0 = number(lambda value: 0 < value < math.inf, "a number above 0")
FROM_0 = number(lambda value: 0 <= value < math.inf, "a number from 0")
WHOLE_FROM_1 = whole(1)

Positive = Annotated[float, ABOVE_0]
NonNegative = Annotated[float, FROM_0]
Whole = Annotated[int, whole(0)]
Count = Annotated[int, WHOLE_FROM_1]
BelowOne = Annotated[float, number(lambda v: 0 <= v < 1, "a number from 0 to below 1")]
PartOfSteps = Annotated[float, number(lambda v: 0 <= v < 1, "a part of the steps, 0 to 0.99")]


def _rules(factory: Callable) -> dict[str, Rule]:
    """The rules of a factory's options, by name: those in types `Annotated`, `Literal` and bool."""
    rules = {}
    for option, type_ in get_type_hints(factory, include_extras=True).items():
        if get_origin(type_) is Annotated:
            rules[option] = type_.__metadata__[0]
        elif get_origin(type_) is Literal:
            rules[option] = one_of(*get_args(type_))
        elif type_ is bool:
            rules[option] = one_of(True, False)
    return rules


def bad_option(method: str, option: str, value: Any, way_out: str) -> UserError:
    """The error that names an option's value; for a rule that involves several options."""
    return UserError(None, f"{method}({option}={value}): {way_out}")


def checked(factory: Callable[..., Method]) -> Callable[..., Method]:
    """Decorates a factory: its options are checked by their types before it is called.

    An option that is an array is one of a sweep's, whose value is unknown while JAX traces it.
    """
    signature, rules = inspect.signature(factory), _rules(factory)

    @wraps(factory)
    def build(*args, **kwargs):
        given = signature.bind(*args, **kwargs)
        given.apply_defaults()
        for option, (allows, way_out) in rules.items():
            value = given.arguments[option]
            if not isinstance(value, jax.Array) and not allows(value):
                raise bad_option(factory.__name__, option, value, way_out)
        return factory(*args, **kwargs)

    return build


def require_categorical(method: str, model: Model) -> None:
    """Demands a classifier: the method's equations are those of a softmax.

    Raises:
        UserError: the model's outputs mean something else.
    """
    if model.likelihood != CATEGORICAL:
        raise UserError(
            None,
            f"{method}: it is for classifiers, and this model's likelihood is not categorical",
            "choose another method, such as bayes_by_backprop",
        )
