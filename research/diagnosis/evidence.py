"""The evidence for a diagnosis: a classifier's predictions, its head's inputs, its training.

Whatever is not known is None or empty, and the causes that need it give "cannot tell".
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from research.data.dataset import Images
from research.diagnosis.probe import Probe
from research.metrics.scores import Scores, scores

Predict = Callable[[np.ndarray], np.ndarray]  # images [n, H, W, 3] uint8 -> log_probs [n, K]


class EvidenceSplit(NamedTuple):
    """A split. The fields are aligned."""

    log_probs: np.ndarray  # [N, K], the network's own predictions
    labels: np.ndarray  # [N] int
    features: np.ndarray | None = None  # [N, D] float32, the inputs of the head
    images: Images | None = None  # [N, H, W, 3] uint8


class NewImages(NamedTuple):
    """Images without labels. The fields are aligned."""

    log_probs: np.ndarray  # [N, K]
    features: np.ndarray  # [N, D] float32
    images: np.ndarray  # [N, H, W, 3] uint8
    ids: np.ndarray  # [N] str


@dataclass(frozen=True, eq=False)
class Evidence:
    """All that is known of a classifier."""

    classes: tuple[str, ...]
    splits: Mapping[str, EvidenceSplit]  # "test", and "train" and "valid" where there are any
    history: tuple[dict, ...] = ()  # rows of metrics.jsonl, in order
    predict: Predict | None = None
    predict_as: Mapping[str, Predict] = field(default_factory=dict)  # by preprocessing not used
    with_preprocess: Callable[[str], "Evidence"] | None = None  # all of it, prepared otherwise
    knows_training: bool = True  # whether "train" is what it was trained on, and "test" is not
    seed: int = 0
    new: NewImages | None = None  # images to compare with those of the splits

    def transformed(self, change: Callable[[np.ndarray], np.ndarray]) -> "Evidence":
        """The same classifier with its log_probs [N, K] changed, wherever it predicts."""
        splits = {
            name: split._replace(log_probs=change(split.log_probs))
            for name, split in self.splits.items()
        }
        predict = self.predict and (lambda images, before=self.predict: change(before(images)))
        new = self.new and self.new._replace(log_probs=change(self.new.log_probs))
        return replace(self, splits=splits, predict=predict, new=new)

    @cached_property
    def scores(self) -> dict[str, Scores]:
        """The scores of each split's predictions."""
        return {n: scores(split.log_probs[None], split.labels) for n, split in self.splits.items()}

    @cached_property
    def probe(self) -> Probe | None:
        """Heads trained anew on the same features; None where there are no features."""
        features, labels = {}, {}
        for name in ("train", "valid", "test"):
            split = self.splits.get(name)
            if split is None or split.features is None:
                return None
            features[name], labels[name] = split.features, split.labels
        return Probe(features, labels, len(self.classes), self.seed)
