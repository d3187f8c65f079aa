"""From a judged classifier to the evidence that a diagnosis looks at.

At most `MOST` images of each split are looked at: the causes are as plain in a few thousand.
"""

from functools import partial
from typing import NamedTuple

import jax
import numpy as np

from research.data.batches import map_batches
from research.data.dataset import Dataset, Split
from research.data.predictions import SPLITS, PredictionsFile
from research.diagnosis.evidence import Evidence, New, Part
from research.models.classifier import Classifier

MOST = 4_000
BATCH = 32


class Observed(NamedTuple):
    """Evidence, and which images it holds."""

    evidence: Evidence
    rows: dict[str, np.ndarray]  # by split: the evidence's rows as indices into the split


def _choose(n: int, seed: int) -> np.ndarray:
    """At most `MOST` rows of n, in order."""
    return np.sort(np.random.default_rng(seed).permutation(n)[:MOST])


def observe(
    classifier: Classifier,
    params,
    dataset: Dataset,
    log_probs: dict[str, np.ndarray],
    history: tuple[dict, ...],
    seed: int,
    new: tuple[np.ndarray, np.ndarray] | None = None,
) -> Observed:
    """The evidence about a network.

    Args:
        classifier: what was judged.
        params: its trained weights.
        dataset: of images.
        log_probs: as it is, by split: [S, N, K].
        history: rows of its training's metrics.jsonl; empty where it was trained elsewhere.
        seed: decides which images are looked at.
        new: images [N, H, W, 3] uint8 to compare with, and their ids [N].
    """
    answer = jax.jit(
        lambda params, inputs: jax.nn.log_softmax(classifier.model.apply(params, inputs))
    )

    def look(see, images):
        compiled = jax.jit(see)
        return map_batches(lambda batch: compiled(params, batch), images, BATCH)

    def ask(see, images):
        inputs = look(see, images) if classifier.is_frozen else images
        return map_batches(lambda batch: answer(params, batch), inputs, BATCH).astype(np.float64)

    rows = {name: _choose(len(split.labels), seed) for name, split in dataset.splits.items()}

    def part(name, see, says):
        split = _pick(dataset.splits[name], rows[name])
        if classifier.is_frozen and see is classifier.see:
            seen = classifier.dataset.splits[name].images[rows[name]]
        else:
            seen = look(see, split.images)
        return Part(says(name, split), split.labels, np.asarray(seen, np.float32), split.images)

    def compared(see):
        if new is None:
            return None
        return New(ask(see, new[0]), look(see, new[0]).astype(np.float32), *new)

    def prepared(form):
        see = classifier.see_as[form]
        parts = {n: part(n, see, lambda n, split: ask(see, split.images)) for n in dataset.splits}
        return evidence._replace(parts=parts, ask=partial(ask, see), ask_as={}, new=compared(see))

    parts = {
        n: part(n, classifier.see, lambda n, split: log_probs[n][0, rows[n]].astype(np.float64))
        for n in dataset.splits
    }
    evidence = Evidence(
        classes=dataset.classes,
        parts=parts,
        history=history,
        new=compared(classifier.see),
        ask=partial(ask, classifier.see),
        ask_as={form: partial(ask, see) for form, see in classifier.see_as.items()},
        prepared_as=prepared,
        knows_training=bool(history) or dataset.given_splits,
        seed=seed,
    )
    return Observed(evidence, rows)


def _pick(split: Split, rows: np.ndarray) -> Split:
    return Split(np.asarray(split.images[rows]), split.labels[rows], split.ids[rows])


def observe_predictions(file: PredictionsFile, seed: int) -> Observed:
    """The evidence about a predictions file: answers and labels, nothing else."""
    rows, parts = {}, {}
    for name in SPLITS:
        of_split = np.flatnonzero(file.split == name)
        if len(of_split):
            rows[name] = _choose(len(of_split), seed)
            index = of_split[rows[name]]
            parts[name] = Part(file.log_probs[index], file.labels[index])
    evidence = Evidence(
        classes=file.classes, parts=parts, knows_training="train" in parts, seed=seed
    )
    return Observed(evidence, rows)
