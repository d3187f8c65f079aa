"""A shortcut: the class is read off a mark in a corner, and the object does not matter.

Permutation importance (Breiman 2001) of regions: a region of each test image is swapped for that of
another one, so that it looks as before and tells nothing of the class. A corner holds little of
most objects; a classifier that is wrong without its corners has learnt something else than the
object. The text also tells what happens without the whole border, the colour or a channel; that
need be no fault.
"""

import itertools

import numpy as np
from tqdm import tqdm

from research.diagnosis.evidence import Evidence, Predict
from research.diagnosis.verdict import (
    LEAST_EFFECT,
    Effect,
    Verdict,
    Verdicts,
    is_above,
    mean_of,
    unknown,
)
from research.metrics import format
from research.metrics.scores import scores

TITLE = "It looks at a mark instead of the object"
CELLS = 6  # a side; the corners are one cell each
LEAST_DROP = 0.05  # of accuracy
LEAST_RATIO = 2.0  # of the rise of the NLL without the corner to that without any other part
BORDER = 8  # the part of a side that the border is wide
GREY = np.array([0.299, 0.587, 0.114])  # luma of ITU-R BT.601
MOST_IMAGES = 200
MOST_PIXELS = 200 * 64 * 64  # of all images together: each is predicted once for every cell
LEAST_IMAGES = 20


def importance(
    predict: Predict, images: np.ndarray, labels: np.ndarray, seed: int
) -> dict[tuple[int, int], tuple[np.ndarray, np.ndarray]]:
    """What is lost when a cell of the image is taken from another image.

    Args:
        predict: images [N, H, W, 3] -> log_probs [N, K].
        images: [N, H, W, 3] uint8.
        labels: [N].
        seed: decides which image another one is.

    Returns:
        By (row, column) of a `CELLS` by `CELLS` grid: the fall of being right [N], -1 to 1, and the
        rise of the NLL [N].
    """
    before = scores(predict(images)[None], labels)
    others = images[np.random.default_rng(seed).permutation(len(images))]
    rows, columns = (np.linspace(0, side, CELLS + 1).astype(int) for side in images.shape[1:3])
    found = {}
    cells = list(itertools.product(range(CELLS), repeat=2))
    for r, c in tqdm(cells, desc="what it looks at", unit="region", leave=False, disable=None):
        cell = slice(None), slice(rows[r], rows[r + 1]), slice(columns[c], columns[c + 1])
        swapped = images.copy()
        swapped[cell] = others[cell]
        after = scores(predict(swapped)[None], labels)
        found[r, c] = before.correct - after.correct.astype(float), after.nll - before.nll
    return found


def without(images: np.ndarray, others: np.ndarray) -> dict[str, np.ndarray]:
    """The images with their border, colour or a channel taken away.

    Args:
        images: [N, H, W, 3] uint8.
        others: images of the same shape, whose parts are put in instead.

    Returns:
        Images [N, H, W, 3] uint8 by what was done to them, in words. Grey images have no colour to
        lose.
    """
    rows, columns = (max(1, side // BORDER) for side in images.shape[1:3])
    inside = slice(rows, -rows), slice(columns, -columns)
    framed = others.copy()
    framed[:, *inside] = images[:, *inside]
    changed = {"with the border of another image": framed}
    if not (images == images[..., :1]).all():
        grey = np.rint(images @ GREY).astype(np.uint8)
        changed["without colour"] = np.repeat(grey[..., None], 3, axis=-1)
        for channel, name in enumerate(("red", "green", "blue")):
            swapped = images.copy()
            swapped[..., channel] = others[..., channel]
            changed[f"with the {name} of another image"] = swapped
    return changed


def _ablations(predict: Predict, images: np.ndarray, labels: np.ndarray, seed: int) -> str:
    """Accuracy and confidence without the border, the colour and each channel, in words."""
    others = images[np.random.default_rng(seed).permutation(len(images))]
    results = []
    for name, changed in {"as they are": images, **without(images, others)}.items():
        found = scores(predict(changed)[None], labels)
        accuracy, confidence = (format.percent(x.mean()) for x in (found.correct, found.confidence))
        results.append(f"{name} {accuracy} ({confidence})")
    return f" Right, and in brackets how sure: {'; '.join(results)}."


def examine(evidence: Evidence) -> Verdict:
    """Whether a corner of the image decides."""
    test = evidence.splits["test"]
    if evidence.predict is None or test.images is None:
        return unknown("Needs the images and the network.")
    if len(test.labels) < LEAST_IMAGES or min(test.images.shape[1:3]) < CELLS:
        return unknown(f"Needs {LEAST_IMAGES} test images of {CELLS} pixels or more.")
    pixels = test.images.shape[1] * test.images.shape[2]
    most = max(LEAST_IMAGES, min(MOST_IMAGES, MOST_PIXELS // pixels))
    chosen = np.sort(np.random.default_rng(evidence.seed).permutation(len(test.labels))[:most])
    images, labels = np.asarray(test.images[chosen]), test.labels[chosen]
    found = importance(evidence.predict, images, labels, evidence.seed)
    last = CELLS - 1
    corners = {(r, c): found[r, c] for r in (0, last) for c in (0, last)}
    where = max(corners, key=lambda cell: corners[cell][1].mean())
    drop, rise = (mean_of(x, evidence.seed) for x in corners[where])
    lost = drop.numbers()[0]
    name = f"{'upper' if where[0] == 0 else 'lower'} {'left' if where[1] == 0 else 'right'}"
    highest = max(found, key=lambda cell: found[cell][0].mean())
    text = (
        f"With the {name} corner taken from another image, it is right "
        f"{format.percent(abs(lost))} {'less' if lost >= 0 else 'more'} often. "
        f"No part matters more than row {highest[0] + 1}, column {highest[1] + 1} of a "
        f"{CELLS} by {CELLS} grid ({format.percent(abs(found[highest][0].mean()))})."
        + _ablations(evidence.predict, images, labels, evidence.seed)
    )
    finding = Verdicts(
        f"accuracy lost without the {name} corner",
        "permutation importance of image regions, paired bootstrap",
    )
    heat = np.array([[found[r, c][0].mean() for c in range(CELLS)] for r in range(CELLS)])
    elsewhere = max(found[cell][1].mean() for cell in found if cell != where)
    costs_most = is_above(rise, LEAST_EFFECT) and rise.numbers()[0] > LEAST_RATIO * elsewhere
    if not (is_above(drop, LEAST_DROP) or costs_most):
        return finding.absent(text, drop, heat=heat)
    return finding.present(
        text,
        drop,
        Effect(rise, None),
        f"Look at what is in the {name} corner (a date, a logo, a mark of the camera), crop or "
        "cover it, and train again.",
        heat=heat,
    )
