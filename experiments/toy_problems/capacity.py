"""What does a network predict that is too simple, or too large for its few rows?

    launch/run.sh experiments.toy_problems.capacity

A board of four fields (`setups.py`) and 100 rows of it. One hidden unit cannot represent the board,
however long it is trained; 128-128-128 learns the rows by heart. Both are trained for 200 epochs by
Adam and judged on 1000 new rows. Expected: the simple network is often wrong and not confident
either, so that no posterior helps it and only a larger size does; the large one is over-confident,
and both a fitting size and the posteriors help. The run takes two to three minutes.
"""

import numpy as np

from experiments import cli
from experiments.toy_problems import remedies, setups, study
from experiments.toy_problems.remedies import Remedy
from experiments.toy_problems.study import Case, Config
from experiments.toy_problems.training import Network, Sets, Training

FITTING = Remedy("a fitting size (16)", network={"units": (16,)})
FOR_BOTH = (
    FITTING,
    remedies.L2,
    remedies.EARLY_STOPPING,
    remedies.TEMPERATURE,
    remedies.LAPLACE,
    remedies.ENSEMBLE,
    remedies.BAYES_BY_BACKPROP,
)
# Dropout of the only hidden unit would leave nothing.
FOR_LARGE = remedies.JITTERED, remedies.DROPOUT, remedies.L1, remedies.SWAG, remedies.MC_DROPOUT


def draw(generator: np.random.Generator) -> Sets:
    """The rows of one seed."""
    sizes = {"train": 100, "valid": 100, "new rows": 1000}
    return {name: setups.board(generator, count) for name, count in sizes.items()}


def case(name: str, units: tuple[int, ...], options: tuple[Remedy, ...]) -> Case:
    """The case of one network, on the same rows as the other."""
    training = Training(epochs=200, learning_rate=3e-3)
    return Case(name, draw, setups.truth, ("new rows",), Network(units), training, options)


CASES = (
    case("too simple", (1,), FOR_BOTH),
    case("too large", (128, 128, 128), FOR_BOTH + FOR_LARGE),
)


def main(config: Config) -> None:
    """Trains, diagnoses, tries every remedy and writes the result."""
    study.run("capacity", CASES, config)


if __name__ == "__main__":
    cli.run(main, Config)
