"""What does a network predict that was trained on ten times as many rows of one class?

    launch/run.sh experiments.toy_problems.data_bias

As in the text: 1000 rows of U[0, 1)^10 (class 0) and 100 of U[0.5, 1.5)^10 (class 1); 128-64-1, 50
epochs of Adam; judged on U[0.7, 1.7)^10, where rows are of class 1, and on rows as in training.
Expected: no harm is done. Rows with a coordinate below 0.5 or above 1 can only be of one class, and
in ten columns nearly all have one: the classes do not overlap, and the confidence is justified.

So the boxes are also made to overlap: class 1 is U[0.3, 1.3) in two columns and U[0, 1) in the
others, judged on as many rows of each class. Where the boxes overlap the class cannot be known, and
the network predicts class 0. Balancing should help there, and cost something where class 1 is as
rare as it was in training. The run takes two to three minutes.
"""

import numpy as np

from experiments import cli
from experiments.toy_problems import remedies, study
from experiments.toy_problems.study import Case, Config
from experiments.toy_problems.training import Network, Sets, Training
from research.method import Batch

COLUMNS = 10
APART, MEETING = "boxes of the text", "boxes that meet"
SHIFTED, EVEN, SAME = "U[0.7, 1.7)", "as many of each class", "rows as in training"
SHIFT = {  # of class 1, in every column
    APART: np.full(COLUMNS, 0.5),
    MEETING: np.array([0.3, 0.3, *[0.0] * (COLUMNS - 2)]),
}
COUNTS = {EVEN: (500, 500), SAME: (1000, 100)}


def rows(generator: np.random.Generator, shift: np.ndarray, counts: tuple[int, int]) -> Batch:
    """Columns [N, 10] and labels [N] of both classes, shuffled."""
    labels = generator.permutation(np.repeat([0, 1], counts))
    x = generator.random((len(labels), COLUMNS)) + labels[:, None] * shift
    return Batch(x.astype(np.float32), labels.astype(np.int32))


def case(name: str, evaluated: tuple[str, ...]) -> Case:
    """The case whose boxes lie apart, or the one whose boxes meet."""
    shift = SHIFT[name]

    def draw(generator: np.random.Generator) -> Sets:
        sets = {
            "train": rows(generator, shift, (1000, 100)),
            "valid": rows(generator, shift, (250, 25)),
        }
        for rows_name in evaluated:
            if rows_name == SHIFTED:
                x = 0.7 + generator.random((1000, COLUMNS))
                sets[rows_name] = Batch(x.astype(np.float32), np.ones(len(x), np.int32))
            else:
                sets[rows_name] = rows(generator, shift, COUNTS[rows_name])
        return sets

    def truth(rows_name: str, x: np.ndarray) -> np.ndarray:
        """By Bayes' rule from two densities of 1; U[0.7, 1.7) has rows of class 1 alone."""
        if rows_name == SHIFTED:
            return np.ones(len(x))
        zero, one = COUNTS[rows_name]
        in_zero = (x < 1).all(axis=1)
        in_one = (x >= shift.astype(np.float32)).all(axis=1)
        return one * in_one / (zero * in_zero + one * in_one)

    options = (
        remedies.BALANCED,
        remedies.JITTERED,
        remedies.DROPOUT,
        remedies.L1,
        remedies.L2,
        remedies.EARLY_STOPPING,
        *remedies.POSTERIORS,
    )
    return Case(name, draw, truth, evaluated, Network(), Training(epochs=50), options)


CASES = (case(APART, (SHIFTED, SAME)), case(MEETING, (EVEN, SAME)))


def main(config: Config) -> None:
    """Trains, diagnoses, tries every remedy and writes the result."""
    study.run("data_bias", CASES, config)


if __name__ == "__main__":
    cli.run(main, Config)
