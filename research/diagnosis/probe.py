"""The same head, trained anew with one thing changed: what would it predict without that cause?

A head of one hidden layer on the principal components of cached features, with early stopping,
dropout and weight decay: the reference probe, a head as it should have been trained. It stands in
for the classifier's own head, which may be any; causes in the data are found by comparing one probe
with another.
"""

from functools import cached_property
from typing import NamedTuple

import numpy as np

from research.diagnosis.head import Examples, HeadOptions, train_head

COMPONENTS = 128
MOST_EXAMPLES = 4_000  # of the training split
FOLDS = 5
REFERENCE = HeadOptions()
UNREGULARISED = REFERENCE._replace(dropout=0.0, weight_decay=0.0)
FARTHEST = 20.0  # an input's largest magnitude


class Refit(NamedTuple):
    """The predictions of a refitted head, at its best epoch on the validation split."""

    log_probs: dict[str, np.ndarray]  # by split: [N, K], normalised

    def nll(self, split: str, labels: np.ndarray) -> np.ndarray:
        """The NLL of each example [N], in nats."""
        return -self.log_probs[split][np.arange(len(labels)), labels]


class Probe:
    """Heads refitted on the features of one classifier."""

    def __init__(
        self,
        features: dict[str, np.ndarray],
        labels: dict[str, np.ndarray],
        classes: int,
        seed: int,
    ):
        """Projects the features on their principal components.

        Args:
            features: by split: [N, ...].
            labels: by split: [N] int.
            classes: K.
            seed: of the initial weights and the order.
        """
        self.kept = np.random.default_rng(seed).permutation(len(labels["train"]))[:MOST_EXAMPLES]
        flat = {name: x.reshape(len(x), -1) for name, x in features.items()}
        train = flat["train"][self.kept].astype(np.float64)
        mean, deviation = train.mean(axis=0), train.std(axis=0)
        self.is_alive = deviation > 1e-6 * max(deviation.max(), 1e-12)
        scale = np.where(self.is_alive, deviation, np.inf)  # a constant feature becomes 0
        _, values, axes = np.linalg.svd((train - mean) / scale, full_matrices=False)
        count = max(1, int(np.sum(values[:COMPONENTS] > 1e-3 * max(values[0], 1e-12))))
        spread = np.maximum(values[:count] / len(train) ** 0.5, 1e-12)
        # Half way to whitening: directions of small variance count, but noise is not amplified.
        self._mean, self._scale = mean, scale
        self._rotation = axes[:count].T / np.sqrt(spread * spread[0])

        self.inputs = {name: self.project(x) for name, x in flat.items()}
        self.labels = {name: np.asarray(y, np.int32) for name, y in labels.items()}
        self.classes, self.seed = classes, seed

    def project(self, features: np.ndarray) -> np.ndarray:
        """A head's inputs [N, D] of features [N, ...].

        They are clipped to `FARTHEST`, so that features unlike those of training, such as those of
        wrongly prepared pixels, do not give logits without bound.
        """
        scaled = (features.reshape(len(features), -1) - self._mean) / self._scale
        return np.clip(scaled @ self._rotation, -FARTHEST, FARTHEST).astype(np.float32)

    @property
    def train_labels(self) -> np.ndarray:
        """The labels [N] of the training examples that heads are fitted to."""
        return self.labels["train"][self.kept]

    def fit(self, weights: np.ndarray | None = None) -> Refit:
        """A head fitted with the options of the reference.

        Args:
            weights: weights [N] of the training examples; 0 removes one. None: all the same.
        """
        train = Examples(self.inputs["train"][self.kept], self.train_labels, weights)
        valid = Examples(self.inputs["valid"], self.labels["valid"])
        head = train_head(self.inputs, train, valid, self.classes, self.seed, REFERENCE)
        return Refit(head.best)

    @cached_property
    def reference(self) -> Refit:
        """The reference probe: nothing is changed."""
        return self.fit()

    @cached_property
    def random_labels_learnt(self) -> float:
        """The accuracy of an unregularised head on its training examples, their labels shuffled.

        Near 1 it can memorise anything (Zhang, Bengio, Hardt, Recht & Vinyals 2017).
        """
        x = self.inputs["train"][self.kept]
        shuffled = np.random.default_rng(self.seed + 2).permutation(self.train_labels)
        train = Examples(x, shuffled)
        valid = Examples(self.inputs["valid"], self.labels["valid"])
        head = train_head({"train": x}, train, valid, self.classes, self.seed, UNREGULARISED)
        return float(np.mean(head.last["train"].argmax(axis=1) == shuffled))

    def fit_out_of_fold(self, removed: np.ndarray | None = None) -> np.ndarray:
        """Predictions for the training examples by heads that were not trained on them.

        Args:
            removed: [N] bool, examples that no head is trained on; None: there are none.

        Returns:
            log_probs [N, K].
        """
        kept = np.ones(len(self.kept)) if removed is None else 1.0 - removed
        fold = np.random.default_rng(self.seed + 1).permutation(len(self.kept)) % FOLDS
        log_probs = np.zeros((len(self.kept), self.classes))
        for number in range(FOLDS):
            refit = self.fit(weights=(fold != number) * kept)
            log_probs[fold == number] = refit.log_probs["train"][self.kept][fold == number]
        return log_probs

    @cached_property
    def out_of_fold(self) -> np.ndarray:
        """`fit_out_of_fold` with all examples: log_probs [N, K]."""
        return self.fit_out_of_fold()
