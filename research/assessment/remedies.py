"""What to try against the causes that were found, the cheapest first.

A cause's file may name `REMEDIES`: recipes that fit it. They are tried on the head, trained anew on
cached features, which takes seconds; where a verdict says how often each training image should be
learnt (suspect labels never, rare classes more often), on images so counted. With a budget of
minutes the whole network is trained by `WHOLE` besides, as far as the time goes.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from research.data.dataset import Dataset, Split
from research.diagnosis import diagnose
from research.diagnosis.collect import Collected
from research.diagnosis.diagnose import Found
from research.diagnosis.verdict import PRESENT
from research.metrics import format
from research.models import chain
from research.models.classifier import Classifier
from research.models.layers import cut
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


class Cure(NamedTuple):
    """A fitted method that could be kept, and what it was tried against."""

    classifier: Classifier
    fitted: Fitted
    against: tuple[str, ...] = ()  # names of causes
    note: str = ""  # what was changed about the training images


class OfHead(NamedTuple):
    """What remedies made of the head."""

    dataset: Dataset  # features of all images as they are, to judge it on
    milliseconds: float  # of the frozen base, per image
    cures: dict[str, Cure]


def choose(found: list[Found]) -> list[Remedy]:
    """The remedies of the causes that are present, each once, in the order of the causes."""
    against: dict[Recipe, list[str]] = {}
    for each in found:
        if each.verdict.state == PRESENT:
            remedies = getattr(diagnose.load(each.cause), "REMEDIES", ())
            for recipe in parse(",".join(remedies)) if remedies else ():
                against.setdefault(recipe, []).append(each.cause)
    return [Remedy(recipe, tuple(causes)) for recipe, causes in against.items()]


def as_it_should_be_learnt(
    dataset: Dataset, found: list[Found], observed: Collected
) -> tuple[Dataset, str]:
    """The training images counted as the verdicts say, and a sentence about it.

    Only images that the diagnosis looked at are kept where a verdict counts any.
    """
    counts = [each.verdict.counts for each in found if each.verdict.counts is not None]
    if not counts:
        return dataset, ""
    times = np.prod(np.stack(counts), axis=0).astype(int)
    rows = np.repeat(observed.rows["train"], times)
    train = dataset.train
    learnt = Split(np.asarray(train.images[rows]), train.labels[rows], train.ids[rows])
    left_out, more = int(np.sum(times == 0)), int(np.sum(times > 1))
    told = [f"{format.plural(left_out, 'training image')} left out"] if left_out else []
    told += [f"{format.plural(more, 'training image')} learnt more often"] if more else []
    return dataset._replace(train=learnt), " and ".join(told)


def cure_head(
    found: list[Found],
    observed: Collected,
    classifier: Classifier,
    params,
    dataset: Dataset,
    options: TrainingOptions,
    run: Run,
) -> OfHead | None:
    """Fits the remedies of the causes found to the head.

    Args:
        found: verdicts.
        observed: what they are about.
        classifier: what was judged.
        params: its trained weights.
        dataset: of images.
        options: how `point` is trained.
        run: its folder gets the features, and a folder for each training.

    Returns:
        None where no cause that is present names a remedy, the model is a black box, or there are
        fewer training images than devices.
    """
    remedies = choose(found)
    if not remedies or classifier.layers is None:
        return None
    head = classifier
    if classifier.trainable == "all":
        head = classifier.freeze(params, dataset, run)
        params = chain.pick(params, cut(classifier.layers)[1])
    learnt, note = as_it_should_be_learnt(head.dataset, found, observed)
    if note:
        params = None  # what starts from a trained head starts from one that learnt these
        learnt = learnt._replace(fingerprint=f"{learnt.fingerprint}-{note}")
    devices = run.mesh.size
    batch_size = min(options.batch_size, learnt.num_train) // devices * devices
    if not batch_size:
        return None
    options = options.replace(batch_size=batch_size)
    problem, training = Problem(head.model, learnt, params), run.folder("training/head")
    cured, cures = replace(head, dataset=learnt), {}
    for number, (recipe, against) in enumerate(remedies, start=1):
        print(f"{HEAD}{recipe} ({number} of {len(remedies)} remedies)", file=sys.stderr)
        fitted = fit(run.key("train"), recipe, problem, options, training)
        cures[HEAD + str(recipe)] = Cure(cured, fitted, against, note)
    return OfHead(head.dataset, head.base_milliseconds, cures)


def cost(recipe: Recipe) -> float:
    """What a training costs, in trainings of `point`; a rough guess, to plan by."""
    members = dict(recipe.options).get("num_members", 1)
    inner = 1.0 if recipe.inner is None else cost(recipe.inner)
    own = recipe.training.epochs * STEPS.get(recipe.name, 1.0) if recipe.inner is None else 1.0
    return members * inner * own


def cure_network(
    minutes: float, seconds_of_point: float, known: dict, fit_one: Callable[[Recipe], Fitted]
) -> tuple[dict[str, Fitted], list[str]]:
    """Fits `WHOLE` to the whole network, as far as the time goes.

    Args:
        minutes: the budget.
        seconds_of_point: what training the network took.
        known: what was fitted already, by name.
        fit_one: trains a recipe.

    Returns:
        What was fitted, by name; and the recipes that the time was too short for.
    """
    begun, fitted, left = time.monotonic(), {}, []
    for recipe in sorted(parse(WHOLE), key=cost):
        spent = time.monotonic() - begun
        if str(recipe) in known:
            continue
        if spent + cost(recipe) * seconds_of_point > 60 * minutes:
            left.append(str(recipe))
        else:
            fitted[str(recipe)] = fit_one(recipe)
    return fitted, left
