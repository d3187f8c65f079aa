"""Overfitting: the network is as confident on new images as on the training images it memorised.

Its NLL on training images lies below that on new ones, and the new ones would have a lower one with
a closer rein: with a head on the same features that has early stopping and weight decay, or with
the network's own logits, which training has made too large, divided by the temperature that
validation images ask for. The accuracy may be the same (Guo et al. 2017, section 3, who call it NLL
overfitting). The history, where there is one, shows the turn. Where the loss began with a jump, the
learning rate is to blame (`learning_rate.py`).
"""

import numpy as np

from research.calibrators.temperature import temperature
from research.diagnosis.evidence import Evidence
from research.diagnosis.loss_curve import has_jumped, read_curve
from research.diagnosis.verdict import (
    LEAST_EFFECT,
    Effect,
    Verdict,
    Verdicts,
    difference_of,
    effect_between,
    is_above,
    unknown,
)
from research.metrics import format

TITLE = "It has learnt its training images by heart"
REMEDIES = (
    "point(weight_decay=0.1)",
    "laplace",
    # Over few images the prior of many weights outweighs them: beta < 1.
    "bayes_by_backprop(start=scratch,beta=0.01,initial_sigma=0.5)",
    "ivon(start=scratch)",
    "sngp",
    "ensemble(point,num_members=5)",
)
LEAST_SHARE = 0.1  # of its NLL on the test images that can be done without
LEAST_TEMPERATURE = 3.0  # logits that are not overfitted seldom need as much
FINDING = Verdicts(
    "NLL on the test images less that on the training images",
    "paired bootstrap against a tamer head, and against its own logits cooled",
)


def _turn(history: tuple[dict, ...]) -> str:
    """The fall and rise of the validation NLL in training, in words; empty where it never rose."""
    nll = np.array([row["valid_nll"] for row in history if "valid_nll" in row])
    if len(nll) < 3 or not np.isfinite(nll).all() or nll[-1] < 1.1 * nll.min():
        return ""
    epoch = history[int(nll.argmin())].get("epoch", int(nll.argmin()) + 1)
    return (
        f" In training its validation NLL fell to {format.number(nll.min())} (epoch {epoch:g}) and "
        f"rose again to {format.number(nll[-1])}."
    )


def _temper(evidence: Evidence) -> tuple[dict, Effect]:
    """The temperature fitted to the validation images, and what it gains on the test images."""
    valid, test = evidence.splits["valid"], evidence.splits["test"]
    calibrator = temperature(valid.log_probs[None], valid.labels)
    tempered = calibrator.apply(test.log_probs[None])[0]
    effect = effect_between(test.log_probs, tempered, test.labels, evidence.seed)
    return calibrator.fitted, effect


def _scale(evidence: Evidence, fitted: dict) -> str:
    """How far apart its logits are, and how far they should be, in words."""
    smallest = np.log(np.finfo(float).tiny)  # of what was rounded to a probability of 0
    by_split = (np.maximum(evidence.splits[s].log_probs, smallest) for s in ("train", "test"))
    best = (np.sort(log_probs, axis=1)[:, -2:] for log_probs in by_split)
    train, test = (format.number(float(np.median(x[:, 1] - x[:, 0]))) for x in best)
    margins = f" The logits of its two best classes lie {train} apart on those, {test} on new ones"
    if not fitted["low"]:  # every one is right, or they are no better than guesses
        return f"{margins}."
    bound = "" if fitted["high"] is None else f", {format.number(fitted['high'])} at most"
    return (
        f"{margins}; the validation images ask for a temperature of "
        f"{format.number(fitted['temperature'])} ({format.number(fitted['low'])} at least{bound})."
    )


def examine(evidence: Evidence) -> Verdict:
    """Whether the same features, fitted less closely, give better predictions on new images."""
    if (probe := evidence.probe) is None or not evidence.knows_training:
        return unknown("Needs the training and validation images beside the test images.")
    train, test = evidence.scores["train"], evidence.scores["test"]
    gap = difference_of(test.nll, train.nll, evidence.seed)
    labels = evidence.splits["test"].labels
    reference = probe.reference
    tamer = effect_between(
        evidence.splits["test"].log_probs, reference.log_probs["test"], labels, evidence.seed
    )
    fitted, tempered = _temper(evidence)
    train_labels = evidence.splits["train"].labels
    fits_closer = train.nll.mean() < reference.nll("train", train_labels).mean()
    least = max(LEAST_EFFECT, LEAST_SHARE * test.nll.mean())
    # Few mistakes leave the tamer head's interval wide; tempered predictions keep near its own.
    is_tamer_better = is_above(tamer.nll, least)
    is_blown_up = fitted["temperature"] >= LEAST_TEMPERATURE and is_above(tempered.nll, least)
    text = (
        f"NLL {format.number(train.nll.mean())} on the images it learnt from, "
        f"{format.number(test.nll.mean())} on new ones"
    )
    scale = _scale(evidence, fitted)
    if not (fits_closer and is_above(gap, LEAST_EFFECT) and (is_tamer_better or is_blown_up)):
        return FINDING.absent(f"{text}; a tamer head does no better.{scale}", gap)
    curve = read_curve(evidence.history)
    if curve is not None and has_jumped(curve, len(evidence.classes)):
        return FINDING.absent(f"{text}, because its steps were too long.", gap)
    return FINDING.present(
        f"{text}; a head on the same features that was stopped in time has "
        f"{format.number(reference.nll('test', labels).mean())}.{scale}{_turn(evidence.history)} "
        f"A head learns {format.percent(probe.random_labels_learnt)} of these images even with "
        "labels drawn at random.",
        gap,
        tamer if is_tamer_better else tempered,
        "Stop when the validation NLL is lowest, add weight decay or dropout, or keep a "
        "distribution over the weights; temperature scaling mends what is trained already.",
    )
