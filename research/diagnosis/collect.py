"""From an evaluated classifier to the evidence for a diagnosis.

At most `MOST` images of each split are used: the causes show as plainly in a few thousand.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import numpy as np

from research.data.batches import map_batches
from research.data.dataset import SPLITS, Dataset
from research.data.predictions import PredictionsFile
from research.diagnosis.evidence import Evidence, EvidenceSplit, NewImages
from research.models.classifier import Classifier

MOST = 4_000
BATCH = 32


class Collected(NamedTuple):
    """Evidence, and which images it holds."""

    evidence: Evidence
    rows: dict[str, np.ndarray]  # by split: the evidence's rows as indices into the split


class _Compiled(NamedTuple):
    """Two functions of a trained classifier that run over any number of images in batches."""

    features: Callable[[np.ndarray], np.ndarray]  # images [N, H, W, 3] -> [N, ...]
    predict: Callable[[np.ndarray], np.ndarray]  # images [N, H, W, 3] -> log_probs [N, K] float64


def _choose(n: int, seed: int) -> np.ndarray:
    """At most `MOST` rows of n, in order."""
    return np.sort(np.random.default_rng(seed).permutation(n)[:MOST])


def _compile(classifier: Classifier, params) -> _Compiled:
    takes_images = classifier.trainable == "all"
    logits = classifier.model.apply if takes_images else classifier.logits
    run_base = jax.jit(classifier.features)
    run_model = jax.jit(lambda params, inputs: jax.nn.log_softmax(logits(params, inputs)))

    def features(images):
        return map_batches(partial(run_base, params), images, BATCH)

    def predict(images):
        inputs = images if takes_images else features(images)
        return map_batches(partial(run_model, params), inputs, BATCH).astype(np.float64)

    return _Compiled(features, predict)


def _splits(
    compiled: _Compiled,
    dataset: Dataset,
    rows: dict[str, np.ndarray],
    log_probs: Mapping[str, np.ndarray],
    features: Dataset | None,
) -> dict[str, EvidenceSplit]:
    """The chosen rows of every split; what is not given is computed.

    Args:
        compiled: the classifier.
        dataset: images.
        rows: by split: indices.
        log_probs: by split: [S, N, K]; empty where they are not known.
        features: cached features of all images; None where there are none.
    """
    found = {}
    for name, split in dataset.splits.items():
        index = rows[name]
        images = np.asarray(split.images[index])
        known = log_probs[name][0, index].astype(np.float64) if name in log_probs else None
        inputs = features.splits[name].images[index] if features else compiled.features(images)
        found[name] = EvidenceSplit(
            compiled.predict(images) if known is None else known,
            split.labels[index],
            np.asarray(inputs, np.float32),
            images,
        )
    return found


def _evidence(
    classifier: Classifier,
    params,
    dataset: Dataset,
    rows: dict[str, np.ndarray],
    log_probs: Mapping[str, np.ndarray],
    history: tuple[dict, ...],
    seed: int,
    new: tuple[np.ndarray, np.ndarray] | None,
) -> Evidence:
    compiled = _compile(classifier, params)
    features = None if classifier.trainable == "all" else classifier.dataset
    return Evidence(
        classes=dataset.classes,
        splits=_splits(compiled, dataset, rows, log_probs, features),
        history=history,
        predict=compiled.predict,
        new=new
        and NewImages(compiled.predict(new[0]), compiled.features(new[0]).astype(np.float32), *new),
        knows_training=bool(history) or dataset.given_splits,
        seed=seed,
    )


def collect(
    classifier: Classifier,
    params,
    dataset: Dataset,
    log_probs: dict[str, np.ndarray],
    history: tuple[dict, ...],
    seed: int,
    new: tuple[np.ndarray, np.ndarray] | None = None,
) -> Collected:
    """The evidence about a network.

    Args:
        classifier: the classifier.
        params: its trained weights.
        dataset: images.
        log_probs: its predictions by split: [S, N, K].
        history: rows of its training's metrics.jsonl; empty where it was trained elsewhere.
        seed: decides which images are used.
        new: images [N, H, W, 3] uint8 to compare with, and their ids [N].
    """
    rows = {name: _choose(len(split.labels), seed) for name, split in dataset.splits.items()}
    evidence = _evidence(classifier, params, dataset, rows, log_probs, history, seed, new)
    others = {name: classifier.with_preprocess(name) for name in classifier.other_preprocess}

    def with_preprocess(name: str) -> Evidence:
        return _evidence(others[name], params, dataset, rows, {}, history, seed, new)

    predict_as = {name: _compile(other, params).predict for name, other in others.items()}
    evidence = replace(evidence, predict_as=predict_as, with_preprocess=with_preprocess)
    return Collected(evidence, rows)


def collect_predictions(file: PredictionsFile, seed: int) -> Collected:
    """The evidence about a predictions file: predictions and labels, nothing else."""
    rows, splits = {}, {}
    for name in SPLITS:
        of_split = np.flatnonzero(file.split == name)
        if len(of_split):
            rows[name] = _choose(len(of_split), seed)
            index = of_split[rows[name]]
            splits[name] = EvidenceSplit(file.log_probs[index], file.labels[index])
    evidence = Evidence(
        classes=file.classes, splits=splits, knows_training="train" in splits, seed=seed
    )
    return Collected(evidence, rows)
