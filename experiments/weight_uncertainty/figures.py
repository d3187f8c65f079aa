"""The paper's figures, drawn from the records of a run."""

import textwrap
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from experiments.weight_uncertainty.records import Record
from research.runtime.files import write_whole

matplotlib.use("agg")  # draws into files; no window is needed
from matplotlib.figure import Figure

COLOURS = {
    "sgd": "#777777",
    "dropout": "#d98c00",
    "gaussian": "#7fb3d5",
    "mixture": "#1f5fa8",
    "local": "#2c8c5a",
    "flipout": "#8a4fa0",
}
LINES = ("-", "--", ":", "-.")


def _save(figure: Figure, path: Path) -> None:
    write_whole(path, lambda partial: figure.savefig(partial, dpi=110, format="png"))


def _new(width: float = 7.0, height: float = 4.0):
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _units(record: Record) -> int:
    return int(record.name.rsplit("-", 1)[1])


def _styled(drawn: list[Record]) -> Iterator[tuple[Record, dict[str, Any]]]:
    """Each record with the colour of its method, and a line style of its own within that method."""
    rows = Counter()  # drawn so far, by method
    for record in drawn:
        method = record.name.split("-")[1]
        yield record, {"color": COLOURS[method], "linestyle": LINES[rows[method] % len(LINES)]}
        rows[method] += 1


def _row(record: Record) -> str:
    return record.name.split("-", 1)[1].replace("-", ", ")


def _label(record: Record) -> str:
    return _row(record).removesuffix(f", {_units(record)}")


def _folded(label: str) -> str:
    """A label with many settings, in lines of which two fit side by side."""
    return textwrap.fill(label, 48)


def _widest(drawn: list[Record]) -> list[Record]:
    widest = max(map(_units, drawn))
    return [record for record in drawn if _units(record) == widest]


def draw_curves(path: Path, drawn: list[Record]) -> None:
    """Figure 2: test error over epochs at the widest network, mean over seeds and their range.

    Args:
        path: of the PNG.
        drawn: cells of Table 1.
    """
    figure, axes = _new(height=5.0)
    for record, style in _styled(_widest(drawn)):
        epochs, errors = (
            record.arrays["epochs"],
            100 * record.arrays["test_error"],
        )  # [evaluations, seeds]
        label = _folded(f"{_label(record)}, {_units(record)} units")
        axes.plot(epochs, errors.mean(axis=1), **style, label=label)
        low, high = errors.min(axis=1), errors.max(axis=1)
        axes.fill_between(epochs, low, high, color=style["color"], alpha=0.15)
    lowest = min(float(record.arrays["test_error"].min()) for record in drawn)
    axes.set(xlabel="epochs", ylabel="test error, %", ylim=(80 * lowest, max(2.0, 250 * lowest)))
    figure.legend(frameon=False, fontsize=8, loc="outside upper center", ncols=2)
    _save(figure, path)


def draw_densities(path: Path, drawn: list[Record]) -> None:
    """Figure 3: how the trained weights are spread, at the widest network.

    Args:
        path: of the PNG.
        drawn: cells of Table 1.
    """
    figure, axes = _new(height=5.0)
    edges = np.linspace(-0.2, 0.2, 121)
    for record, style in _styled(_widest(drawn)):
        density, _ = np.histogram(record.arrays["weights"], edges, density=True)
        label = _folded(f"{_label(record)}, {_units(record)} units")
        axes.stairs(density, edges, **style, label=label)
    axes.set(xlabel="weight", ylabel="density", yscale="log")
    figure.legend(frameon=False, fontsize=8, loc="outside upper center", ncols=2)
    _save(figure, path)


def draw_pruning(path: Path, drawn: list[Record]) -> None:
    """Table 2 as curves: test error over the share of weights removed.

    Args:
        path: of the PNG.
        drawn: the records of `pruning`.
    """
    figure, axes = _new()
    for record, style in _styled(drawn):
        removed, errors = 100 * record.arrays["removed"], 100 * record.arrays["error"].mean(axis=1)
        axes.plot(removed, errors, marker="o", ms=3, **style, label=_folded(_row(record)))
    lowest = min(float(record.arrays["error"].min()) for record in drawn)
    axes.set(xlabel="weights removed, %", ylabel="test error, %", yscale="log")
    axes.set_ylim(80 * lowest, 100)
    figure.legend(frameon=False, fontsize=8, loc="outside upper center", ncols=2)
    _save(figure, path)


def draw_ratios(path: Path, drawn: list[Record]) -> None:
    """Figure 4: density and cumulative distribution of the signal-to-noise ratio, in decibels.

    Args:
        path: of the PNG.
        drawn: the records of `pruning`.
    """
    figure, axes = _new()
    other = axes.twinx()
    other.spines[["top"]].set_visible(False)
    for record, style in _styled([record for record in drawn if "decibels" in record.arrays]):
        centres, density = record.arrays["decibels"], record.arrays["density"]
        cut = record.arrays["cut"]
        label = _folded(f"{_row(record)}; 75 % lie below {cut:.1f} dB")
        axes.plot(centres, density, **style, label=label)
        axes.axvline(float(cut), color="#c0392b", linestyle=style["linestyle"], linewidth=0.8)
        cumulative = np.cumsum(density) / density.sum()
        other.plot(centres, cumulative, color="#999999", linestyle=style["linestyle"])
    axes.set(xlabel="signal to noise, 20 log10(|mean| / sd), dB", ylabel="density")
    other.set(ylabel="cumulative (grey)", ylim=(0, 1.02))
    figure.legend(frameon=False, fontsize=8, loc="outside upper center", ncols=2)
    _save(figure, path)


def draw_regression(path: Path, record: Record) -> None:
    """Figure 5: the data, the median and the inter-quartile band of each model, side by side.

    Args:
        path: of the PNG.
        record: of `regression`.
    """
    arrays = record.arrays
    titles = record.found["titles"]
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    for axes, name in zip(figure.subplots(1, 3, sharey=True), titles, strict=True):
        low, median, high = arrays[name]
        axes.plot(arrays["data_x"][:400], arrays["data_y"][:400], "x", ms=2, color="#999999")
        axes.fill_between(arrays["x"], low, high, color=COLOURS["mixture"], alpha=0.35, linewidth=0)
        axes.plot(arrays["x"], median, color="#c0392b")
        axes.set(title=titles[name], xlim=(-0.4, 1.2), ylim=(-1.2, 1.6), xlabel="x")
        axes.spines[["top", "right"]].set_visible(False)
    _save(figure, path)


def draw_regret(path: Path, drawn: list[Record]) -> None:
    """Figure 6: cumulative regret, mean over runs and their range.

    Args:
        path: of the PNG.
        drawn: the records of `bandits`.
    """
    figure, axes = _new()
    for record in drawn:
        regret = record.arrays["regret"][..., 0]  # realised
        (line,) = axes.plot(
            record.arrays["steps"], regret.mean(axis=1), label=record.found["title"]
        )
        low, high = regret.min(axis=1), regret.max(axis=1)
        axes.fill_between(record.arrays["steps"], low, high, color=line.get_color(), alpha=0.15)
    axes.set(xlabel="interactions", ylabel="cumulative regret", yscale="log")
    axes.legend(frameon=False, fontsize=8)
    _save(figure, path)


def draw_ablations(path: Path, drawn: list[Record]) -> None:
    """Test error after the last epoch over each swept value.

    Args:
        path: of the PNG.
        drawn: the records of `ablations`.
    """
    columns = min(3, len(drawn))
    rows = -(-len(drawn) // columns)
    figure = Figure(figsize=(3.0 * columns, 2.6 * rows), layout="constrained")
    places = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in places[len(drawn) :]:
        axes.remove()
    for axes, record in zip(places, drawn, strict=False):
        errors = 100 * record.arrays["test_error"][-1]
        axes.plot(record.arrays["values"], errors, "o-", color=COLOURS["mixture"])
        axes.set(xscale="log", xlabel=record.name.removeprefix("ablation-"), ylabel="test error, %")
        axes.spines[["top", "right"]].set_visible(False)
    _save(figure, path)
