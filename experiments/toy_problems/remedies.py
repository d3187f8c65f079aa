"""What is done against a false certainty: a change of the data, the network or the training.

A remedy says what it changes of a case, and which method is trained. Changes of the data see one
seed at a time, and give every seed as many rows.
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
    kind: str = TEXT  # of the text, or a posterior
    data: Callable[[Sets, np.random.Generator], Sets] | None = None
    network: Mapping[str, Any] = UNCHANGED  # fields of `Network`
    training: Mapping[str, Any] = UNCHANGED  # fields of `Training`
    recipe: str = "point"


def balance(sets: Sets, generator: np.random.Generator) -> Sets:
    """Rows of the rarer class are repeated until both are as many."""
    x, labels = sets["train"]
    counts = np.bincount(labels, minlength=2)
    rows = np.flatnonzero(labels == counts.argmin())
    more = np.concatenate([np.arange(len(labels)), np.resize(rows, counts.max() - counts.min())])
    more = generator.permutation(more)
    return sets | {"train": Batch(x[more], labels[more])}


def jitter(sets: Sets, generator: np.random.Generator) -> Sets:
    """Copies of every training row with a little noise, beside the rows themselves."""
    x, labels = sets["train"]
    copies = [x, *(x + generator.normal(0, JITTER, x.shape) for _ in range(COPIES - 1))]
    return sets | {
        "train": Batch(np.concatenate(copies).astype(np.float32), np.tile(labels, COPIES))
    }


def informative(x: np.ndarray, labels: np.ndarray, seed: int) -> np.ndarray:
    """Which columns tell of the class: [D] bool.

    Their mutual information with the labels is above all that any column has with shuffled ones.

    Args:
        x: [N, D].
        labels: [N].
        seed: of the shuffles.
    """
    generator = np.random.default_rng(seed)

    def information(labels):
        return mutual_info_classif(x, labels, random_state=seed)

    chance = max(information(generator.permutation(labels)).max() for _ in range(SHUFFLES))
    return information(labels) > chance


def select(sets: Sets, generator: np.random.Generator) -> Sets:
    """Columns that tell nothing of the class in training are 0 everywhere, as if left out."""
    kept = informative(*sets["train"], int(generator.integers(2**31)))
    return {name: rows._replace(images=rows.images * kept) for name, rows in sets.items()}


AS_IT_IS = Remedy("as it is")
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
# Around 0, not around the trained network, which is what is to be mended.
BAYES_BY_BACKPROP = Remedy(
    "Bayes by Backprop",
    POSTERIOR,
    recipe="bayes_by_backprop(start=scratch, estimator=local, prior=gaussian, prior_sigma=1)",
)
POSTERIORS = (TEMPERATURE, LAPLACE, SWAG, ENSEMBLE, MC_DROPOUT, BAYES_BY_BACKPROP)
