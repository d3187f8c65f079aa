"""How often the planted fault was named, and what was named instead."""

from pathlib import Path

import matplotlib
import numpy as np

from experiments.exam.faults import FAULTS, NO_FAULT, STRENGTHS
from research.metrics.intervals import wilson
from research.runtime.files import write_whole

matplotlib.use("agg")  # draws into files; no window is needed
from matplotlib.figure import Figure


def _share(hits: list[bool]) -> dict:
    n = len(hits)
    if not n:
        return {"value": None, "low": None, "high": None, "n": 0}
    low, high = wilson(sum(hits), n)
    return {"value": sum(hits) / n, "low": float(low), "high": float(high), "n": n}


def score(rows: list[dict]) -> dict:
    """`named_first`, `named` and `false_alarm` over all rows: value, interval, n."""
    planted = [row for row in rows if row["fault"] != NO_FAULT]
    return {
        "named_first": _share([row["named"][:1] == [row["fault"]] for row in planted]),
        "named": _share([row["fault"] in row["named"] for row in planted]),
        "false_alarm": _share([bool(row["named"]) for row in rows if row["fault"] == NO_FAULT]),
    }


def summarise(rows: list[dict]) -> dict:
    """Scores at each strength, over all faults and by fault, and over the sources of images."""

    def where(**wanted):
        return [row for row in rows if all(row[name] == value for name, value in wanted.items())]

    strengths = [name for name in STRENGTHS if where(strength=name)]
    sound = where(fault=NO_FAULT)
    by_fault = {
        fault: {s: score(where(fault=fault, strength=s)) for s in strengths}
        for fault in dict.fromkeys(row["fault"] for row in rows)
    }
    planted = [row for row in rows if row["fault"] != NO_FAULT]
    all_of = {
        s: score([*(row for row in planted if row["strength"] == s), *sound]) for s in strengths
    }
    by_data = {data: score(where(data=data)) for data in dict.fromkeys(r["data"] for r in rows)}
    return {"all": all_of, "by_cause": by_fault, "by_data": by_data}


def confusion(rows: list[dict]) -> tuple[list[str], list[str], np.ndarray]:
    """Planted faults, what was named first, and how often: counts [planted, named]."""
    planted = [name for name in FAULTS if any(row["fault"] == name for row in rows)]
    others = sorted({c for row in rows for c in row["named"][:1]} - set(planted))
    named = [*(name for name in planted if name != NO_FAULT), *others, "nothing"]
    counts = np.zeros((len(planted), len(named)), int)
    for row in rows:
        first = row["named"][0] if row["named"] else "nothing"
        counts[planted.index(row["fault"]), named.index(first)] += 1
    return planted, named, counts


def draw_confusion(path: Path, rows: list[dict]) -> None:
    """The confusion matrix as a PNG."""
    planted, named, counts = confusion(rows)
    figure = Figure(figsize=(8.5, 7), layout="constrained")
    axes = figure.add_subplot()
    shares = counts / counts.sum(axis=1, keepdims=True)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for r, c in np.argwhere(counts > 0):
        colour = "white" if shares[r, c] > 0.5 else "black"
        axes.text(c, r, str(counts[r, c]), ha="center", va="center", color=colour, fontsize=9)
    axes.set_xticks(
        range(len(named)), [n.replace("_", " ") for n in named], rotation=60, ha="right"
    )
    axes.set_yticks(range(len(planted)), [n.replace("_", " ") for n in planted])
    axes.set(xlabel="named first", ylabel="planted")
    write_whole(path, lambda part: figure.savefig(part, dpi=110, format="png"))


def as_rows(summary: dict) -> list[dict]:
    """The scores, a row for each fault and strength; "all" comes first."""
    return [
        {"planted": name, "strength": strength, **scores}
        for name, by_strength in {"all": summary["all"], **summary["by_cause"]}.items()
        for strength, scores in by_strength.items()
    ]
