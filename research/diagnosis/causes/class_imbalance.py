"""Classes that are frequent in the test split were rare in training: it expects what it was fed.

The counts of the classes in training are compared with those in the test split (a chi-square test).
The cost is what a reference head would gain had it known how frequent the classes are now: its
probabilities times how much more frequent each class has become (Saerens, Latinne & Decaestecker
2002, equation 4). A head refitted with rare classes weighted up gains little where only two or
three images of them are there to be weighted.
"""

import numpy as np
from scipy.special import log_softmax
from scipy.stats import chi2_contingency

from research.diagnosis.evidence import Evidence
from research.diagnosis.verdict import (
    MOST_OFTEN,
    NEEDS_TRAINING,
    Verdict,
    Verdicts,
    effect_between,
    is_above,
    unknown,
)
from research.metrics import format
from research.metrics.intervals import Estimate
from research.metrics.scores import Scores

TITLE = "Some classes were too rare in training"
REMEDIES = ("point(weight_decay=0.1)", "ensemble(point,num_members=5)")
LEAST_RATIO = 2.0
LEAST_P = 1e-3
LEAST_EFFECT = 0.005
MOST_CLASSES = 10  # that the text names


def _recall(scores: Scores, is_rare: np.ndarray) -> str:
    """How often it is right on images of rare classes and of others; empty without either."""
    if not is_rare.any() or is_rare.all():
        return ""
    return (
        f" Of the rarer ones it gets {format.percent(scores.correct[is_rare].mean())} right, of "
        f"the others {format.percent(scores.correct[~is_rare].mean())}."
    )


def examine(evidence: Evidence) -> Verdict:
    """Whether classes that are frequent now were rare in training."""
    if (probe := evidence.probe) is None:
        return unknown(NEEDS_TRAINING)
    k, labels = len(evidence.classes), evidence.splits["test"].labels
    train = np.bincount(evidence.splits["train"].labels, minlength=k)
    test = np.bincount(labels, minlength=k)
    known = (train + test) > 0
    is_table = known.sum() > 1 and train.sum() and test.sum()
    table = np.stack([train, test])[:, known]
    p = float(np.asarray(chi2_contingency(table)[1])) if is_table else 1.0
    share_train, share_test = (train + 1) / (train.sum() + k), (test + 1) / (test.sum() + k)
    ratio = share_test / share_train
    rarest = evidence.classes[int(ratio.argmax())]
    finding = Verdicts(
        f"how much rarer {rarest} was in training",
        "chi-square of the class counts, then a head told the counts of the test",
    )
    number = Estimate(float(ratio.max()), None, None, "none")
    shares = list(zip(evidence.classes, share_train, share_test, strict=True))[:MOST_CLASSES]
    listed = ", ".join(f"{name} {format.percent(a)} ({format.percent(b)})" for name, a, b in shares)
    text = f"Share in training (in the test images): {listed}."
    if p > LEAST_P or ratio.max() < LEAST_RATIO:
        return finding.absent(text, number)
    expects_training = probe.reference.log_probs["test"]
    expects_test = log_softmax(expects_training + np.log(ratio), axis=1)
    effect = effect_between(expects_training, expects_test, labels, evidence.seed)
    if not is_above(effect.nll, LEAST_EFFECT):
        return finding.absent(text + " Knowing it does no good.", number)
    often = np.maximum(1, np.rint(ratio / ratio[train > 0].min())).astype(int)
    return finding.present(
        text + _recall(evidence.scores["test"], ratio[labels] >= LEAST_RATIO),
        number,
        effect,
        f"Weight the loss by class, or collect more images of {rarest}.",
        counts=np.minimum(often, MOST_OFTEN)[evidence.splits["train"].labels],
    )
