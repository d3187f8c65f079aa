"""Do the paper's results reproduce? Everything that has been run, beside the paper's numbers.

    launch/run.sh experiments.weight_uncertainty.report
    launch/run.sh experiments.weight_uncertainty.report \\
        --runs experiments/weight_uncertainty/results

Reads what `classification`, `pruning`, `regression`, `bandits` and `ablations` left in their
folders and writes one page, `result.json` and the Markdown table. Where two folders hold the same
cell, the later one counts (more seeds, say). Of several settings of a row the one with the lowest
validation error comes first, and is the one that counts. Cells of the paper that nobody has run
here, or not for as long, say so. `--keep DIR` copies the small files (numbers, curves, figures)
there, to be committed. Takes seconds.
"""

import base64
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jinja2 import Environment

from experiments import cli
from experiments.weight_uncertainty import agents, bandits, figures, pruning, records
from experiments.weight_uncertainty.records import Record
from experiments.weight_uncertainty.rows import ROWS
from experiments.weight_uncertainty.training import UNITS
from research.runtime.errors import UserError
from research.runtime.files import write_json, write_whole

RUNS = tuple(
    Path(f"runs/weight_uncertainty{name}") for name in ("", "-regression", "-bandits", "-ablations")
)
TABLE_1, TABLE_2 = "classification-", "pruning-"
PREFIXES = (TABLE_1, TABLE_2, "regression", "bandits-", "ablation-")
FIGURES = {
    "figure2.png": "Figure 2: test error over epochs; the band is the range over seeds",
    "figure3.png": "Figure 3: trained weights; of a posterior, one draw",
    "table2.png": "Table 2 as curves: test error over the share of weights removed",
    "figure4.png": "Figure 4: signal to noise of the weights",
    "figure5.png": "Figure 5: median and inter-quartile band; crosses are the data",
    "figure6.png": "Figure 6: cumulative regret; the band is the range over runs",
    "ablations.png": "Ablations of the scale mixture: test error after the last epoch",
}
PAGE = Path(__file__).with_name("page.html")


@dataclass(frozen=True)
class Config:
    """One page and one table of everything that was run."""

    runs: tuple[Path, ...] = RUNS
    """folders of runs; those that are missing are left out; a cell is taken from the last"""
    out: Path = Path("runs/weight_uncertainty-report")
    """where to write report.html, table.md and result.json"""
    keep: Path | None = None
    """copy the runs' numbers, curves and figures there"""


def read(runs: tuple[Path, ...]) -> list[Record]:
    """The records of all runs, in the paper's order.

    Raises:
        UserError: there are none.
    """
    found: dict[str, Record] = {}
    for prefix in PREFIXES:
        found |= {record.name: record for run in runs for record in records.read(run, prefix)}
    if not found:
        way_out = "begin with launch/run.sh experiments.weight_uncertainty.classification"
        folders = " ".join(map(str, runs))
        raise UserError("runs", "nothing has been run there", way_out, value=folders)
    return sorted(found.values(), key=_place)


def _place(record: Record) -> tuple[int, float]:
    """In the paper's order; cells of Table 1 by their validation error, as the paper chooses."""
    kind = next(i for i, prefix in enumerate(PREFIXES) if record.name.startswith(prefix))
    errors = record.arrays.get("valid_error") if PREFIXES[kind] == TABLE_1 else None
    return kind, 0.0 if errors is None else float(np.min(errors, axis=0).mean())


def own_row(title: str) -> str:
    """The row of the paper that a row with given hyper-parameters is a setting of."""
    own = [row.title for row in ROWS.values() if f"{title},".startswith(f"{row.title},")]
    return max(own, key=len, default=title)


def draw(found: list[Record], directory: Path) -> None:
    """Draws Figures 2 and 3, of the cells trained for longest, Table 2 and Figure 4."""
    cells = [record for record in found if record.name.startswith(TABLE_1)]
    longest = max((record.arrays["epochs"][-1] for record in cells), default=0)
    if drawn := [record for record in cells if record.arrays["epochs"][-1] == longest]:
        figures.draw_curves(directory / "figure2.png", drawn)
        figures.draw_densities(directory / "figure3.png", drawn)
    if pruned := [record for record in found if record.name.startswith(TABLE_2)]:
        figures.draw_pruning(directory / "table2.png", pruned)
    if any("decibels" in record.arrays for record in pruned):
        figures.draw_ratios(directory / "figure4.png", pruned)


def with_missing(rows: list[dict]) -> list[dict]:
    """The rows, and one for each cell of the paper that is not among them."""
    there = {(row["table"], row["row"], row["column"]) for row in rows}
    wanted = [
        ("1", row.title, str(units), row.paper[units])
        for row in ROWS.values()
        for units in UNITS
        if units in row.paper
    ]
    title = f"{ROWS['mixture'].title}, {UNITS[-1]} units"
    wanted += [("2", title, f"{100 * x:g} % removed", e) for x, e in pruning.PAPER.items()]
    steps = bandits.PRESETS["paper"][0]
    column = f"realised regret after {steps:,} steps"
    wanted.append(("figure 6", agents.BAYES_TITLE, column, bandits.PAPER))
    absent = [records.not_run(*cell) for cell in wanted if cell[:3] not in there]
    order = {"1": 0, "2": 1, "figure 5": 2, "figure 6": 3, "ablation": 4}
    titles = [row.title for row in ROWS.values()]  # Table 1 in the paper's order

    def place(row):
        own = own_row(row["row"])
        return order[row["table"]], titles.index(own) if own in titles else len(titles)

    return sorted(rows + absent, key=place)


def summary(rows: list[dict]) -> str:
    """A sentence with the number of the paper's cells that were run, and met."""
    cells: dict[tuple, str] = {}
    for row in rows:
        if row["verdict"]:  # the first of several settings counts: it was chosen by validation
            cells.setdefault((own_row(row["row"]), row["column"]), row["verdict"])
    verdicts = list(cells.values())
    met, missed = verdicts.count(records.MET), verdicts.count(records.MISSED)
    return (
        f"Of the {len(verdicts)} numbers of the paper, {met + missed} were run here by its "
        f"protocol: {met} are met, {missed} missed."
    )


def paper_table(rows: list[dict]) -> str:
    """The Markdown table of the paper's own cells, for the README."""
    return records.comparison([row for row in rows if row["verdict"]])


def _made(found: list[Record]) -> str:
    machines = sorted({record.found["hardware"] for record in found})
    commits = sorted({(record.found["commit"] or "unknown")[:12] for record in found})
    hours = sum(record.found.get("seconds", 0.0) for record in found) / 3600
    return f"Made on {', '.join(machines)} in {hours:.1f} hours; commits {', '.join(commits)}."


def keep(runs: tuple[Path, ...], directory: Path) -> None:
    """Copies the small files of the runs."""
    for run in runs:
        for path in sorted(run.glob("*")):
            is_record = path.suffix in (".json", ".npz") and path.name.startswith(PREFIXES)
            if is_record or path.name in FIGURES:
                write_whole(
                    directory / path.name, lambda partial, p=path: shutil.copyfile(p, partial)
                )


def main(config: Config) -> None:
    """Reads, writes the page and prints the table.

    Raises:
        UserError: nothing has been run.
    """
    found = read(config.runs)
    rows = with_missing([row for record in found for row in record.found["rows"]])
    draw(found, config.out)
    folders = *config.runs, config.out
    there = {n: run / n for n in FIGURES for run in folders if (run / n).exists()}
    pictures = [
        {"caption": FIGURES[name], "data": base64.b64encode(path.read_bytes()).decode()}
        for name, path in there.items()
    ]
    template = Environment(autoescape=True).from_string(PAGE.read_text())
    made, markdown = _made(found), paper_table(rows)
    html = template.render(
        rows=rows, pictures=pictures, summary=summary(rows), made=made, number=records.number
    )
    write_whole(config.out / "report.html", lambda partial: partial.write_text(html))
    write_whole(config.out / "table.md", lambda partial: partial.write_text(markdown + "\n"))
    write_json(config.out / "result.json", {"rows": rows, "made": made})
    if config.keep:
        keep(folders, config.keep)
    print(f"{markdown}\n\n{summary(rows)}\n\nLook at {config.out / 'report.html'}")


if __name__ == "__main__":
    cli.run(main, Config)
