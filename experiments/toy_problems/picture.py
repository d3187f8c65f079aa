"""Draws accuracy against mean confidence, every remedy a point."""

from pathlib import Path

import matplotlib
import numpy as np

from experiments.toy_problems.table import panels

matplotlib.use("agg")  # draws into files; no window is needed
from matplotlib.figure import Figure

COLOURS = {"as it is": "#c0392b", "truth": "#333333", "text": "#c77800", "posterior": "#1f5fa8"}
MARKERS = {"as it is": "s", "truth": "*", "text": "o", "posterior": "D"}
LOWEST = 0.48  # of two classes the confidence is at least one half


def _panel(axes, title: str, remedies: dict[str, dict[str, dict]]) -> None:
    points = []
    for name, by_metric in remedies.items():
        x, y = by_metric["mean_confidence"], by_metric["accuracy"]
        kind = name if name in COLOURS else x["kind"]
        if x["low"] is not None:
            reach = [[abs(v["value"] - v[end]) for end in ("low", "high")] for v in (x, y)]
            spread = {"xerr": np.c_[reach[0]], "yerr": np.c_[reach[1]]}
            bars = {"fmt": "none", "ecolor": COLOURS[kind], "elinewidth": 0.8, "alpha": 0.5}
            axes.errorbar(x["value"], y["value"], **spread, **bars)
        size = 110 if kind == "truth" else 34
        style = {"marker": MARKERS[kind], "color": COLOURS[kind], "s": size, "zorder": 3}
        axes.scatter(x["value"], y["value"], edgecolor="white", linewidth=0.6, **style)
        points.append((y["value"], x["value"], name, kind))
    lowest = min(0.45, *(y for y, *_ in points)) - 0.03
    axes.plot([lowest, 1], [lowest, 1], color="#999999", linewidth=1, zorder=1)
    axes.set(xlim=(LOWEST, 1.01), ylim=(lowest, 1.02), title=title)
    axes.set(xlabel="mean confidence", ylabel="accuracy")
    axes.spines[["top", "right"]].set_visible(False)
    # Names stand in the margin in the order of their points, so that no two lie on each other.
    heights = np.linspace(0.0, 1.0, len(points))
    for height, (y, x, name, kind) in zip(heights, sorted(points), strict=True):
        axes.annotate(
            name,
            (x, y),
            (1.04, height),
            textcoords="axes fraction",
            va="center",
            fontsize=8,
            color=COLOURS[kind],
            arrowprops={"arrowstyle": "-", "color": COLOURS[kind], "alpha": 0.35, "lw": 0.6},
        )


def draw_panels(path: Path, result: dict) -> None:
    """Draws one panel for each case and the rows that it is evaluated on.

    Args:
        path: of the PNG.
        result: the contents of result.json.
    """
    found = panels(result)
    columns = min(2, len(found))
    rows = -(-len(found) // columns)
    figure = Figure(figsize=(6.6 * columns, 4.6 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel, (names, remedies) in zip(axes, found.items(), strict=True):
        _panel(panel, ": ".join(names), remedies)
    figure.savefig(path, dpi=110, format="png")
