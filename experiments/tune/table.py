"""The table of `experiments.tune`."""

from experiments.markdown import markdown
from experiments.tune.page import test_rows
from research.metrics import format


def of_tune(result: dict) -> str:
    """A row for each option that was searched, then one for each metric of the test split."""
    rows = []
    for name, option in result["options"].items():
        share = option["importance"]
        rows.append(
            [
                name.replace("_", " "),
                f"{option['low']:g} to {option['high']:g}",
                f"{option['default']:g}",
                f"{option['best']:g}",
                "" if share is None else format.percent(share, decimals=0),
            ]
        )
    for metric, (before, *after) in test_rows(result):
        best, change = after or (before, "")
        rows.append([f"{metric} on the test images", "", before, best, change])
    titles = ["", "searched", "default", "best", "share of the NLL's variance, or change"]
    return markdown(titles, rows)
