"""What to try against the causes that were found, the cheapest first.

A cause's file may name `REMEDIES`: recipes that suit it. They are fitted to the head, trained anew
on cached features, which takes seconds; where a verdict says how often each training image should
be learnt (suspect labels never, rare classes more often), they are fitted to images so repeated.
With a budget of minutes the whole network is trained by `WHOLE` besides, as far as the time goes.
"""

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from research.data.dataset import Dataset, Split
from research.diagnosis import diagnose
from research.diagnosis.collect import Collected
from research.diagnosis.diagnose import Found
from research.diagnosis.verdict import PRESENT
from research.metrics import format
from research.models import chain
from research.models.classifier import Classifier
from research.runtime.errors import flags
from research.runtime.run import Run
from research.training.fit import Fitted, Problem, TrainingOptions, fit
from research.training.recipe import Recipe, parse

HEAD = "head: "  # before the name of a recipe that was fitted to the head only
WHOLE = "swag,ensemble(point,num_members=3),bayes_by_backprop"
STEPS = {"bayes_by_backprop": 2.0}  # what a step costs in steps of point, where that is not one


class Remedy(NamedTuple):
    """A recipe, and the causes that it is tried against."""

    recipe: Recipe
    against: tuple[str, ...]  # names of causes


class Candidate(NamedTuple):
    """A fitted method that could be recommended, and what it was tried against."""

    classifier: Classifier
    fitted: Fitted
    against: tuple[str, ...] = ()  # names of causes
    note: str = ""  # what was changed about the training images


class Trained(NamedTuple):
    """A classifier with trained weights."""

    classifier: Classifier
    params: Any  # of `classifier.model`
    images: Dataset


def choose(found: list[Found]) -> list[Remedy]:
    """The remedies of the causes that are present, each once, in the order of the causes."""
    against: dict[Recipe, list[str]] = {}
    for cause, _, verdict in found:
        remedies = getattr(diagnose.load(cause), "REMEDIES", ())
        if verdict.state == PRESENT and remedies:
            for recipe in parse(",".join(remedies)):
                against.setdefault(recipe, []).append(cause)
    return [Remedy(recipe, tuple(causes)) for recipe, causes in against.items()]


def resample(dataset: Dataset, found: list[Found], collected: Collected) -> tuple[Dataset, str]:
    """Repeats each training image as often as the verdicts say.

    Where a verdict says anything, only images that are part of the evidence are kept.

    Returns:
        The data, and what was changed, in words; empty where nothing was.
    """
    counts = [cause.verdict.counts for cause in found if cause.verdict.counts is not None]
    if not counts:
        return dataset, ""
    times = np.prod(np.stack(counts), axis=0).astype(int)
    rows = np.repeat(collected.rows["train"], times)
    train = dataset.train
    repeated = Split(np.asarray(train.images[rows]), train.labels[rows], train.ids[rows])
    left_out, more = int(np.sum(times == 0)), int(np.sum(times > 1))
    notes = [f"{format.plural(left_out, 'training image')} left out"] if left_out else []
    notes += [f"{format.plural(more, 'training image')} learnt more often"] if more else []
    return dataset._replace(train=repeated), " and ".join(notes)


def fit_heads(
    found: list[Found],
    collected: Collected,
    trained: Trained,
    options: TrainingOptions,
    run: Run,
) -> tuple[Classifier, dict[str, Candidate]] | None:
    """Fits the remedies of the causes that are present to the head.

    Args:
        found: the verdicts.
        collected: the evidence that they are about.
        trained: the classifier that was diagnosed.
        options: how `point` is trained.
        run: the run; its trainings lie in `training/head`.

    Returns:
        The classifier with its base frozen, on the features of all images, and the candidates by
        name. None where no cause that is present names a remedy, the model is a black box, or there
        are fewer training images than devices.
    """
    remedies, head, params = choose(found), trained.classifier, trained.params
    layers = head.layers
    if not remedies or layers is None:
        return None
    if head.trainable == "all":
        head = head.freeze(params, trained.images, run)
        params = chain.pick(params, head.head.layers)
    dataset, note = resample(head.inputs, found, collected)
    if note:
        params = None  # a recipe that starts from a trained head starts from one fitted to these
        dataset = dataset._replace(fingerprint=f"{dataset.fingerprint}-{note}")
    batch_size = min(options.batch_size, dataset.num_train) // run.mesh.size * run.mesh.size
    if not batch_size:
        return None
    options = options.replace(batch_size=batch_size)
    problem, candidates = Problem(head.model, dataset, params), {}
    folder = run.folder("training/head")
    for number, (recipe, against) in enumerate(remedies, start=1):
        print(f"{HEAD}{recipe} ({number} of {len(remedies)} remedies)", file=sys.stderr)
        fitted = fit(run.key("train"), recipe, problem, options, folder)
        classifier = replace(head, dataset=dataset)
        candidates[HEAD + str(recipe)] = Candidate(classifier, fitted, against, note)
    return head, candidates


def cost(recipe: Recipe) -> float:
    """What a training costs, in trainings of `point`; a rough guess, to plan by."""
    members = dict(recipe.options).get("num_members", 1)
    if recipe.inner is not None:
        return members * cost(recipe.inner)
    return members * recipe.training.epochs * STEPS.get(recipe.name, 1.0)


def fit_networks(
    minutes: float, seconds_of_point: float, known: Mapping, fit_one: Callable[[Recipe], Fitted]
) -> list[Fitted]:
    """Fits `WHOLE` to the whole network, as far as the time goes.

    Args:
        minutes: the budget.
        seconds_of_point: what training the network took.
        known: what was fitted already, by name.
        fit_one: trains a recipe.

    Returns:
        What was fitted. Recipes that the time was too short for are named on stderr.
    """
    started, fitted, left = time.monotonic(), [], []
    for recipe in sorted(parse(WHOLE), key=cost):
        spent = time.monotonic() - started
        if str(recipe) in known:
            continue
        if spent + cost(recipe) * seconds_of_point > 60 * minutes:
            left.append(str(recipe))
        else:
            fitted.append(fit_one(recipe))
    if left:
        text = f"`budget` {minutes:g}: no time for {', '.join(left)}; the same command with a"
        print(flags(f"{text} larger one goes on"), file=sys.stderr)
    return fitted
