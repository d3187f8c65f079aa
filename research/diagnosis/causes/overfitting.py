"""Overfitting: it has learnt its training images by heart, and says so of all others.

Its NLL on training images lies below that on new ones, and the new ones would do better with less:
a head on the same features with early stopping and weight decay, or its own logits, which training
has blown up, divided by the temperature that validation images ask for. The accuracy may be the
same (Guo et al. 2017, section 3, who call it NLL overfitting). The history, where there is one,
shows the turn. Where its loss began with a jump, the learning rate is to blame
(`learning_rate.py`).
"""

import numpy as np

from research.calibrators.temperature import temperature
from research.diagnosis.evidence import Evidence
from research.diagnosis.loss_curve import has_jumped, read_curve
from research.diagnosis.verdict import (
    ABSENT,
    LEAST_EFFECT,
    PRESENT,
    Effect,
    Verdict,
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
LEAST_TEMPERATURE = 3.0  # of blown-up logits; what is not overfitted seldom asks for as much
TEST = "paired bootstrap against a tamer head, and against its own logits cooled"


def _turn(history: tuple[dict, ...]) -> str:
    """What the validation NLL did in training, in words; empty where it did not turn."""
    nll = np.array([row["valid_nll"] for row in history if "valid_nll" in row])
    if len(nll) < 3 or not np.isfinite(nll).all() or nll[-1] < 1.1 * nll.min():
        return ""
    epoch = history[int(nll.argmin())].get("epoch", int(nll.argmin()) + 1)
    return (
        f" In training its validation NLL fell to {format.number(nll.min())} (epoch {epoch:g}) and "
        f"rose again to {format.number(nll[-1])}."
    )


def _cooled(evidence: Evidence) -> tuple[dict, Effect]:
    """The temperature that the validation images ask for, and what it is worth on the test."""
    valid, test = evidence.splits["valid"], evidence.splits["test"]
    cool = temperature(valid.log_probs[None], valid.labels)
    said = cool.apply(test.log_probs[None])[0]
    return cool.fitted, effect_between(test.log_probs, said, test.labels, evidence.seed)


def _scale(evidence: Evidence, fitted: dict) -> str:
    """How far apart its logits are, and how far they should be, in words."""
    smallest = np.log(np.finfo(float).tiny)  # of what was rounded to a probability of 0
    by_split = (np.maximum(evidence.splits[s].log_probs, smallest) for s in ("train", "test"))
    best = (np.sort(log_probs, axis=1)[:, -2:] for log_probs in by_split)
    train, test = (format.number(float(np.median(each[:, 1] - each[:, 0]))) for each in best)
    margins = f" The logits of its two best classes lie {train} apart on those, {test} on new ones"
    if not fitted["low"]:  # every one is right, or they are no better than guesses
        return f"{margins}."
    bound = "" if fitted["high"] is None else f", {format.number(fitted['high'])} at most"
    return (
        f"{margins}; the validation images ask for a temperature of "
        f"{format.number(fitted['temperature'])} ({format.number(fitted['low'])} at least{bound})."
    )


def examine(evidence: Evidence) -> Verdict:
    """Whether the same features, fitted less closely, give better answers on new images."""
    if (probe := evidence.probe) is None or not evidence.knows_training:
        return unknown("Needs the training and validation images beside the test images.")
    train, test = evidence.scores["train"], evidence.scores["test"]
    gap = difference_of(test.nll, train.nll, evidence.seed)
    labels = evidence.splits["test"].labels
    healthy = probe.reference
    tamer = effect_between(
        evidence.splits["test"].log_probs, healthy.log_probs["test"], labels, evidence.seed
    )
    fitted, cooled = _cooled(evidence)
    train_labels = evidence.splits["train"].labels
    fits_closer = train.nll.mean() < healthy.nll("train", train_labels).mean()
    measure = "NLL on the test images less that on the training images"
    least = max(LEAST_EFFECT, LEAST_SHARE * test.nll.mean())
    # Few mistakes leave the tamer head's interval wide; the same answers cooled stay near them.
    is_tamer_better = is_above(tamer.nll, least)
    is_blown_up = fitted["temperature"] >= LEAST_TEMPERATURE and is_above(cooled.nll, least)
    text = (
        f"NLL {format.number(train.nll.mean())} on the images it learnt from, "
        f"{format.number(test.nll.mean())} on new ones"
    )
    scale = _scale(evidence, fitted)
    if not (fits_closer and is_above(gap, LEAST_EFFECT) and (is_tamer_better or is_blown_up)):
        return Verdict(ABSENT, f"{text}; a tamer head does no better.{scale}", measure, gap, TEST)
    curve = read_curve(evidence.history)
    if curve is not None and has_jumped(curve, len(evidence.classes)):
        return Verdict(ABSENT, f"{text}, because its steps were too long.", measure, gap, TEST)
    return Verdict(
        PRESENT,
        f"{text}; a head on the same features that was stopped in time has "
        f"{format.number(healthy.nll('test', labels).mean())}.{scale}{_turn(evidence.history)} "
        f"A head learns {format.percent(probe.learns_by_heart)} of these images even with labels "
        "drawn at random.",
        measure,
        gap,
        TEST,
        tamer if is_tamer_better else cooled,
        "Stop when the validation NLL is lowest, add weight decay or dropout, or keep a "
        "distribution over the weights; temperature scaling mends what is trained already.",
    )
