"""The pictures of the report: what is claimed against what is delivered, each with its intervals.

Reliability diagrams follow Guo et al. (2017), figure 1, with an interval on every bin; the
confidence histogram has the decades of the uncertainty for its axis, as metrics/reliability.py
explains. Blue is what the model delivers, vermilion what it claims, or gets wrong.
"""

import textwrap

import numpy as np
from markupsafe import Markup
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from research.metrics import format
from research.report.svg import (
    FAINT,
    INK,
    QUIET,
    RIGHT,
    WRONG,
    dot,
    named_rows,
    new_figure,
    percent_axis,
    round_percent,
    style,
    to_img,
)

SHORTEST_BAR = 0.6  # where the logarithmic count axes start, so that a count of 1 is a visible bar
LONGEST_LINE = 34  # characters of a method's title beside a picture
SPLITS = ("train", "valid", "test")


def confidence_histogram(split: dict) -> Markup:
    """Right and wrong answers by how sure they were, in decades of uncertainty.

    Args:
        split: one split of a method; its "histogram" is drawn.
    """
    counts = {name: np.asarray(split["histogram"][name]) for name in ("right", "wrong")}
    total = counts["right"] + counts["wrong"]
    last = np.nonzero(total)[0][-1] + 1  # two classes leave the row below 50 % empty
    counts = {name: n[:last] for name, n in counts.items()}
    total, edges = total[:last], split["histogram"]["edges"][: last + 1]  # the surest first
    allowed = np.maximum(total * 10.0 ** np.asarray(edges[1:]), SHORTEST_BAR * 1.04)
    rows = np.arange(len(total))
    with style():
        figure = new_figure(0.46 * len(total) + 0.7)
        ax = figure.add_subplot()
        ax.set_xscale("log")
        # There is room for the numbers at the bars' ends.
        ax.set_xlim(SHORTEST_BAR, max(total.max(), 10) * 12)
        for name, colour, offset in (("right", RIGHT, -0.2), ("wrong", WRONG, 0.2)):
            shown = counts[name] > 0
            left = np.full(shown.sum(), SHORTEST_BAR)
            widths = counts[name][shown] - SHORTEST_BAR
            ax.barh(rows[shown] + offset, widths, 0.36, left, color=colour)
            for row in rows[shown]:
                n = counts[name][row]
                text = f"{format.count(int(n))} {name}"
                end = float(n if name == "right" else max(n, allowed[row]))
                ax.text(end * 1.15, row + offset, text, va="center", fontsize=10)
        for row in rows[total > 0]:
            label = "most that an honest model gets wrong" if row == rows[total > 0][0] else None
            ax.plot(
                [allowed[row]] * 2, [row + 0.02, row + 0.42], color=INK, linewidth=2, label=label
            )
        ax.set_ylim(len(total) - 0.5, -0.5)
        ax.set_yticks(rows + 0.5, [round_percent(1 - 10.0**edge) for edge in edges[1:]])
        ax.grid(axis="y", color=FAINT, linewidth=0.6)
        ax.set_axisbelow(True)
        ax.xaxis.set_major_locator(NullLocator())
        ax.xaxis.set_minor_locator(NullLocator())
        ax.spines["bottom"].set_visible(False)
        ax.set_title("Answers, by their confidence")
        figure.legend(loc="outside lower right", handlelength=0.8)
        sure = f"{format.count(int(total[0]))} of {format.count(int(total.sum()))} answers"
        alt = (
            f"Histogram of confidence on a logarithmic scale. {sure} are above "
            f"{round_percent(1 - 10.0 ** edges[1])}, {int(counts['wrong'][0])} of them wrong."
        )
        return to_img(figure, alt)


def reliability_diagrams(methods: dict[str, dict]) -> list[Markup]:
    """One reliability diagram of the test split for every method, all on the same axes."""
    curves = [method["splits"]["test"]["reliability"] for method in methods.values()]
    # Two classes leave the left half empty: start where the least sure answers of any method are.
    first = min(next(i for i, n in enumerate(curve["count"]) if n) for curve in curves)
    left = curves[0]["edges"][first]
    most = max(max(curve["count"]) for curve in curves)
    titles = [method["title"] for method in methods.values()]
    return [
        _reliability(curve, title, left, most) for curve, title in zip(curves, titles, strict=True)
    ]


def _reliability(curve: dict, title: str, left: float, most: int) -> Markup:
    edges, count = np.asarray(curve["edges"]), np.asarray(curve["count"])
    shown = count > 0
    confidence, accuracy, low, high = (
        np.asarray(curve[key], float)[shown] for key in ("confidence", "accuracy", "low", "high")
    )
    with style():
        figure = new_figure(5.0)
        ax, below = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
        ax.plot([0, 1], [0, 1], color=QUIET, linewidth=1, linestyle="--")
        ax.vlines(confidence, accuracy, confidence, color=WRONG, linewidth=8, alpha=0.35)
        whiskers = np.maximum([accuracy - low, high - accuracy], 0)
        ax.errorbar(confidence, accuracy, whiskers, fmt="o", color=RIGHT, markersize=5, capsize=3)
        ax.set_ylim(-0.02, 1.02)
        ax.set_ylabel("it is right")
        ax.set_title(title)
        ax.grid(color=FAINT, linewidth=0.6)
        ax.set_axisbelow(True)
        below.bar(
            edges[:-1][shown],
            count[shown] - SHORTEST_BAR,
            np.diff(edges)[shown],
            SHORTEST_BAR,
            align="edge",
            color=RIGHT,
            alpha=0.55,
            edgecolor="white",
        )
        below.set_yscale("log")
        below.set_ylim(SHORTEST_BAR, most * 2)
        below.yaxis.set_major_locator(LogLocator(numticks=4))
        below.yaxis.set_minor_locator(NullLocator())
        below.yaxis.set_major_formatter(FuncFormatter(lambda n, _: format.count(round(n))))
        below.set_ylabel("images")
        below.set_xlabel("it says")
        below.set_xlim(left - 0.01, 1.01)
        percent_axis(ax.yaxis)
        percent_axis(below.xaxis)
        figure.align_ylabels()
        worst = np.argmax(np.abs(confidence - accuracy) * count[shown])
        alt = (
            f"Reliability diagram, {title}: where it says {format.percent(confidence[worst])} it "
            f"is right {format.percent(accuracy[worst])} of the time."
        )
        return to_img(figure, alt)


def gap(splits: dict[str, dict]) -> Markup:
    """Accuracy and mean confidence on train, valid and test, with their intervals."""
    names = [name for name in SPLITS if name in splits]
    with style():
        figure = new_figure(0.45 * len(names) + 1.0)
        ax = figure.add_subplot()
        for row, name in enumerate(names):
            metrics, is_first = splits[name]["metrics"], row == 0
            accuracy, claimed = metrics["accuracy"], metrics["mean_confidence"]
            ends = [accuracy["value"], claimed["value"]]
            ax.plot(ends, [row, row], color=WRONG, alpha=0.35, linewidth=5, solid_capstyle="butt")
            dot(ax, claimed, row + 0.12, WRONG, "D", "it says, on average" if is_first else None)
            dot(ax, accuracy, row - 0.12, RIGHT, "o", "it is right" if is_first else None)
        named_rows(ax, [f"{name} ({format.count(splits[name]['n'])})" for name in names])
        ax.xaxis.set_major_locator(MaxNLocator(4))
        percent_axis(ax.xaxis)
        figure.legend(loc="outside upper left", ncols=2, reverse=True, handletextpad=0.2)
        accuracies = [splits[name]["metrics"]["accuracy"]["value"] for name in names]
        shown = [f"{n} {format.percent(a)}" for n, a in zip(names, accuracies, strict=True)]
        alt = f"Accuracy and mean confidence by split. It is right: {', '.join(shown)}."
        return to_img(figure, alt)


def history(rows: list[dict], best_step: int) -> Markup:
    """Validation confidence, accuracy and NLL by epoch; the epoch that was kept is marked.

    Args:
        rows: dicts with `step`, `epoch`, `valid_confidence`, `valid_accuracy` and `valid_nll`.
        best_step: what was kept.
    """
    epochs = [row["epoch"] for row in rows]
    kept = next((row for row in rows if row["step"] == best_step), rows[-1])
    with style():
        figure = new_figure(4.2)
        shares, nll = figure.subplots(2, 1, sharex=True)
        claimed = [row["valid_confidence"] for row in rows]
        right = [row["valid_accuracy"] for row in rows]
        shares.fill_between(epochs, right, claimed, color=WRONG, alpha=0.15, linewidth=0)
        shares.plot(epochs, claimed, color=WRONG, marker="D", markersize=3, label="it says")
        shares.plot(epochs, right, color=RIGHT, marker="o", markersize=3, label="it is right")
        shares.yaxis.set_major_locator(MaxNLocator(4))
        percent_axis(shares.yaxis)
        nll.plot(epochs, [row["valid_nll"] for row in rows], color=INK, label="NLL")
        nll.set_ylim(bottom=0)
        nll.set_xlabel("epoch")
        nll.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        for ax, title in ((shares, "What it says and is"), (nll, "NLL: the price of it")):
            ax.axvline(kept["epoch"], color=QUIET, linewidth=1, linestyle="--")
            ax.set_title(title, loc="left")
        figure.legend(*shares.get_legend_handles_labels(), loc="outside upper left", ncols=2)
        alt = (
            f"Validation images by epoch. Kept: epoch {kept['epoch']:g}, NLL "
            f"{format.number(kept['valid_nll'])}; at the end "
            f"{format.number(rows[-1]['valid_nll'])}."
        )
        return to_img(figure, alt)


def methods_compared(methods: dict[str, dict]) -> Markup:
    """NLL and ECE of every method on the test split, with intervals; lower is better."""
    tests = [method["splits"]["test"]["metrics"] for method in methods.values()]
    titles = [method["title"] for method in methods.values()]
    panels = {"nll": "NLL", "ece": "ECE"}
    with style():
        figure = new_figure(0.7 * len(titles) + 1.7)
        for ax, (metric, title) in zip(figure.subplots(2, 1), panels.items(), strict=True):
            for row, metrics in enumerate(tests):
                if metric == "ece":
                    chance = metrics["perfectly_calibrated_ece"]
                    is_first = row == 0
                    ax.plot(
                        [chance["low"], chance["high"]],
                        [row, row],
                        color=FAINT,
                        linewidth=9,
                        solid_capstyle="butt",
                        label="what chance alone gives an honest model" if is_first else None,
                    )
                dot(ax, metrics[metric], row, RIGHT, "o", None)
            named_rows(ax, [textwrap.fill(title, LONGEST_LINE) for title in titles])
            ax.tick_params(axis="y", labelsize="small")
            ax.set_title(title)
            ax.xaxis.set_major_locator(MaxNLocator(4))
        percent_axis(ax.xaxis)
        figure.legend(loc="outside lower right")
        figure.align_titles()
        values = [format.metric_value("nll", metrics["nll"]["value"]) for metrics in tests]
        shown = [f"{t} {nll}" for t, nll in zip(titles, values, strict=True)]
        return to_img(figure, f"NLL and ECE by method. NLL: {', '.join(shown)}.")


def heat_map(heat: np.ndarray, picture: np.ndarray) -> Markup:
    """How much each region of the images matters, over their mean.

    Args:
        heat: [rows, columns], what is lost of the accuracy without the region.
        picture: [H, W, 3] uint8.
    """
    with style():
        figure = new_figure(3.4)
        ax = figure.add_subplot()
        rows, columns = heat.shape
        extent = (0, columns, rows, 0)
        ax.imshow(picture.mean(axis=-1), cmap="gray", extent=extent, interpolation="nearest")
        strength = np.clip(heat / max(heat.max(), 0.05), 0, 1)
        ax.imshow(
            np.ones_like(heat), cmap="autumn", vmin=0, vmax=2, alpha=0.65 * strength, extent=extent
        )
        for r, c in np.ndindex(heat.shape):
            points = f"{100 * heat[r, c]:.0f}".replace("-0", "0")
            ax.text(c + 0.5, r + 0.5, points, ha="center", va="center", color="white", fontsize=8)
        ax.set_xticks([])
        ax.set_yticks([])
        return to_img(figure, "How much each region of the images matters")
