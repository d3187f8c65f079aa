"""The rows of Table 1, and those beyond the paper, each with its grid of hyper-parameters.

The paper's cost is a sum over the examples of a batch (section 3.4), so its learning rate of 1e-3
is 0.128 on a mean over 128; here rates are the paper's and are multiplied by the batch size.

A row is named as in `mixture`, or with hyper-parameters that are then not searched, as in
`mixture(mixture_sigma_1=0.37)`. Two that the paper does not speak of can be given with every row:
`momentum`, and `rate_left`, the share of the learning rate that a cosine leaves at the end.
"""

import ast
import itertools
import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import optax

from experiments.weight_uncertainty.mnist import network
from research.method import Method
from research.methods.bayes_by_backprop import BayesByBackpropState, bayes_by_backprop
from research.methods.point import point
from research.posteriors.parameters import join
from research.runtime.errors import UserError

RATES = (1e-3, 1e-4, 1e-5)
SHARES = ("momentum", "rate_left")
OF_SGD = ("learning_rate", *SHARES)
Hyper = dict[str, Any]


class Row(NamedTuple):
    """A row of the table: how to build its method, and its hyper-parameters."""

    title: str
    build: Callable[[Hyper, "Size"], Method]
    paper: dict[int, float]  # test error in % by units (Table 1)
    fixed: Hyper  # those that are not searched
    grid: dict[str, tuple[float, ...]]  # the paper's own search
    few: dict[str, tuple[float, ...]]  # a part of it, for a small machine


class Size(NamedTuple):
    """Shapes and lengths, which are the same for all runs of a sweep."""

    units: int
    num_train: int
    batch_size: int
    num_steps: int
    draws: int  # of a prediction
    train_draws: int = 1  # noisy passes of a step (1, 2, 5 or 10 in the paper)


def optimizer(hyper: Hyper, size: Size) -> optax.GradientTransformation:
    """Plain SGD, unless momentum or a falling rate is given."""
    rate = size.batch_size * hyper["learning_rate"]
    if "rate_left" in hyper:
        rate = optax.cosine_decay_schedule(rate, size.num_steps, hyper["rate_left"])
    return optax.sgd(rate, momentum=hyper.get("momentum"))


def _point(dropout: float) -> Callable[[Hyper, Size], Method]:
    return lambda hyper, size: point(network(size.units, dropout), optimizer(hyper, size))


def _bayes(**choices: str) -> Callable[[Hyper, Size], Method]:
    def build(hyper, size):
        numbers = {name: value for name, value in hyper.items() if name not in OF_SGD}
        return bayes_by_backprop(
            network(size.units),
            optimizer(hyper, size),
            size.num_train,
            max(1, size.num_train // size.batch_size),
            size.num_steps,
            sigma_relative_to="none",
            prior_relative_to="none",
            train_samples=size.train_draws,
            num_samples=size.draws,
            **choices,
            **numbers,
        )

    return build


MIXTURE = {"mixture_pi": 0.5, "mixture_sigma_1": 1.0, "mixture_sigma_2": np.exp(-6.0)}
MIXTURE_GRID = {
    "mixture_pi": (0.25, 0.5, 0.75),
    "mixture_sigma_1": tuple(np.exp([0.0, -1.0, -2.0])),
    "mixture_sigma_2": tuple(np.exp([-6.0, -7.0, -8.0])),
}
# The paper gives no initial σ. Plain SGD moves ρ by about the rate over N a step, so that σ ends
# near where it began: it is searched beside the paper's grid.
SIGMAS = {"initial_sigma": (0.02, 0.05)}
SIGMA = {"initial_sigma": 0.02}
RATE = {"learning_rate": RATES}
FEW_MIXTURE = {"learning_rate": (1e-3,), "mixture_sigma_1": (1.0, np.exp(-2.0)), **SIGMAS}
GAUSSIAN = {"prior_sigma": tuple(np.exp([0.0, -1.0, -2.0]))}
MIXTURE_PAPER = {400: 1.36, 800: 1.34, 1200: 1.32}

ROWS = {
    "sgd": Row(
        "SGD",
        _point(0.0),
        {400: 1.83, 800: 1.84, 1200: 1.88},
        {},
        RATE,
        {"learning_rate": (1e-3, 3e-4)},
    ),
    "dropout": Row(
        "SGD, dropout",
        _point(0.5),
        {400: 1.51, 800: 1.33, 1200: 1.36},
        {},
        RATE,
        {"learning_rate": (1e-3, 3e-4)},
    ),
    "gaussian": Row(
        "Bayes by Backprop, Gaussian",
        _bayes(estimator="shared", prior="gaussian"),
        {400: 1.82, 800: 1.99, 1200: 2.04},
        SIGMA,
        {**RATE, **GAUSSIAN, **SIGMAS},
        {"learning_rate": (1e-3,), "prior_sigma": (np.exp(-1.0), np.exp(-2.0)), **SIGMAS},
    ),
    "mixture": Row(
        "Bayes by Backprop, scale mixture",
        _bayes(estimator="shared", prior="mixture"),
        MIXTURE_PAPER,
        SIGMA,
        {**RATE, **MIXTURE_GRID, **SIGMAS},
        FEW_MIXTURE,
    ),
    "local": Row(
        "scale mixture, local reparameterisation",
        _bayes(estimator="local", prior="mixture"),
        {},
        SIGMA,
        {**RATE, **MIXTURE_GRID, **SIGMAS},
        FEW_MIXTURE,
    ),
    "flipout": Row(
        "scale mixture, Flipout",
        _bayes(estimator="flipout", prior="mixture"),
        {},
        SIGMA,
        {**RATE, **MIXTURE_GRID, **SIGMAS},
        FEW_MIXTURE,
    ),
}


def row_of(name: str) -> Row:
    """The row of a name; hyper-parameters given in it are fixed and stand in the title.

    Raises:
        UserError: there is no such row or hyper-parameter, or its value is out of range.
    """
    try:
        node = ast.parse(name.strip(), mode="eval").body
    except SyntaxError:
        node = ast.Constant(name)  # which is in no table
    call = node if isinstance(node, ast.Call) else ast.Call(node, [], [])
    title = call.func.id if isinstance(call.func, ast.Name) else name
    if title not in ROWS or call.args:
        problem = f"choose from {', '.join(ROWS)}"
        way_out = "hyper-parameters are given as in mixture(mixture_sigma_1=0.37)"
        raise UserError("methods", problem, way_out, value=name)
    row = ROWS[title]
    given = {}
    for keyword in call.keywords:
        value = getattr(keyword.value, "value", None)
        known = keyword.arg in row.grid or keyword.arg in SHARES
        below = 1 if keyword.arg in SHARES else math.inf
        if not known or not isinstance(value, int | float) or not 0 < value < below:
            problem = (
                f"{title} has {', '.join(row.grid)}, each a number above 0, and "
                f"{' and '.join(SHARES)}, above 0 and below 1"
            )
            raise UserError("methods", problem, value=name)
        given[keyword.arg] = float(value)

    def searched(grid):
        return {key: values for key, values in grid.items() if key not in given}

    settings = "".join(f", {key}={value:g}" for key, value in given.items())
    return row._replace(
        title=row.title + settings,
        fixed={**row.fixed, **given},
        grid=searched(row.grid),
        few=searched(row.few),
    )


def split(text: str) -> list[str]:
    """The names in a line, separated by commas outside brackets."""
    return [name.strip() for name in re.split(r",(?![^(]*\))", text)]


def label(name: str) -> str:
    """The name of the files of a row, such as `mixture-mixture_sigma_1=0.37`."""
    return "-".join(name.replace(" ", "").rstrip(")").replace("(", ",").split(","))


def is_bayes(row: Row) -> bool:
    """Whether the row has a posterior, and so draws."""
    return "initial_sigma" in row.fixed


def with_fixed(row: Row, hyper: Hyper) -> Hyper:
    """All hyper-parameters of a run: those given, and the fixed ones of the row."""
    mixture = MIXTURE if any(name.startswith("mixture") for name in row.grid) else {}
    return {**mixture, **row.fixed, **hyper}


def as_arrays(hyper: Hyper) -> Hyper:
    """The hyper-parameters as scalars on the device, as a sweep hands them to `build`."""
    return {name: jnp.float32(value) for name, value in hyper.items()}


def points(grid: dict[str, tuple[float, ...]]) -> list[Hyper]:
    """Every combination of a grid's values."""
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def mean_network(state) -> Any:
    """The parameters of a plain network, or the means of a posterior."""
    if isinstance(state, BayesByBackpropState):
        return join(state.posterior.mean, state.deterministic)
    return state.params
