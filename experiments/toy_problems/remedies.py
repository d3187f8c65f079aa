"""Remedies for over-confidence: a change of the data, of the network or of the training.

A remedy holds what it changes of a case, and which method is trained. A change of the data is
applied to one seed at a time, and gives every seed equally many rows.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from sklearn.feature_selection import mutual_info_classif

from experiments.toy_problems.training import Sets
from research.method import Batch

UNCHANGED = MappingProxyType({})
TEXT, POSTERIOR = "text", "posterior"
JITTER, COPIES = 0.05, 4
SHUFFLES = 20


class Remedy(NamedTuple):
    """One row of the table."""

    title: str
    kind: str = TEXT  # whether the text names it, or it is a posterior
    data: Callable[[Sets, np.random.Generator], Sets] | None = None
    network: Mapping[str, Any] = UNCHANGED  # fields of `Network`
    training: Mapping[str, Any] = UNCHANGED  # fields of `Training`
    recipe: str = "point"


def balance(sets: Sets, generator: np.random.Generator) -> Sets:
    """Repeats rows of the rarer class until both classes have equally many."""
    x, labels = sets["train"]
    counts = np.bincount(labels, minlength=2)
    rows = np.flatnonzero(labels == counts.argmin())
    more = np.concatenate([np.arange(len(labels)), np.resize(rows, counts.max() - counts.min())])
    more = generator.permutation(more)
    return sets | {"train": Batch(x[more], labels[more])}


def jitter(sets: Sets, generator: np.random.Generator) -> Sets:
    """Adds copies of every training row with a little noise."""
    x, labels = sets["train"]
    copies = [x, *(x + generator.normal(0, JITTER, x.shape) for _ in range(COPIES - 1))]
    return sets | {
        "train": Batch(np.concatenate(copies).astype(np.float32), np.tile(labels, COPIES))
    }


def informative(x: np.ndarray, labels: np.ndarray, seed: int) -> np.ndarray:
    """Which columns are informative of the class.

    The mutual information of such a column with the labels exceeds that of every column with
    shuffled labels.

    Args:
        x: columns [N, D].
        labels: class numbers [N].
        seed: decides the shuffles.

    Returns:
        A bool for each column, [D].
    """
    generator = np.random.default_rng(seed)

    def information(labels):
        return mutual_info_classif(x, labels, random_state=seed)

    chance = max(information(generator.permutation(labels)).max() for _ in range(SHUFFLES))
    return information(labels) > chance


def select(sets: Sets, generator: np.random.Generator) -> Sets:
    """Sets columns that are uninformative in training to 0 everywhere, as if left out."""
    kept = informative(*sets["train"], int(generator.integers(2**31)))
    return {name: rows._replace(images=rows.images * kept) for name, rows in sets.items()}


BASELINE = Remedy("as it is")
BALANCED = Remedy("balanced classes", data=balance)
JITTERED = Remedy("jittered copies", data=jitter)
SELECTED = Remedy("feature selection", data=select)
DROPOUT = Remedy("dropout", network={"dropout": 0.5})
L1 = Remedy("L1", recipe="point(l1=0.001)")
L2 = Remedy("L2", training={"l2": 0.01})
EARLY_STOPPING = Remedy("early stopping", training={"keep": "best"})

TEMPERATURE = Remedy("temperature", POSTERIOR, recipe="temperature(point)")
LAPLACE = Remedy("Laplace", POSTERIOR, recipe="laplace")
SWAG = Remedy("SWAG", POSTERIOR, recipe="swag")
ENSEMBLE = Remedy("ensemble of 5", POSTERIOR, recipe="ensemble(point)")
MC_DROPOUT = Remedy("Monte Carlo dropout", POSTERIOR, network={"dropout": 0.5}, recipe="mc_dropout")
IVON = Remedy("IVON", POSTERIOR, recipe="ivon(start=scratch)")
# The prior is around 0, not around the trained network, which is what is to be improved.
BAYES_BY_BACKPROP = Remedy(
    "Bayes by Backprop",
    POSTERIOR,
    recipe="bayes_by_backprop(start=scratch, estimator=local, prior=gaussian, prior_sigma=1)",
)
POSTERIORS = (TEMPERATURE, LAPLACE, SWAG, ENSEMBLE, MC_DROPOUT, BAYES_BY_BACKPROP)
