"""What does a network predict where nothing can be learned? Labels are drawn by a coin.

    launch/run.sh experiments.toy_problems.overfitting

100 rows of U[0, 1)^10 with labels 0 and 1 at random; 128-64-1, 500 epochs of Adam; judged on 1000
new rows, whose labels are random too. The network learns its rows by heart and is as confident on
new ones. Expected: an accuracy of one half whatever is done. The right prediction is 0.5, an NLL of
ln 2 = 0.693, and whatever comes near it helps: a penalty that keeps the weights small (L1, L2),
early stopping, or a prior around 0. The run takes two to three minutes.
"""

import numpy as np

from experiments import cli
from experiments.toy_problems import remedies, study
from experiments.toy_problems.study import Case, Config
from experiments.toy_problems.training import Network, Sets, Training
from research.method import Batch

COLUMNS = 10


def rows(generator: np.random.Generator, count: int) -> Batch:
    """Columns [N, 10] and labels [N] that are independent of them."""
    x = generator.random((count, COLUMNS), np.float32)
    return Batch(x, generator.integers(0, 2, count, np.int32))


def draw(generator: np.random.Generator) -> Sets:
    """The rows of one seed."""
    return {
        "train": rows(generator, 100),
        "valid": rows(generator, 100),
        "new rows": rows(generator, 1000),
    }


def truth(rows_name: str, x: np.ndarray) -> np.ndarray:
    """p(class 1) [N]."""
    del rows_name  # it is the same for all rows
    return np.full(len(x), 0.5)


CASES = (
    Case(
        "random labels",
        draw,
        truth,
        ("new rows",),
        Network(),
        Training(epochs=500),
        (
            remedies.JITTERED,
            remedies.DROPOUT,
            remedies.L1,
            remedies.L2,
            remedies.EARLY_STOPPING,
            remedies.SELECTED,
            *remedies.POSTERIORS,
            remedies.IVON,
        ),
    ),
)


def main(config: Config) -> None:
    """Trains, diagnoses, tries every remedy and writes the result."""
    study.run("overfitting", CASES, config)


if __name__ == "__main__":
    cli.run(main, Config)
