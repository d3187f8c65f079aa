"""The files of a finished run, each written whole."""

from pathlib import Path

import numpy as np

from research.assessment import export
from research.assessment.export import Calibration, Recommendation
from research.assessment.result import Assessment
from research.report import page, pictures
from research.report import result as report_result
from research.report.reading import recommended
from research.runtime.files import write_json, write_whole


def write(assessment: Assessment, directory: Path) -> None:
    """Writes result.json, pictures.npz, predictions.npz, report.html and the recommended model.

    Args:
        assessment: what is written.
        directory: the run's folder.
    """
    result = assessment.result
    html = page.render(result, assessment.pictures)
    _write_predictions(assessment, directory / "predictions.npz")
    pictures.save(directory, assessment.pictures)
    write_json(directory / report_result.FILE, result)
    page.write(directory, html)
    if assessment.candidates:
        export_recommended(assessment, directory)


def _write_predictions(assessment: Assessment, path: Path) -> None:
    """Writes the predictions over all splits in one order.

    `log_probs` [N, K] are those of the network as it is, `log_probs_METHOD` [S, N, K] a method's.
    """
    splits, point = assessment.splits, assessment.predictions["point"]
    names = list(point.log_probs)
    arrays = {
        f"log_probs_{method}": np.concatenate([predictions.log_probs[n] for n in names], axis=1)
        for method, predictions in assessment.predictions.items()
    }
    arrays["log_probs"] = arrays["log_probs_point"][0]
    arrays["labels"] = np.concatenate([splits[n].labels for n in names]).astype(np.int32)
    arrays["ids"] = np.concatenate([splits[n].ids for n in names]).astype(str)
    arrays["split"] = np.concatenate([np.full(len(splits[n].labels), n) for n in names])
    arrays["classes"] = np.array(assessment.classes, dtype=str)
    write_whole(path, lambda part: np.savez_compressed(part, allow_pickle=False, **arrays))


def export_recommended(assessment: Assessment, directory: Path) -> bool:
    """Saves what the report recommends, ready for `experiments.predict`.

    Returns:
        Whether it could be saved: a black box cannot.
    """
    result, candidates = assessment.result, assessment.candidates
    name = recommended(result)
    method = result["methods"][name]
    abstention = (method["decisions"] or {}).get("abstention", {}).get("chosen") or {}
    predictions, calibration = assessment.predictions[name], None
    if predictions.uncalibrated is not None:
        labels = assessment.splits["valid"].labels
        calibration = Calibration(predictions.calibrators, predictions.uncalibrated, labels)
    candidate = candidates.get(name, candidates["point"])  # calibrators are fitted to the latter
    recommendation = Recommendation(
        method["title"],
        assessment.classes,
        result["data"]["image_size"],
        assessment.seed,
        abstention.get("threshold"),
        abstention.get("bound"),
        calibration,
    )
    return export.save(directory, candidate.classifier, candidate.fitted, recommendation)
