"""The pixels reach the network in another form than in its training.

BGR for RGB, 0..1 for 0..255, other means: a network still answers, and confidently. The other
preprocessings are tried; one that is right far more often is the one that it was trained with. They
are tried on validation images where there are any, as test images may be of another kind.
"""

import numpy as np

from research.diagnosis.class_order import best_order
from research.diagnosis.evidence import Evidence
from research.diagnosis.verdict import (
    Verdict,
    Verdicts,
    effect_between,
    is_above,
    mean_of,
    unknown,
)
from research.metrics import format

TITLE = "Its pixels come in the wrong form"
FAULT_OF = "input"
LEAST_GAIN = 0.05  # of accuracy
MOST_IMAGES = 200


def examine(evidence: Evidence) -> Verdict:
    """Whether another preprocessing is right more often."""
    split = evidence.splits.get("valid", evidence.splits["test"])
    if not evidence.predict_as or split.images is None:
        return unknown(
            "Needs the images and a model from elsewhere (`model`) whose file does not say itself "
            "how pixels are prepared."
        )
    order = np.random.default_rng(evidence.seed).permutation(len(split.labels))
    chosen = np.sort(order[:MOST_IMAGES])
    images, labels = np.asarray(split.images[chosen]), split.labels[chosen]
    log_probs = split.log_probs[chosen]
    predicted = log_probs.argmax(axis=1)
    tried = {name: predict(images) for name, predict in evidence.predict_as.items()}
    accuracy = {name: float(np.mean(x.argmax(axis=1) == labels)) for name, x in tried.items()}
    best = max(accuracy, key=lambda name: accuracy[name])
    # Classes that have changed places are right so seldom that any other form seems better.
    renamed = best_order(predicted, labels, log_probs.shape[1])[predicted] == labels
    gain = mean_of((tried[best].argmax(axis=1) == labels) - renamed.astype(float), evidence.seed)
    others = ", ".join(f"{name} {format.percent(value)}" for name, value in accuracy.items())
    right = format.percent(np.mean(predicted == labels))
    text = f"Right as it is: {right}; with other forms: {others}."
    finding = Verdicts(f"accuracy gained with '{best}'", "each form tried, paired bootstrap")
    if not is_above(gain, LEAST_GAIN):
        return finding.absent(text, gain)
    return finding.present(
        text,
        gain,
        effect_between(log_probs, tried[best], labels, evidence.seed),
        f"Prepare the pixels as in training: `preprocess` {best}.",
        corrected=evidence.with_preprocess and evidence.with_preprocess(best),
    )
