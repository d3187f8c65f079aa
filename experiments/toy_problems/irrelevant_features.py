"""What does a network predict from columns that are independent of the class?

    launch/run.sh experiments.toy_problems.irrelevant_features

Five columns of noise and five of zeros, 200 rows, 128-64-1, 200 epochs of Adam; judged on 1000 new
rows. First as in the text: the labels are random, so that no column is informative. Then two of the
zeros are replaced by informative columns (p(class 1) = sigmoid(8 (a + b - 1))), so that a selection
by mutual information has something to find. Expected: the network is over-confident in both cases.
Where no column is informative, selection drops all ten and 0.5 is predicted, which is right; where
two are, it keeps them, and the noise does no more harm. The run takes two to three minutes.
"""

import numpy as np
from scipy.special import expit

from experiments import cli
from experiments.toy_problems import remedies, study
from experiments.toy_problems.study import Case, Config
from experiments.toy_problems.training import Network, Sets, Training
from research.method import Batch

NOISE, ZEROS = 5, 5
INFORMATIVE = slice(NOISE, NOISE + 2)  # two of the zeros
NONE, TWO = "no column tells", "two columns tell"


def uninformed_truth(rows_name: str, x: np.ndarray) -> np.ndarray:
    """p(class 1) [N] where no column is informative."""
    del rows_name  # it is the same for all rows
    return np.full(len(x), 0.5)


def truth(rows_name: str, x: np.ndarray) -> np.ndarray:
    """p(class 1) [N] where two columns are informative."""
    del rows_name  # it is the same for all rows
    return expit(8.0 * (x[:, INFORMATIVE].sum(axis=1) - 1.0))


def rows(generator: np.random.Generator, count: int, has_informative: bool) -> Batch:
    """Columns [N, 10]: noise U[0, 1), then zeros, or U[0, 1) in two informative ones, and zeros."""
    x = np.zeros((count, NOISE + ZEROS), np.float32)
    x[:, :NOISE] = generator.random((count, NOISE))
    if has_informative:
        x[:, INFORMATIVE] = generator.random((count, 2))
    p = (truth if has_informative else uninformed_truth)("", x)
    return Batch(x, (generator.random(count) < p).astype(np.int32))


def case(name: str) -> Case:
    """The case with or without informative columns."""

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
    true = truth if name == TWO else uninformed_truth
    return Case(name, draw, true, ("new rows",), Network(), Training(epochs=200), options)


CASES = (case(NONE), case(TWO))


def main(config: Config) -> None:
    """Trains, diagnoses, tries every remedy and writes the result."""
    study.run("irrelevant_features", CASES, config)


if __name__ == "__main__":
    cli.run(main, Config)
