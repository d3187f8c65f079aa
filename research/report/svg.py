"""A matplotlib figure as inline SVG: text stays text, ids are its own, every run gives the same."""

import io
import re

import matplotlib
from markupsafe import escape
from matplotlib.figure import Figure

WIDTH = 5.0  # inches: 360 SVG units, so that on a phone one unit is about one pixel
RIGHT, WRONG = "#0072b2", "#d55e00"  # two of Okabe and Ito's colours, safe for the colour-blind
INK, QUIET, FAINT = "#222222", "#666666", "#d9d9d9"

STYLE = {
    "svg.fonttype": "none",
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
    figure = Figure(figsize=(WIDTH, height))
    figure.get_layout_engine().set(h_pad=0.08)
    return figure


def to_svg(figure: Figure, name: str, alt: str) -> str:
    """Writes a figure as one `<svg>` element to stand inside a page. Call it inside `style()`.

    Args:
        figure: what to write.
        name: letters and dashes, its own in the page: every id in the element starts with it.
        alt: what a person who does not see the picture should know.
    """
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", metadata={"Date": None}, transparent=True)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = svg.replace("url(#", f"url(#{name}-").replace('href="#', f'href="#{name}-')
    svg = re.sub(r"'DejaVu Sans'[^;\"]*", "system-ui, sans-serif", svg)
    view_box = re.search(r'viewBox="[^"]*"', svg).group()
    label = f'<svg {view_box} role="img" aria-label="{escape(alt)}"'
    return re.sub(r"<svg\b[^>]*", lambda _: label, svg, count=1)
