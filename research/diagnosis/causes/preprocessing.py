"""The pixels reach the network in another form than in its training.

BGR for RGB, 0..1 for 0..255, other means: a network still answers, and with certainty. The other
forms are tried; one that is right far more often is the one that it was trained with. They are
tried on validation images where there are any: test images may be of another kind.
"""

import numpy as np

from research.diagnosis.causes.permuted_classes import best_order
from research.diagnosis.evidence import Evidence
from research.diagnosis.verdict import (
    ABSENT,
    PRESENT,
    Verdict,
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
    part = evidence.splits.get("valid", evidence.splits["test"])
    if not evidence.predict_as or part.images is None:
        return unknown(
            "Needs the images and a model from elsewhere (--model) whose file does not say itself "
            "how pixels are prepared."
        )
    chosen = np.random.default_rng(evidence.seed).permutation(len(part.labels))[:MOST_IMAGES]
    images, labels = np.asarray(part.images[np.sort(chosen)]), part.labels[np.sort(chosen)]
    as_it_is = part.log_probs[np.sort(chosen)]
    right = as_it_is.argmax(axis=1) == labels
    tried = {name: ask(images) for name, ask in evidence.predict_as.items()}
    accuracy = {name: float(np.mean(x.argmax(axis=1) == labels)) for name, x in tried.items()}
    best = max(accuracy, key=accuracy.get)
    # Classes that have changed places are right so seldom that any other form seems better.
    predicted = as_it_is.argmax(axis=1)
    renamed = best_order(predicted, labels, as_it_is.shape[1])[predicted] == labels
    gain = mean_of((tried[best].argmax(axis=1) == labels) - renamed.astype(float), evidence.seed)
    told = ", ".join(f"{name} {format.percent(value)}" for name, value in accuracy.items())
    text = f"Right as it is: {format.percent(right.mean())}; with other forms: {told}."
    measure, test = f"accuracy gained with '{best}'", "each form tried, paired bootstrap"
    if not is_above(gain, LEAST_GAIN):
        return Verdict(ABSENT, text, measure, gain, test)
    return Verdict(
        PRESENT,
        text,
        measure,
        gain,
        test,
        effect_between(as_it_is, tried[best], labels, evidence.seed),
        f"Prepare the pixels as in training: --preprocess {best}.",
        corrected=evidence.with_preprocess and evidence.with_preprocess(best),
    )
