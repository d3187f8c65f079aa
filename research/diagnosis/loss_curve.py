"""The shape of a loss curve: rough, still falling, or flat.

The curve is the mean training loss of every epoch. How far training has come is measured by the sum
of the learning rates so far, because a rate that is lowered to 0 flattens every curve.
"""

from typing import NamedTuple

import numpy as np

ROUGH = 1.0  # the sum of all rises, over the whole range of the curve
NOISE = 0.01  # the mean rise per epoch, over the mean loss, that minibatches cause by themselves
JUMP = 2.0  # the first epoch's loss, over that of giving every class the same probability
FALLING = 0.13  # the fall in the last quarter, over that in the first
SMOOTH = 3  # epochs in the moving average from which falls are read


class Curve(NamedTuple):
    """A loss curve in three numbers."""

    climbs: float  # the sum of all rises over the range; 0 where noise can account for them
    start: float  # the loss of the first epoch
    late_fall: float  # the fall in the last quarter over that in the first
    is_finite: bool


def has_jumped(curve: Curve, classes: int) -> bool:
    """Whether the first steps led far off, or the loss diverged: no noise does that."""
    return not curve.is_finite or bool(curve.start > JUMP * np.log(classes))


def is_too_fast(curve: Curve, classes: int) -> bool:
    """Whether the steps were too long: the loss jumped, or went up and down."""
    return has_jumped(curve, classes) or curve.climbs > ROUGH


def read_curve(history: tuple[dict, ...]) -> Curve | None:
    """The curve of a history; None where it is too short to tell.

    Args:
        history: rows with `loss`, and `learning_rate` where it varies.
    """
    rows = [row for row in history if row.get("loss") is not None]
    loss = np.array([row["loss"] for row in rows], np.float64)
    if len(loss) < 5:
        return None
    if not np.isfinite(loss).all():
        return Curve(np.inf, float(loss[0]), 0.0, False)
    rates = np.array([row.get("learning_rate", 1.0) or 0.0 for row in rows], np.float64)
    way = np.cumsum(rates if rates.sum() > 0 else np.ones(len(rows)))
    padded = np.pad(loss, SMOOTH // 2, mode="edge")
    smooth = np.convolve(padded, np.full(SMOOTH, 1 / SMOOTH), mode="valid")
    begin, end = (smooth[np.searchsorted(way, share * way[-1])] for share in (0.25, 0.75))
    rises = np.maximum(np.diff(loss), 0)
    is_noise = rises.mean() <= NOISE * np.abs(loss).mean()
    climbs = 0.0 if is_noise or not np.ptp(loss) else rises.sum() / np.ptp(loss)
    first = smooth[0] - begin
    late = (end - smooth[-1]) / first if first > 0 else 0.0
    return Curve(float(climbs), float(loss[0]), float(late), True)
