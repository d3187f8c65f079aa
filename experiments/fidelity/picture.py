"""The picture of `experiments.fidelity`: each method's uncertainty over the plane, side by side."""

import textwrap
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from research.data.dataset import Split
from research.report.svg import RIGHT, WRONG, style

COLUMNS = 5
PANEL = 2.3  # inches


def entropy_bits(probs: np.ndarray) -> np.ndarray:
    """Entropy of [G, K] probabilities, in bits, [G]; 0 log 0 is 0."""
    logs = np.log2(probs, where=probs > 0, out=np.zeros_like(probs))
    return -np.sum(probs * logs, axis=-1)


def draw_planes(
    path: Path, planes: dict[str, tuple[np.ndarray, str]], data: Split, extent: float
) -> None:
    """Draws one panel a method: dark is confident, the line is where both classes are as likely.

    Args:
        path: of the PNG.
        planes: by the method's name, probabilities [side * side, 2] and a note for the title.
        data: the training points.
        extent: the plane is [-extent, extent] squared.
    """
    rows = -(-len(planes) // COLUMNS)
    with style():
        figure = Figure(figsize=(COLUMNS * PANEL, rows * (PANEL + 0.45)))
        axes = figure.subplots(rows, COLUMNS, squeeze=False)
        for ax in axes.flat:
            ax.axis("off")
        box = (-extent, extent, -extent, extent)
        for ax, (name, (probs, note)) in zip(axes.flat, planes.items(), strict=False):
            side = round(len(probs) ** 0.5)
            bits = entropy_bits(probs).reshape(side, side)
            shown = ax.imshow(bits, "magma", origin="lower", extent=box, vmin=0, vmax=1)
            ahead = (probs[:, 1] - probs[:, 0]).reshape(side, side)
            if ahead.min() < 0 < ahead.max():
                ax.contour(ahead, [0.0], extent=box, colors="white", linewidths=0.8)
            for label, colour in ((0, RIGHT), (1, WRONG)):
                points = data.images[data.labels == label]
                ax.scatter(*points.T, s=5, color=colour, edgecolors="white", linewidths=0.2)
            title = "\n".join([*textwrap.wrap(name.replace("_", " "), 32), note])
            ax.set_title(title, fontsize=7.5, fontweight="normal")
        bar = figure.colorbar(shown, ax=axes, shrink=0.6, aspect=40, pad=0.01)
        bar.set_label("entropy of the predictive (bits)")
        figure.savefig(path, dpi=110, metadata={"Software": None})
