"""What a diagnosis looks at: a classifier's answers, what its head sees, and how it was trained.

Whatever is not there is None or empty, and the causes that need it say so.
"""

from collections.abc import Callable, Mapping
from functools import cached_property
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from research.data.dataset import Images
from research.diagnosis.probe import Refits
from research.metrics.scores import Scores, scores

Ask = Callable[[np.ndarray], np.ndarray]  # images [n, H, W, 3] uint8 -> log_probs [n, K]


class Part(NamedTuple):
    """A split. The fields are aligned."""

    log_probs: np.ndarray  # [N, K] of the network as it is
    labels: np.ndarray  # [N] int
    features: np.ndarray | None = None  # [N, D] float32: what the head sees
    images: Images | None = None  # [N, H, W, 3] uint8


class New(NamedTuple):
    """Images that nobody has labelled. The fields are aligned."""

    log_probs: np.ndarray  # [N, K]
    features: np.ndarray  # [N, D] float32
    images: np.ndarray  # [N, H, W, 3] uint8
    ids: np.ndarray  # [N] str


class _Fields(NamedTuple):
    classes: tuple[str, ...]
    parts: Mapping[str, Part]  # "test", and "train" and "valid" where there are any
    history: tuple[dict, ...] = ()  # rows of metrics.jsonl, in order
    ask: Ask | None = None
    ask_as: Mapping[str, Ask] = MappingProxyType({})  # by preprocessing: forms that were not used
    prepared_as: Callable[[str], "Evidence"] | None = None  # all of it, with another preprocessing
    knows_training: bool = True  # whether "train" is what it was trained on, and "test" is not
    seed: int = 0
    new: New | None = None  # images to compare with those of the splits


class Evidence(_Fields):
    """All that is known of a classifier."""

    def answering(self, change: Callable[[np.ndarray], np.ndarray]) -> "Evidence":
        """The same classifier with its answers [N, K] changed, wherever it answers."""
        parts = {n: p._replace(log_probs=change(p.log_probs)) for n, p in self.parts.items()}
        ask = self.ask and (lambda images, asked=self.ask: change(asked(images)))
        new = self.new and self.new._replace(log_probs=change(self.new.log_probs))
        return self._replace(parts=parts, ask=ask, new=new)

    @cached_property
    def said(self) -> dict[str, Scores]:
        """What it says of each split, and what came of it."""
        return {name: scores(p.log_probs[None], p.labels) for name, p in self.parts.items()}

    @cached_property
    def refits(self) -> Refits | None:
        """Heads trained anew on the same features; None where there are no features."""
        names = ("train", "valid", "test")
        parts = [self.parts.get(name) for name in names]
        if any(part is None or part.features is None for part in parts):
            return None
        features = {n: p.features for n, p in zip(names, parts, strict=True)}
        labels = {n: p.labels for n, p in zip(names, parts, strict=True)}
        return Refits(features, labels, len(self.classes), self.seed)
