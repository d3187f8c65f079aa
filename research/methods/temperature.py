"""Temperature scaling as a wrapper of a method; the fit is in `research/calibrators/`."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from research.calibrators.temperature import Fit, fit_temperature
from research.method import Method
from research.posteriors.predictive import predict_split

PREDICT_BATCH = 32
UNFITTED = Fit(1.0, 0.0, np.inf, np.nan, np.nan, 0)


class TemperatureState(NamedTuple):
    """The wrapped method's state and the fit."""

    inner: Any
    fit: Fit


def wrap(inner: Any) -> TemperatureState:
    """The state around that of the trained method: there is nothing more to train."""
    return TemperatureState(inner, jax.tree.map(jnp.asarray, UNFITTED))


def temperature(method: Method) -> Method:
    """Temperature scaling of any method.

    Training and draws are the wrapped method's; `finish` fits T on `dataset.valid`.

    Args:
        method: the method whose log-probabilities are divided by T and normalised again.
    """

    def init(key, images, start=None):
        return TemperatureState(
            method.init(key, images, start), jax.tree.map(jnp.asarray, UNFITTED)
        )

    def step(key, state, batch):
        inner, metrics = method.step(key, state.inner, batch)
        return state._replace(inner=inner), metrics

    def draw(key, state, index):
        return method.draw(key, state.inner, index), state.fit.temperature

    def apply(network, images):
        inner, temperature = network
        return jax.nn.log_softmax(method.apply(inner, images) / temperature)

    def finish(key, state, dataset):
        inner = method.finish(key, state.inner, dataset)
        log_probs = predict_split(method, key, inner, dataset.valid.images, PREDICT_BATCH)
        fit = fit_temperature(log_probs, np.asarray(dataset.valid.labels))
        return TemperatureState(inner, jax.tree.map(jnp.asarray, fit))

    def summary(state):
        return method.summary(state.inner)

    return method._replace(
        init=init, step=step, draw=draw, apply=apply, finish=finish, summary=summary
    )
