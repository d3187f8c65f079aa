"""The table of `experiments.exam`."""

from experiments.markdown import markdown


def of_exam(result: dict) -> str:
    """One line a planted fault and strength."""

    def cell(share):
        if share["value"] is None:
            return ""
        ends = f"[{100 * share['low']:.0f}, {100 * share['high']:.0f}]"
        return f"{100 * share['value']:.0f} % {ends} of {share['n']}"

    lines = [
        [row["planted"].replace("_", " "), row["strength"]]
        + [cell(row[name]) for name in ("named_first", "named", "false_alarm")]
        for row in result["rows"]
    ]
    titles = ["planted", "strength", "ranked first", "named", "healthy called ill"]
    return markdown(titles, lines)
