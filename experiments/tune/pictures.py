"""The two pictures of a search: what every trial gave, and which option mattered."""

from markupsafe import Markup
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from research.metrics import format
from research.report.svg import FAINT, INK, QUIET, RIGHT, WRONG, new_figure, style, to_img


def history(result: dict) -> Markup:
    """Validation NLL of every trial in its order, and of the best so far.

    Args:
        result: the contents of result.json.
    """
    trials = result["trials"]
    finished = [(i, t["valid_nll"]) for i, t in enumerate(trials, 1) if t["valid_nll"] is not None]
    stopped = [
        (i, t["last_valid_nll"])
        for i, t in enumerate(trials, 1)
        if t["valid_nll"] is None and t["last_valid_nll"] is not None
    ]
    places, values = zip(*finished, strict=True)
    lowest = [min(values[: i + 1]) for i in range(len(values))]
    with style():
        figure = new_figure(3.6)
        ax = figure.add_subplot()
        if stopped:
            ax.plot(*zip(*stopped, strict=True), "x", color=WRONG, markersize=6, label="stopped")
        ax.plot(places, values, "o", color=RIGHT, markersize=6, label="finished")
        ax.step(
            [*places, len(trials)], [*lowest, lowest[-1]], where="post", color=INK, label="best"
        )
        if result["defaults_valid_nll"] is not None:
            ax.axhline(
                result["defaults_valid_nll"], color=QUIET, linestyle="--", linewidth=1, zorder=0
            )
            ax.annotate(
                "defaults",
                (1, result["defaults_valid_nll"]),
                xycoords=("axes fraction", "data"),
                xytext=(0, 3),
                textcoords="offset points",
                ha="right",
                color=QUIET,
                fontsize=10.5,
            )
        ax.set_yscale("log")
        ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 1.5, 2.0, 3.0, 5.0, 7.0)))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        ax.yaxis.set_minor_locator(NullLocator())
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.set_xlabel("trial")
        ax.set_title("Validation NLL, lower is better")
        ax.grid(axis="y", color=FAINT, linewidth=0.6)
        ax.set_axisbelow(True)
        figure.legend(loc="outside lower right", ncols=3, handlelength=1.2)
        alt = (
            f"Validation NLL of {format.plural(len(trials), 'trial')}: the lowest is "
            f"{format.number(lowest[-1])}."
        )
        return to_img(figure, alt)


def importance(result: dict) -> Markup:
    """How much of the differences between trials each option explains.

    Args:
        result: the contents of result.json.
    """
    shares = {name: o["importance"] or 0.0 for name, o in result["options"].items()}
    ranked = sorted(shares, key=lambda name: shares[name], reverse=True)
    with style():
        figure = new_figure(0.42 * len(ranked) + 0.7)
        ax = figure.add_subplot()
        ax.barh(range(len(ranked)), [shares[name] for name in ranked], 0.6, color=RIGHT)
        for row, name in enumerate(ranked):
            ax.text(shares[name] + 0.01, row, f"{shares[name]:.0%}", va="center", fontsize=10)
        ax.set_yticks(range(len(ranked)), [name.replace("_", " ") for name in ranked])
        ax.set_ylim(len(ranked) - 0.5, -0.5)
        ax.set_xlim(0, max(shares.values()) * 1.15)
        ax.tick_params(axis="y", length=0)
        ax.spines[["left", "bottom"]].set_visible(False)
        ax.xaxis.set_major_locator(NullLocator())
        ax.set_title("Share of the differences it explains")
        ranking = ", ".join(f"{name.replace('_', ' ')} {shares[name]:.0%}" for name in ranked)
        return to_img(figure, f"Importance of each option: {ranking}.")
