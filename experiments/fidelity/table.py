"""The table of `experiments.fidelity`."""

from experiments.markdown import markdown


def _cell(row: dict, measure: str, digits: int) -> str:
    """The mean over seeds, and the standard deviation where there are several."""
    mean, deviation = row[measure], row[f"{measure}_sd"]
    return f"{mean:.{digits}f}" + ("" if deviation is None else f" ± {deviation:.{digits}f}")


def of_rows(rows: list[dict]) -> str:
    """The whole table, one line a method, with the seconds of one training."""
    lines = [[*_cells(row["method"], row), f"{row['seconds']:.1f}"] for row in rows]
    return markdown(["method", "total variation", "agreement", "seconds"], lines)


def of_fidelity(result: dict) -> str:
    """The shorter table of a result.json, one line a method."""
    lines = [_cells(f"`{row['method']}`", row) for row in result["rows"]]
    return markdown(["method", "total variation", "agreement"], lines)


def _cells(name: str, row: dict) -> list[str]:
    return [name, _cell(row, "total_variation", 4), _cell(row, "agreement", 3)]
