"""The images that the classifier is used on now are of another kind than the test images.

A classifier two-sample test between the test images and a folder of new ones (`compare`), which
need no labels. What was measured on the test images holds for images like those.
"""

import numpy as np

from research.diagnosis.evidence import Evidence
from research.diagnosis.two_sample import LEAST_IMAGES, MOST_IMAGES, TEST, two_sample_test
from research.diagnosis.verdict import (
    MOST_SUSPECTS,
    NEEDS_TRAINING,
    Verdict,
    Verdicts,
    is_above,
    unknown,
)
from research.metrics import format

TITLE = "The images to compare with are of another kind"
LEAST_AUROC = 0.6
FINDING = Verdicts("AUROC of telling new from test images", TEST)


def examine(evidence: Evidence) -> Verdict:
    """Whether new images can be told from test images."""
    new, probe = evidence.new, evidence.probe
    if new is None:
        return unknown("Needs a folder of images that it is asked about now: `compare` FOLDER.")
    if probe is None:
        return unknown(NEEDS_TRAINING)
    index = np.random.default_rng(evidence.seed).permutation(len(probe.inputs["test"]))
    test, inputs = probe.inputs["test"][index[:MOST_IMAGES]], probe.project(new.features)
    if min(len(test), len(inputs)) < LEAST_IMAGES:
        return unknown(f"Needs {LEAST_IMAGES} test images and as many to compare with.")
    comparison = two_sample_test(test, inputs, seed=evidence.seed)
    confidence = np.exp(new.log_probs.max(axis=1)).mean()
    samples = f"the {format.count(len(inputs))} new images from the test images"
    text = (
        f"{comparison.sentence(samples)} It is {format.percent(confidence)} sure of the new ones, "
        f"{format.percent(evidence.scores['test'].confidence.mean())} of the test images."
    )
    if not is_above(comparison.auroc, LEAST_AUROC):
        return FINDING.absent(text, comparison.auroc)
    unlike = np.argsort(-comparison.second, kind="stable")[:MOST_SUSPECTS]
    return FINDING.present(
        text + " What this page says of the test images need not hold for them.",
        comparison.auroc,
        None,
        "Label a few hundred of the new images, and add them to training and test.",
        suspects=tuple(("new", int(i)) for i in unlike),
    )
