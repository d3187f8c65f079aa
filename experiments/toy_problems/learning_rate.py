"""What does a network predict whose learning rate was too high, or too low?

    launch/run.sh experiments.toy_problems.learning_rate

A board of four fields (`setups.py`), 500 rows of it; 128-64-1, 100 epochs of Adam at a rate of 0.3
and of 0.000003; judged on 1000 new rows. Expected: at the high rate the weights jump about and may
end anywhere; at the low one they have hardly left their initial values, and 0.5 is predicted. A
fitting rate helps both; a posterior around a network that has learnt nothing does not. The run
takes two to three minutes.
"""

import numpy as np

from experiments import cli
from experiments.toy_problems import remedies, setups, study
from experiments.toy_problems.remedies import Remedy
from experiments.toy_problems.study import Case, Config
from experiments.toy_problems.training import Network, Sets, Training

FITTING = Remedy("a fitting rate (0.001)", training={"learning_rate": 1e-3})
EPOCHS = 100


def draw(generator: np.random.Generator) -> Sets:
    """The rows of one seed."""
    sizes = {"train": 500, "valid": 250, "new rows": 1000}
    return {name: setups.board(generator, count) for name, count in sizes.items()}


def case(name: str, learning_rate: float) -> Case:
    """The case of one learning rate, with the same rows and remedies as the other."""
    options = (
        FITTING,
        remedies.L2,
        remedies.EARLY_STOPPING,
        remedies.TEMPERATURE,
        remedies.LAPLACE,
        remedies.SWAG,
        remedies.ENSEMBLE,
        remedies.BAYES_BY_BACKPROP,
    )
    training = Training(EPOCHS, learning_rate)
    return Case(name, draw, setups.truth, ("new rows",), Network(), training, options)


CASES = (case("too high", 0.3), case("too low", 3e-6))


def main(config: Config) -> None:
    """Trains, diagnoses, tries every remedy and writes the result."""
    study.run("learning_rate", CASES, config)


if __name__ == "__main__":
    cli.run(main, Config)
