"""How figures are drawn, and each written as an `<img>` that holds its SVG.

They are sharp in print and the same on every run.

The page is light only and the figures bring their own colours, so nothing in them depends on the
page's style. As images they cannot clash in their ids, and a browser can save each.
"""

import base64
import io
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter
from matplotlib.typing import RcKeyType

WIDTH = 5.0  # inches: 360 SVG units, so that on a phone one unit is about one pixel
RIGHT, WRONG = "#0072b2", "#d55e00"  # two of Okabe and Ito's colours, safe for the colour-blind
INK, QUIET, FAINT = "#222222", "#666666", "#d9d9d9"
NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))

STYLE: dict[RcKeyType, Any] = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "candor",  # ids that are the same on every run
    "font.sans-serif": ["DejaVu Sans", "Verdana", "sans-serif"],  # of about the same width
    "text.parse_math": False,  # a "$" in a title is a "$"
    "font.size": 11.5,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 11.5,
    "axes.edgecolor": QUIET,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "lines.linewidth": 1.6,
    "legend.frameon": False,
    "legend.fontsize": 10.5,
    "figure.constrained_layout.use": True,
}


def style():
    """The context in which every figure of the page is drawn and written."""
    return matplotlib.rc_context(STYLE)


def new_figure(height: float) -> Figure:
    """An empty figure as wide as a phone, `height` inches high."""
    return Figure(figsize=(WIDTH, height), layout=ConstrainedLayoutEngine(h_pad=0.08))


def round_percent(share: float) -> str:
    """A round share as the label of a tick: "99 %", "99.9999 %"."""
    return f"{100 * share:.9g} %"


def percent_axis(axis: Axis) -> None:
    """Labels an axis of shares in percent."""
    axis.set_major_formatter(FuncFormatter(lambda share, _: round_percent(share)))


def _whiskers(entry: dict) -> list[list[float]] | None:
    """An interval as matplotlib's error bar; never negative, as rounding could make it."""
    if entry["low"] is None or entry["high"] is None:
        return None
    return [[max(entry["value"] - entry["low"], 0)], [max(entry["high"] - entry["value"], 0)]]


def dot(ax: Axes, entry: dict, row: float, colour: str, marker: str, label: str | None) -> None:
    """Draws a value of result.json with its interval; nothing where there is no value."""
    if entry["value"] is not None:
        ax.errorbar(
            entry["value"],
            row,
            xerr=_whiskers(entry),
            fmt=marker,
            color=colour,
            markersize=6,
            capsize=3,
            label=label,
        )


def named_rows(ax: Axes, names: list[str]) -> None:
    """Names rows from top to bottom, with no axis line to their left."""
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="x", color=FAINT, linewidth=0.6)
    ax.set_axisbelow(True)


def to_img(figure: Figure, alt: str) -> Markup:
    """Writes a figure as one `<img>` element. Call it inside `style()`.

    Args:
        figure: what to write.
        alt: what a person who does not see the picture should know.
    """
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata=NO_METADATA, transparent=True)
    encoded = base64.b64encode(buffer.getvalue().encode()).decode()
    return Markup('<img alt="{}" src="data:image/svg+xml;base64,{}">').format(alt, encoded)
