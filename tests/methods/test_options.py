"""The rules for options, and the errors that they make."""

import inspect
import math
from typing import Annotated, Literal

import jax.numpy as jnp
import numpy as np
import pytest

from research.methods import _options
from research.methods._options import ABOVE_0, FROM_0, Count, checked, or_none
from research.runtime.errors import UserError


@checked
def method(
    model,
    rank: Count = 20,
    kernel: Literal["sgld", "sghmc"] = "sghmc",
    every: Annotated[float | None, or_none(ABOVE_0, "for all")] = None,
):
    """A factory."""
    return model, rank, kernel, every


def test_what_follows_the_rules_reaches_the_factory_unchanged():
    assert method("m", 3, every=0.5) == ("m", 3, "sghmc", 0.5)
    assert list(inspect.signature(method).parameters) == ["model", "rank", "kernel", "every"]
    assert (method.__name__, method.__doc__) == ("method", "A factory.")


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"rank": 0}, "method(rank=0): give a whole number from 1"),
        ({"rank": 2.0}, "method(rank=2.0): give a whole number from 1"),
        ({"rank": True}, "method(rank=True): give a whole number from 1"),
        ({"kernel": "hmc"}, "method(kernel=hmc): choose from sgld, sghmc"),
        ({"every": -1}, "method(every=-1): give a number above 0, or None for all"),
    ],
)
def test_what_does_not_is_one_line(options, line):
    with pytest.raises(UserError) as caught:
        method("m", **options)
    assert str(caught.value) == caught.value.as_flags() == line


@pytest.mark.parametrize("value", ["1", None, math.inf, math.nan, -1e-9, False])
def test_numbers_are_finite_numbers(value):
    assert not FROM_0.allows(value)
    assert FROM_0.allows(0)
    assert FROM_0.allows(np.float64(2.5))
    assert not ABOVE_0.allows(0)


def test_a_value_that_a_sweep_traces_is_not_known_yet():
    assert method("m", rank=jnp.float32(-1))[1] == -1


def test_a_file_of_shared_parts_is_no_method():
    from research.training.recipe import method_names

    assert "_options" not in method_names()
    assert _options.__doc__
