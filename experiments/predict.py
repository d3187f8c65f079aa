"""The class of each of these images, as the classifier recommended by a run predicts it.

    launch/run.sh experiments.predict --run runs/digits photos/new/*.jpg
    launch/run.sh experiments.predict --run runs/digits photos/new/ --json

Prints for each image the class, its probability, and the uncertainty in two parts, in nats:
epistemic (draws of the weights disagree: more training images would help) and aleatoric (they agree
that it is unclear). "refused" stands where the uncertainty reaches the threshold that the run
certified. Images are read one batch after another, so there may be any number of them.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from experiments import cli
from research.assessment import export
from research.assessment.export import Exported
from research.data.images import decode, find, resize
from research.metrics import format
from research.metrics.scores import predictive
from research.runtime.errors import UserError


@dataclass(frozen=True)
class Config:
    """Asks the classifier that a run recommends."""

    images: tyro.conf.Positional[tuple[Path, ...]]
    """image files, or folders of them"""
    run: Path
    """folder of a finished run of experiments.diagnose"""
    json: bool = False
    """print one JSON object a line"""
    batch_size: int = 32
    """images at a time"""


def answers(classifier: Exported, images: np.ndarray) -> list[dict]:
    """What is printed of each of the images [N, H, W, 3]."""
    prediction = predictive(classifier.predict(images))
    probs = np.exp(prediction.log_probs)
    threshold = np.inf if classifier.threshold is None else classifier.threshold
    return [
        {
            "class": classifier.classes[top],
            "probability": float(probs[i, top]),
            "epistemic": float(prediction.entropy[i] - prediction.expected_entropy[i]),
            "aleatoric": float(prediction.expected_entropy[i]),
            "refused": bool(prediction.uncertainty[i] >= threshold),
        }
        for i, top in enumerate(prediction.top)
    ]


def main(config: Config) -> None:
    """Loads, predicts, prints.

    Raises:
        UserError: bad input.
    """
    if config.batch_size < 1:
        raise UserError("batch_size", "give a whole number, 1 or more", value=config.batch_size)
    paths = find(config.images)
    classifier = export.load(config.run, config.batch_size)
    width = max(len(str(path)) for path in paths)
    names = max(map(len, (*classifier.classes, "class")))
    if not config.json:
        print(f"{'image':{width}}  {'class':{names}}  probability  epistemic  aleatoric")
    for start in range(0, len(paths), config.batch_size):
        chunk = paths[start : start + config.batch_size]
        images = [resize(decode(path, str(path)), classifier.image_size) for path in chunk]
        for path, answer in zip(chunk, answers(classifier, np.stack(images)), strict=True):
            if config.json:
                print(json.dumps({"image": str(path), **answer}))
                continue
            numbers = f"{format.percent(answer['probability']):>11}  {answer['epistemic']:9.4f}"
            line = f"{path!s:{width}}  {answer['class']:{names}}  {numbers}"
            print(f"{line}  {answer['aleatoric']:9.4f}{'  refused' * answer['refused']}")
    if not config.json and classifier.bound is not None:
        print(
            f"\n{classifier.title}. Of the answers that are not refused at most "
            f"{100 * classifier.bound:.1f} % are wrong, with 95 % certainty, on images like those "
            "of the run."
        )


if __name__ == "__main__":
    cli.run(main, Config)
