"""The paper's figures, drawn from the parts of a run."""

import textwrap
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import matplotlib
import numpy as np

from experiments.weight_uncertainty.records import Part
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
    write_whole(path, lambda part: figure.savefig(part, dpi=110, format="png"))


def _new(width: float = 7.0, height: float = 4.0):
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _units(part: Part) -> int:
    return int(part.name.rsplit("-", 1)[1])


def _styled(drawn: list[Part]) -> Iterator[tuple[Part, dict[str, str]]]:
    """Each row with a colour of its method, and a line of its own among those of that method."""
    seen = Counter()
    for part in drawn:
        method = part.name.split("-")[1]
        yield part, {"color": COLOURS[method], "linestyle": LINES[seen[method] % len(LINES)]}
        seen[method] += 1


def _row(part: Part) -> str:
    return part.name.split("-", 1)[1].replace("-", ", ")


def _label(part: Part) -> str:
    return _row(part).removesuffix(f", {_units(part)}")


def _folded(told: str) -> str:
    """A row with many settings, in lines of which two fit side by side."""
    return textwrap.fill(told, 48)


def _widest(drawn: list[Part]) -> list[Part]:
    widest = max(map(_units, drawn))
    return [part for part in drawn if _units(part) == widest]


def draw_curves(path: Path, drawn: list[Part]) -> None:
    """Figure 2: test error over epochs at the widest network, mean over seeds and their range.

    Args:
        path: of the PNG.
        drawn: cells of Table 1.
    """
    figure, axes = _new(height=5.0)
    for part, style in _styled(_widest(drawn)):
        epochs, errors = part.arrays["epochs"], 100 * part.arrays["test_error"]  # [looks, seeds]
        told = _folded(f"{_label(part)}, {_units(part)} units")
        axes.plot(epochs, errors.mean(axis=1), **style, label=told)
        low, high = errors.min(axis=1), errors.max(axis=1)
        axes.fill_between(epochs, low, high, color=style["color"], alpha=0.15)
    lowest = min(float(part.arrays["test_error"].min()) for part in drawn)
    axes.set(xlabel="epochs", ylabel="test error, %", ylim=(80 * lowest, max(2.0, 250 * lowest)))
    figure.legend(frameon=False, fontsize=8, loc="outside upper center", ncols=2)
    _save(figure, path)


def draw_densities(path: Path, drawn: list[Part]) -> None:
    """Figure 3: how the trained weights are spread, at the widest network.

    Args:
        path: of the PNG.
        drawn: cells of Table 1.
    """
    figure, axes = _new(height=5.0)
    edges = np.linspace(-0.2, 0.2, 121)
    for part, style in _styled(_widest(drawn)):
        density, _ = np.histogram(part.arrays["weights"], edges, density=True)
        told = _folded(f"{_label(part)}, {_units(part)} units")
        axes.stairs(density, edges, **style, label=told)
    axes.set(xlabel="weight", ylabel="density", yscale="log")
    figure.legend(frameon=False, fontsize=8, loc="outside upper center", ncols=2)
    _save(figure, path)


def draw_pruning(path: Path, drawn: list[Part]) -> None:
    """Table 2 as curves: test error over the share of weights removed.

    Args:
        path: of the PNG.
        drawn: the parts of `pruning`.
    """
    figure, axes = _new()
    for part, style in _styled(drawn):
        removed, errors = 100 * part.arrays["removed"], 100 * part.arrays["error"].mean(axis=1)
        axes.plot(removed, errors, marker="o", ms=3, **style, label=_folded(_row(part)))
    lowest = min(float(part.arrays["error"].min()) for part in drawn)
    axes.set(xlabel="weights removed, %", ylabel="test error, %", yscale="log")
    axes.set_ylim(80 * lowest, 100)
    figure.legend(frameon=False, fontsize=8, loc="outside upper center", ncols=2)
    _save(figure, path)


def draw_ratios(path: Path, drawn: list[Part]) -> None:
    """Figure 4: density and cumulative distribution of the signal-to-noise ratio, in decibels.

    Args:
        path: of the PNG.
        drawn: the parts of `pruning`.
    """
    figure, axes = _new()
    other = axes.twinx()
    other.spines[["top"]].set_visible(False)
    for part, style in _styled([part for part in drawn if "decibels" in part.arrays]):
        centres, density = part.arrays["decibels"], part.arrays["density"]
        cut = part.arrays["cut"]
        told = _folded(f"{_row(part)}; 75 % lie below {cut:.1f} dB")
        axes.plot(centres, density, **style, label=told)
        axes.axvline(cut, color="#c0392b", linestyle=style["linestyle"], linewidth=0.8)
        cumulative = np.cumsum(density) / density.sum()
        other.plot(centres, cumulative, color="#999999", linestyle=style["linestyle"])
    axes.set(xlabel="signal to noise, 20 log10(|mean| / sd), dB", ylabel="density")
    other.set(ylabel="cumulative (grey)", ylim=(0, 1.02))
    figure.legend(frameon=False, fontsize=8, loc="outside upper center", ncols=2)
    _save(figure, path)


def draw_regression(path: Path, part: Part) -> None:
    """Figure 5: the data, the median and the inter-quartile band of each model, side by side.

    Args:
        path: of the PNG.
        part: of `regression`.
    """
    arrays = part.arrays
    titles = part.found["titles"]
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    for axes, name in zip(figure.subplots(1, 3, sharey=True), titles, strict=True):
        low, median, high = arrays[name]
        axes.plot(arrays["data_x"][:400], arrays["data_y"][:400], "x", ms=2, color="#999999")
        axes.fill_between(arrays["x"], low, high, color=COLOURS["mixture"], alpha=0.35, linewidth=0)
        axes.plot(arrays["x"], median, color="#c0392b")
        axes.set(title=titles[name], xlim=(-0.4, 1.2), ylim=(-1.2, 1.6), xlabel="x")
        axes.spines[["top", "right"]].set_visible(False)
    _save(figure, path)


def draw_regret(path: Path, drawn: list[Part]) -> None:
    """Figure 6: cumulative regret, mean over runs and their range.

    Args:
        path: of the PNG.
        drawn: the parts of `bandits`.
    """
    figure, axes = _new()
    for part in drawn:
        regret = part.arrays["regret"][..., 0]  # realised
        (line,) = axes.plot(part.arrays["steps"], regret.mean(axis=1), label=part.found["title"])
        low, high = regret.min(axis=1), regret.max(axis=1)
        axes.fill_between(part.arrays["steps"], low, high, color=line.get_color(), alpha=0.15)
    axes.set(xlabel="interactions", ylabel="cumulative regret", yscale="log")
    axes.legend(frameon=False, fontsize=8)
    _save(figure, path)


def draw_ablations(path: Path, drawn: list[Part]) -> None:
    """Test error after the last epoch over each swept value.

    Args:
        path: of the PNG.
        drawn: the parts of `ablations`.
    """
    columns = min(3, len(drawn))
    rows = -(-len(drawn) // columns)
    figure = Figure(figsize=(3.0 * columns, 2.6 * rows), layout="constrained")
    places = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in places[len(drawn) :]:
        axes.remove()
    for axes, part in zip(places, drawn, strict=False):
        errors = 100 * part.arrays["test_error"][-1]
        axes.plot(part.arrays["values"], errors, "o-", color=COLOURS["mixture"])
        axes.set(xscale="log", xlabel=part.name.removeprefix("ablation-"), ylabel="test error, %")
        axes.spines[["top", "right"]].set_visible(False)
    _save(figure, path)
