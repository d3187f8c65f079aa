"""Wrong labels: nobody can be right about those, and a network that learns them is over-confident.

Heads that were not trained on an image predict its class (confident learning; Northcutt, Jiang &
Chuang 2021). Where images are merely hard, a temperature makes those predictions fit the labels.
Where some labels are drawn at random it cannot: confident and unconfident predictions are
contradicted alike. So the share of random labels is a parameter beside the temperature (the
symmetric noise of Mnih & Hinton 2012), and its likelihood tells how many they are, or that nobody
can tell. Mistakes that follow a rule, one class for another, are learnt by the heads too, but not
by heads that are trained without the suspect labels. A label is suspect where the head gives
another class at least the probability that it gives that class on average where it is the label.
"""

import numpy as np
from scipy.special import log_softmax
from scipy.stats import chi2

from research.calibrators.temperature import fit_temperature
from research.diagnosis.evidence import Evidence
from research.diagnosis.verdict import (
    MOST_SUSPECTS,
    NEEDS_TRAINING,
    Effect,
    Verdict,
    Verdicts,
    mean_of,
    unknown,
)
from research.metrics import format
from research.metrics.intervals import Estimate

TITLE = "Some labels are wrong"
REMEDIES = ("point(weight_decay=0.1)", "point(label_smoothing=0.1)")
LEAST_SHARE = 0.03  # of wrong labels: the interval lies above it
LEAST_RULED_SHARE = 0.1  # likewise, of mistakes that follow a rule
OPEN_SHARE = 0.2  # an interval that reaches from below `LEAST_SHARE` to above this tells nothing
LEAST_IMAGES = 300
RANDOM_SHARES = np.linspace(0.0, 0.98, 99)
LOG_TEMPERATURES = np.linspace(-3.0, 3.0, 61)
FINDING = Verdicts(
    "share of labels that are wrong at random",
    "likelihood of what heads say that have not seen the image",
)


def wrong_share(log_probs: np.ndarray, labels: np.ndarray) -> Estimate:
    """The share of labels that are wrong at random, and its profile-likelihood interval.

    p(label) = (1 - e) softmax(log_probs / T)[label] + e / K, and e (K - 1) / K of them are wrong.

    Args:
        log_probs: predictions [N, K] of heads that were not trained on the examples.
        labels: [N].
    """
    n, k = log_probs.shape
    tempered = (log_softmax(log_probs / np.exp(u), axis=1) for u in LOG_TEMPERATURES)
    right = np.exp(np.stack([x[np.arange(n), labels] for x in tempered]))  # [temperatures, N]
    right = np.maximum(right, np.finfo(float).tiny)
    best = [np.log((1 - e) * right + e / k).sum(axis=1).max() for e in RANDOM_SHARES]
    wrong = RANDOM_SHARES * (k - 1) / k
    likely = wrong[np.array(best) >= max(best) - chi2.ppf(0.95, df=1) / 2]
    at_best = wrong[int(np.argmax(best))]
    return Estimate(float(at_best), float(likely[0]), float(likely[-1]), "profile likelihood")


def suspects(log_probs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Whether another class is as probable as it usually is where it is the label: [N] bool.

    Args:
        log_probs: predictions [N, K] of heads that were not trained on the examples.
        labels: [N].
    """
    probs, k = np.exp(log_probs), log_probs.shape[1]
    usual = np.array(
        [probs[labels == c, c].mean() if (labels == c).any() else 2.0 for c in range(k)]
    )
    others = np.where(probs >= usual, probs, 0.0)
    others[np.arange(len(labels)), labels] = 0.0
    return others.max(axis=1) > probs[np.arange(len(labels)), labels]


def _range(share: Estimate) -> str:
    """The share as a range, in words."""
    if not share.high:
        return "hardly any"
    high = format.percent(share.high)
    return f"{format.percent(share.low)} to {high}" if share.low else f"at most {high}"


def examine(evidence: Evidence) -> Verdict:
    """Whether labels contradict heads that were not trained on the image, however confident."""
    if (probe := evidence.probe) is None:
        return unknown(NEEDS_TRAINING)
    labels, log_probs = probe.train_labels, probe.out_of_fold
    if len(labels) < LEAST_IMAGES:
        return unknown(f"Needs {LEAST_IMAGES} training images at least.")
    share, least = wrong_share(log_probs, labels), LEAST_SHARE
    temperature = fit_temperature(log_probs[None], labels).temperature
    log_probs = log_softmax(log_probs / temperature, axis=1)
    is_suspect = suspects(log_probs, labels)
    if share.numbers()[2] < LEAST_SHARE and np.mean(is_suspect) > LEAST_RULED_SHARE:
        share, least = wrong_share(probe.fit_out_of_fold(is_suspect), labels), LEAST_RULED_SHARE
    contradicted = format.percent(float(np.mean(log_probs.argmax(axis=1) != labels)))
    text = (
        f"Heads that have not seen an image contradict {contradicted} of the labels. Going by how "
        f"sure they are of it, {_range(share)} of the labels are wrong."
    )
    _, low, high = share.numbers()
    if low < least and high > OPEN_SHARE:
        return unknown(
            text + " Wrong labels and images that cannot be told apart look the same here; look at "
            "some by eye."
        )
    if low < least:
        return FINDING.absent(text, share)
    cleaned = probe.fit(weights=(~is_suspect).astype(float))
    test_labels = evidence.splits["test"].labels
    is_wrong = suspects(cleaned.log_probs["test"], test_labels)
    gain = probe.reference.nll("test", test_labels) - cleaned.nll("test", test_labels)
    cost = np.where(is_wrong, evidence.scores["test"].nll, gain)
    counts = np.ones(len(evidence.splits["train"].labels), int)
    counts[probe.kept[is_suspect]] = 0
    order = np.argsort(log_probs[np.arange(len(labels)), labels], kind="stable")
    shown = [("train", int(probe.kept[i])) for i in order if is_suspect[i]][:MOST_SUSPECTS]
    return FINDING.present(
        text,
        share,
        Effect(mean_of(cost, evidence.seed), None),
        f"Look at the {format.count(int(is_suspect.sum()))} suspect labels, correct them, and "
        "train again; label smoothing or early stopping makes the others do less harm.",
        suspects=tuple(shown),
        counts=counts,
    )
