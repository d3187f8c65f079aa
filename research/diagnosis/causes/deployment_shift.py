"""The images it is asked about now are of another kind than those it was judged on.

A classifier two-sample test between the test images and a folder of new ones, which need no labels
(`--compare`). What was measured on the test images holds for images like those.
"""

import numpy as np

from research.diagnosis.evidence import Evidence
from research.diagnosis.two_sample import two_sample_test
from research.diagnosis.verdict import ABSENT, PRESENT, Verdict, is_above, unknown
from research.metrics import format

TITLE = "The images to compare with are of another kind"
LEAST_AUROC = 0.6
LEAST_IMAGES = 20
MOST_IMAGES = 1_000  # of the test split
COMPONENTS = 32
MOST_SUSPECTS = 12


def examine(evidence: Evidence) -> Verdict:
    """Whether new images can be told from test images."""
    new, probe = evidence.new, evidence.probe
    if new is None:
        return unknown("Needs a folder of images that it is asked about now: --compare FOLDER.")
    if probe is None:
        return unknown("Needs the training images beside the test images.")
    index = np.random.default_rng(evidence.seed).permutation(len(probe.inputs["test"]))
    test = probe.inputs["test"][index[:MOST_IMAGES], :COMPONENTS]
    inputs = probe.project(new.features)[:, :COMPONENTS]
    if min(len(test), len(inputs)) < LEAST_IMAGES:
        return unknown(f"Needs {LEAST_IMAGES} test images and as many to compare with.")
    is_new = np.repeat([False, True], [len(test), len(inputs)])
    same = np.zeros(len(is_new), int)
    apart, score = two_sample_test(np.concatenate([test, inputs]), is_new, same, seed=evidence.seed)
    measure, name = "AUROC of telling new from test images", "classifier two-sample test"
    sure = np.exp(new.log_probs.max(axis=1)).mean()
    text = (
        f"A simple classifier tells the {format.count(len(inputs))} new images from the test "
        f"images with AUROC {format.number(apart.value)} (0.5: not at all). It is "
        f"{format.percent(sure)} sure of the new ones, "
        f"{format.percent(evidence.scores['test'].confidence.mean())} of the test images."
    )
    if not is_above(apart, LEAST_AUROC):
        return Verdict(ABSENT, text, measure, apart, name)
    unlike = np.argsort(-score[is_new], kind="stable")[:MOST_SUSPECTS]
    return Verdict(
        PRESENT,
        text + " What this page says of the test images need not hold for them.",
        measure,
        apart,
        name,
        advice="Label a few hundred of the new images, and add them to training and test.",
        suspects=tuple(("new", int(i)) for i in unlike),
    )
