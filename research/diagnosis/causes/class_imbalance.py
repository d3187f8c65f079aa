"""Classes are as frequent in training as nowhere else: it expects what it was fed.

The counts of the classes in training against those in the test split (a chi-square test), and what
a refitted head would say had it known how frequent they are now: its probabilities times how much
more frequent each class has become (Saerens, Latinne & Decaestecker 2002, equation 4). A head
refitted with rare classes weighted up says little more where only two or three images of them are
there to be weighted.
"""

import numpy as np
from scipy.special import log_softmax
from scipy.stats import chi2_contingency

from research.diagnosis.evidence import Evidence
from research.diagnosis.verdict import ABSENT, PRESENT, Verdict, effect_between, is_above, unknown
from research.metrics import format
from research.metrics.intervals import UNDEFINED, Estimate

TITLE = "Some classes were too rare in training"
REMEDIES = ("point(weight_decay=0.1)", "ensemble(point,num_members=5)")
LEAST_RATIO = 2.0
LEAST_P = 1e-3
LEAST_EFFECT = 0.005
MOST_OFTEN = 20  # an image is learnt, of the rarest class


def examine(evidence: Evidence) -> Verdict:
    """Whether classes that are frequent now were rare in training."""
    if (probe := evidence.probe) is None:
        return unknown("Needs the training images beside the test images.")
    k, labels = len(evidence.classes), evidence.splits["test"].labels
    train = np.bincount(evidence.splits["train"].labels, minlength=k)
    test = np.bincount(labels, minlength=k)
    known = (train + test) > 0
    is_table = known.sum() > 1 and train.sum() and test.sum()
    p = chi2_contingency(np.stack([train, test])[:, known]).pvalue if is_table else 1.0
    share_train, share_test = (train + 1) / (train.sum() + k), (test + 1) / (test.sum() + k)
    ratio = share_test / share_train
    rarest = int(ratio.argmax())
    measure = f"how much rarer {evidence.classes[rarest]} was in training"
    number = Estimate(float(ratio[rarest]), None, None, "none")
    spread = ", ".join(
        f"{name} {format.percent(a)} ({format.percent(b)})"
        for name, a, b in list(zip(evidence.classes, share_train, share_test, strict=True))[:10]
    )
    text = f"Share in training (in the test images): {spread}."
    test_name = "chi-square of the class counts, then a head told the counts of the test"
    if p > LEAST_P or ratio.max() < LEAST_RATIO:
        return Verdict(ABSENT, text, measure, number, test_name)
    expects_training = probe.reference.log_probs["test"]
    expects_test = log_softmax(expects_training + np.log(ratio), axis=1)
    effect = effect_between(expects_training, expects_test, labels, evidence.seed)
    if not is_above(effect.nll, LEAST_EFFECT):
        return Verdict(ABSENT, text + " Knowing it does no good.", measure, number, test_name)
    often = np.maximum(1, np.rint(ratio / ratio[train > 0].min())).astype(int)
    said = evidence.scores["test"]
    rare = ratio[labels] >= LEAST_RATIO
    recall = (
        f" Of the rarer ones it gets {format.percent(said.correct[rare].mean())} right, of the "
        f"others {format.percent(said.correct[~rare].mean())}."
        if rare.any() and not rare.all()
        else ""
    )
    return Verdict(
        PRESENT,
        text + recall,
        measure,
        number if number.value is not None else UNDEFINED,
        test_name,
        effect,
        f"Weight the loss by class, or collect more images of {evidence.classes[rarest]}.",
        counts=np.minimum(often, MOST_OFTEN)[evidence.splits["train"].labels],
    )
