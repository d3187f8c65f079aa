"""What does a network say of columns that tell nothing of the class?

    launch/run.sh experiments.toy_problems.irrelevant_features

Five columns of noise and five of zeros, 200 rows, 128-64-1, 200 epochs of Adam; judged on 1000 new
rows. First as in the text: labels at random, for nothing in the columns tells of them. Then two of
the zeros give way to columns that do (p(class 1) = sigmoid(8 (a + b - 1))), so that a selection by
mutual information has something to find. Expected: sure of noise in both. Without anything to find,
selection drops all ten columns and "0.5" is left, which is right; with two columns that tell, it
keeps them, and the noise does no more harm. Two to three minutes.
"""

import numpy as np
from scipy.special import expit

from experiments import cli
from experiments.toy_problems import remedies, study
from experiments.toy_problems.study import Case, Config
from experiments.toy_problems.training import Network, Sets, Training
from research.method import Batch

NOISE, ZEROS = 5, 5
TELLING = slice(NOISE, NOISE + 2)  # two of the zeros
NONE, TWO = "no column tells", "two columns tell"


def nothing(judged: str, x: np.ndarray) -> np.ndarray:
    """p(class 1) [N] where nothing tells."""
    del judged
    return np.full(len(x), 0.5)


def truth(judged: str, x: np.ndarray) -> np.ndarray:
    """p(class 1) [N] where two columns tell."""
    del judged
    return expit(8.0 * (x[:, TELLING].sum(axis=1) - 1.0))


def rows(generator: np.random.Generator, count: int, has_telling: bool) -> Batch:
    """[N, 10]: noise U[0, 1) and zeros, two of them replaced by U[0, 1) where columns tell."""
    x = np.zeros((count, NOISE + ZEROS), np.float32)
    x[:, :NOISE] = generator.random((count, NOISE))
    if has_telling:
        x[:, TELLING] = generator.random((count, 2))
    p = (truth if has_telling else nothing)("", x)
    return Batch(x, (generator.random(count) < p).astype(np.int32))


def case(name: str) -> Case:
    """With or without columns that tell."""

    def draw(generator: np.random.Generator) -> Sets:
        sizes = {"train": 200, "valid": 100, "new rows": 1000}
        return {split: rows(generator, n, name == TWO) for split, n in sizes.items()}

    options = (
        remedies.SELECTED,
        remedies.DROPOUT,
        remedies.L1,
        remedies.L2,
        remedies.EARLY_STOPPING,
        *remedies.POSTERIORS,
    )
    true = truth if name == TWO else nothing
    return Case(name, draw, true, ("new rows",), Network(), Training(epochs=200), options)


CASES = (case(NONE), case(TWO))


def main(config: Config) -> None:
    """Trains, diagnoses, mends and writes."""
    study.run("irrelevant_features", CASES, config)


if __name__ == "__main__":
    cli.run(main, Config)
