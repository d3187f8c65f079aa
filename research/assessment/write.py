"""The files of a finished run: result.json, predictions.npz and report.html, each written whole."""

import datetime
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from research.assessment.decisions import decide
from research.assessment.predictions import Predictions
from research.assessment.remedies import Cure
from research.assessment.result import (
    NEW,
    describe_diagnosis,
    judge,
    most_confident_mistakes,
)
from research.assessment.titles import told
from research.data.dataset import Split
from research.diagnosis.collect import Collected
from research.diagnosis.diagnose import Found
from research.metrics.evaluate import DESCRIPTIONS
from research.report import page, pictures
from research.report.findings import findings
from research.report.next_steps import next_steps
from research.report.pictures import Pictures
from research.report.result import FILE, SCHEMA_VERSION
from research.runtime.files import write_json, write_whole
from research.runtime.run_folder import commit, versions


def _method(
    name: str,
    judged: dict[str, Predictions],
    cure: Cure | None,
    title: str,
    about: str,
    splits: dict[str, Split],
    seed: int,
    max_error: float,
) -> dict:
    this, as_it_is = judged[name], judged["point"]
    fit = this.temperature
    return {
        "title": title,
        "about": about,
        "against": list(cure.against) if cure else [],
        "training_seconds": cure.fitted.seconds if cure else None,
        "draws": len(this.log_probs["test"]),
        "milliseconds_per_image": this.milliseconds_per_image,
        "temperature": None
        if fit is None
        else {
            "value": fit["temperature"],
            **{n: fit[n] for n in ("low", "high", "nll_before", "nll_after")},
            **{n: fit[n] for n in ("separable", "diverged")},
        },
        "decisions": decide(this.log_probs, splits, max_error),
        "splits": {
            split: judge(log_probs, splits[split].labels, as_it_is.log_probs[split], seed)
            for split, log_probs in this.log_probs.items()
        },
    }


def _save_predictions(
    path: Path, judged: dict[str, Predictions], splits: dict[str, Split], classes: tuple[str, ...]
) -> None:
    """[N, K] `log_probs` as it is, and [S, N, K] of every method, over all splits in one order."""
    names = list(judged["point"].log_probs)
    arrays = {
        f"log_probs_{name}": np.concatenate([each.log_probs[n] for n in names], axis=1)
        for name, each in judged.items()
    }
    arrays["log_probs"] = arrays["log_probs_point"][0]
    arrays["labels"] = np.concatenate([splits[n].labels for n in names]).astype(np.int32)
    arrays["ids"] = np.concatenate([splits[n].ids for n in names]).astype(str)
    arrays["split"] = np.concatenate([np.full(len(splits[n].labels), n) for n in names])
    arrays["classes"] = np.array(classes, dtype=str)
    write_whole(path, lambda part: np.savez_compressed(part, **arrays))


def _pictures(result: dict, splits: dict[str, Split], observed: Collected) -> Pictures:
    """The images that the result points at, and the mean of the test images in the evidence."""
    images = observed.evidence.splits["test"].images
    if images is None:
        return Pictures()
    shown = result["mistakes"] + [s for cause in result["diagnosis"] for s in cause["suspects"]]
    places = sorted({(one["split"], one["index"]) for one in shown})
    new = observed.evidence.new
    return Pictures(
        {
            (name, i): new.images[i] if name == NEW else splits[name].images[i : i + 1][0]
            for name, i in places
        },
        np.asarray(images).mean(axis=0).astype(np.uint8),
    )


def write_report(
    directory: Path,
    *,
    data: dict,
    model: dict,
    splits: dict[str, Split],
    classes: tuple[str, ...],
    judged: dict[str, Predictions],
    found: list[Found],
    observed: Collected,
    cures: Mapping[str, Cure],
    seed: int,
    max_error: float,
    seconds: float,
    command: str,
) -> dict:
    """Judges all predictions and writes the three files.

    Args:
        directory: the run's folder.
        data: the `data` part of the result (see the README's schema).
        model: the `model` part of the result.
        splits: labels and ids; the images of "test" are shown, or None.
        classes: K names.
        judged: predictions by method.
        found: the verdicts of the diagnosis.
        observed: what they are about.
        cures: what was trained, by method.
        seed: of the bootstrap.
        max_error: the error rate allowed among answers that are not refused.
        seconds: what the run took so far.
        command: what a person types to make the run again.

    Returns:
        What result.json holds.
    """
    mistakes = most_confident_mistakes(judged["point"].log_probs["test"], splits["test"], classes)
    titles = told(judged, cures)
    result = {
        "schema_version": SCHEMA_VERSION,
        "command": command,
        "created": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "seconds": seconds,
        "seed": seed,
        "max_error": max_error,
        "commit": commit(),
        "versions": versions(),
        "data": data,
        "model": model,
        "methods": {
            n: _method(n, judged, cures.get(n), *titles[n], splits, seed, max_error) for n in judged
        },
        "diagnosis": describe_diagnosis(found, observed, splits, classes),
        "mistakes": mistakes,
        "descriptions": DESCRIPTIONS,
    }
    result["findings"] = findings(result)
    result["next"] = next_steps(result)
    shown = _pictures(result, splits, observed)
    text = page.render(result, shown)
    _save_predictions(directory / "predictions.npz", judged, splits, classes)
    pictures.save(directory, shown)
    write_json(directory / FILE, result)
    page.write(directory, text)
    return result
