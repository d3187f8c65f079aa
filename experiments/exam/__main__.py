"""Does the diagnosis find a fault that was planted, and leave the healthy alone?

    launch/run.sh experiments.exam
    launch/run.sh experiments.exam --seeds 400:419
    launch/run.sh experiments.exam --preset full --seeds 400:419

One known fault is planted in real and in generated images (`faults.py`), a head is trained, and the
diagnosis gets the evidence alone. The exam counts how often the planted fault is ranked first, how
often it is named at all, and how often healthy classifiers are called ill. Seeds below 400 were
used to build the diagnosis; score it on others.

Expected at the middle strength: ranked first in 95 % of the cases, named in 99 %, healthy called
ill in 5 % at most. Quick (5 seeds, middle strength): about ten minutes on 2 CPU cores.
"""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from tqdm import tqdm

from experiments import cli
from experiments.exam.cases import draw
from experiments.exam.classifier import train
from experiments.exam.faults import FAULTS, MORE_THAN_TWO, NO_FAULT, STRENGTHS
from experiments.exam.scores import as_rows, draw_confusion, summarise
from experiments.exam.table import of_exam
from research.diagnosis.diagnose import diagnose
from research.diagnosis.verdict import PRESENT
from research.runtime.errors import UserError
from research.runtime.files import write_json, write_whole
from research.runtime.run_folder import commit, open_run, versions

DATA = ("digits", "fashion_mnist", "cifar10", "inspection")
TWO_CLASSES = ("inspection",)
NOT_FAULTS = ("well_calibrated",)  # findings that are no fault
TARGETS = {"named_first": 0.95, "named": 0.99, "false_alarm": 0.05}
PRESETS = {"quick": (5, ("middle",)), "full": (20, tuple(STRENGTHS))}


@dataclass(frozen=True)
class Config:
    """Examines the diagnosis on classifiers with known faults."""

    preset: Literal["quick", "full"] = "quick"
    """quick: 5 seeds, faults of middle strength; full: 20 seeds, three strengths"""
    seeds: str | None = None
    """FIRST:LAST, both included; default: 0 and following, as many as the preset has"""
    causes: str | None = None
    """faults to plant, separated by commas; default: all, and healthy"""
    data: str = ",".join(DATA)
    """where images come from"""
    data_dir: str | None = None
    """where TFDS sets lie; default: TFDS_DATA_DIR"""
    out: Path = Path("runs/exam")
    """folder of the run; cases that are in it are not examined again"""


def parse_seeds(text: str | None, count: int) -> range:
    """FIRST:LAST as a range.

    Raises:
        UserError: not of that form.
    """
    if text is None:
        return range(count)
    first, colon, last = text.partition(":")
    if not (first.isdecimal() and (last.isdecimal() or not colon)):
        raise UserError("seeds", "give FIRST:LAST, such as 400:419", value=text)
    first, last = int(first), int(last or first)
    if last < first or last >= 2**31:
        raise UserError("seeds", "give FIRST:LAST, the last not below the first", value=text)
    return range(first, last + 1)


def _chosen(given: str | None, known: tuple[str, ...], option: str) -> tuple[str, ...]:
    """The names that an option lists; all that are known where it is not given."""
    names = tuple(given.replace(" ", "").split(",")) if given else known
    for name in names:
        if name not in known:
            raise UserError(option, f"choose from {', '.join(known)}", value=name)
    return names


def examine(fault: str, data: str, strength: str, seed: int, data_dir: str | None) -> dict:
    """Plants a fault, trains and diagnoses: a row of the exam.

    Returns:
        What was planted, the causes that were named (the first one first), and seconds.
    """
    begun = time.perf_counter()
    entropy = [seed, list(FAULTS).index(fault), STRENGTHS[strength]]
    generator = np.random.default_rng(entropy)
    case = FAULTS[fault](draw(data, generator, data_dir), STRENGTHS[strength], generator)
    found = {f.cause: f.verdict for f in diagnose(train(case, seed)) if f.verdict.state == PRESENT}
    return {
        "fault": fault,
        "data": data,
        "strength": strength,
        "seed": seed,
        "named": [cause for cause in found if cause not in NOT_FAULTS],
        "effects": {cause: v.effect and v.effect.nll.value for cause, v in found.items()},
        "seconds": time.perf_counter() - begun,
    }


def _planned(config: Config, seeds: range, strengths: tuple[str, ...]) -> list[tuple]:
    """The cases to examine: fault, data, strength and seed of each.

    Raises:
        UserError: a fault or a data set is unknown.
    """
    faults = _chosen(config.causes, tuple(FAULTS), "causes")
    sources = _chosen(config.data, DATA, "data")
    planned = []
    for fault in faults:
        fitting = [d for d in sources if fault not in MORE_THAN_TWO or d not in TWO_CLASSES]
        for strength in strengths if fault != NO_FAULT else ("middle",):
            for seed in seeds if fitting else ():
                planned.append((fault, fitting[seed % len(fitting)], strength, seed))
    return planned


def _examine_missing(planned: list[tuple], directory: Path, data_dir: str | None) -> list[dict]:
    """A row for every planned case; those of an earlier run are read from the folder."""
    path = directory / "cases.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    done = {(row["fault"], row["data"], row["strength"], row["seed"]): row for row in rows}
    for case in tqdm(planned, desc="examining", unit="case", disable=None):
        if case not in done:
            done[case] = examine(*case, data_dir=data_dir)
            lines = "".join(json.dumps(row) + "\n" for row in done.values())
            write_whole(path, lambda part, text=lines: part.write_text(text))
    return [done[case] for case in planned]


def _result(rows: list[dict], seeds: range) -> dict:
    """The content of result.json."""
    summary = summarise(rows)
    main_scores = summary["all"].get("middle", next(iter(summary["all"].values())))
    return main_scores | {
        **summary,
        "rows": as_rows(summary),
        "seeds": [seeds.start, seeds.stop - 1],
        "targets": TARGETS,
        "cases": len(rows),
        "seconds": sum(row["seconds"] for row in rows),
        "commit": commit(),
        "versions": versions(),
    }


def main(config: Config) -> None:
    """Examines what is missing, scores and draws.

    Raises:
        UserError: bad input.
    """
    count, strengths = PRESETS[config.preset]
    seeds = parse_seeds(config.seeds, count)
    planned = _planned(config, seeds, strengths)
    identity = {"data": list(_chosen(config.data, DATA, "data")), "commit": commit()}
    with open_run(config.out, identity) as directory:
        rows = _examine_missing(planned, directory, config.data_dir)
        result = _result(rows, seeds)
        write_json(directory / "result.json", result)
        draw_confusion(directory / "confusion.png", rows)
    print(of_exam(result))
    for row in rows:
        if row["named"][:1] != ([] if row["fault"] == NO_FAULT else [row["fault"]]):
            print(
                f"missed: {row['fault']} ({row['data']}, {row['strength']}, seed {row['seed']}): "
                f"named {', '.join(row['named']) or 'nothing'}"
            )
    print(f"\nWritten to {config.out}: result.json, cases.jsonl, confusion.png.")
    print("Next: launch/run.sh experiments.diagnose --data photos/ --model model.keras")


if __name__ == "__main__":
    cli.run(main, Config)
