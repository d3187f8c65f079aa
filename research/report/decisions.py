"""The page's table of what the classifier may decide by itself."""

from research.metrics import format
from research.metrics.conformal import KINDS


def _interval(estimate: dict) -> tuple[str, str]:
    if estimate["value"] is None:
        return format.NONE, ""
    low, high = (f"{100 * estimate[key]:.1f}" for key in ("low", "high"))
    return format.percent(estimate["value"]), f"[{low}, {high}]"


def _column(decisions: dict) -> list[tuple[str, str]]:
    abstention = decisions["abstention"]["chosen"]
    if abstention is None:
        cells = [("not possible", ""), (format.NONE, ""), (format.NONE, "")]
    else:
        cells = [
            _interval(abstention["coverage"]),
            _interval(abstention["error"]),
            (format.percent(abstention["bound"]), ""),
        ]
    for kind in KINDS:
        sets = decisions["sets"][kind]
        cells += [(f"{sets['mean_size']:.2f}", ""), _interval(sets["coverage"])]
    return cells


def rows(methods: list[dict]) -> list[tuple[str, list[tuple[str, str]]]]:
    """The rows of the table, with a cell for each method; empty without validation images."""
    decisions = [method["decisions"] for method in methods]
    if None in decisions:
        return []
    names = ["Answers given", "Wrong among them", "Certified: wrong at most"]
    for kind in KINDS:
        names += [f"Classes in a set ({kind})", f"Sets that hold the answer ({kind})"]
    columns = [_column(one) for one in decisions]
    return [(name, [column[i] for column in columns]) for i, name in enumerate(names)]
