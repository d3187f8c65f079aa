"""The log of a training: a bar with the time left, metrics.jsonl and TensorBoard events."""

import json
import sys
import time
from pathlib import Path

import numpy as np
from tensorboardX import SummaryWriter
from tqdm import tqdm

from research.runtime.files import write_whole

COLLAPSED = 1e-3  # mean total variation between a draw and the mean of all draws


def read_history(directory: Path) -> tuple[dict, ...]:
    """The rows of a training's log, in order; none where there was no training.

    A last row that a kill has cut short is left out.
    """
    path, rows = directory / "metrics.jsonl", []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return tuple(rows)


class Progress:
    """The log of one training; rows after the step that a resumed run starts from are dropped."""

    def __init__(self, directory: Path, num_steps: int, first_step: int, steps_per_epoch: int):
        """Opens the log of a run.

        Args:
            directory: the run's folder.
            num_steps: the number of the last step.
            first_step: the step that this process starts from.
            steps_per_epoch: the number of steps in an epoch, to give the epoch beside the step.
        """
        self._steps_per_epoch = steps_per_epoch
        self._path = directory / "metrics.jsonl"
        kept = [row for row in read_history(directory) if row["step"] <= first_step]
        text = "".join(json.dumps(row) + "\n" for row in kept)
        write_whole(self._path, lambda part: part.write_text(text))
        self._events = SummaryWriter(str(directory / "tensorboard"), purge_step=first_step + 1)
        self._is_terminal = sys.stderr.isatty()
        self._bar = tqdm(
            total=num_steps,
            initial=first_step,
            desc="training",
            unit="step",
            disable=not self._is_terminal,
        )
        self._since, self._step_since = time.perf_counter(), first_step
        self._has_warned = False

    def advance(self) -> None:
        """One more step."""
        self._bar.update()

    def log(
        self,
        step: int,
        pending: list[dict],
        valid: dict[str, float],
        learning_rate: float,
        summary: dict[str, float],
    ) -> None:
        """Writes one row, and warns once when all draws of a weight posterior agree.

        Args:
            step: the number of steps taken.
            pending: metrics of the steps since the last row; their means are written.
            valid: `nll`, `accuracy` and `confidence` on the validation split.
            learning_rate: the learning rate at this step.
            summary: numbers that describe the method's state, and `disagreement` where there are
                several draws.
        """
        now = time.perf_counter()
        row = {
            "step": step,
            "epoch": round(step / self._steps_per_epoch, 3),
            "learning_rate": learning_rate,
            **{name: float(np.mean([m[name] for m in pending])) for name in pending[0]},
            **{f"valid_{name}": valid[name] for name in ("nll", "accuracy", "confidence")},
            **summary,
            "steps_per_second": (step - self._step_since) / (now - self._since),
        }
        self._since, self._step_since = now, step
        with self._path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        for name, value in row.items():
            if name != "step":
                self._events.add_scalar(name, value, step)
        shown = {
            "loss": f"{row['loss']:.3f}",
            "valid NLL": f"{row['valid_nll']:.3f}",
            "accuracy": f"{row['valid_accuracy']:.1%}",
            "confidence": f"{row['valid_confidence']:.1%}",
        }
        if self._is_terminal:
            self._bar.set_postfix(shown)
        else:
            numbers = "  ".join(f"{name} {value}" for name, value in shown.items())
            speed = row["steps_per_second"]
            left = (self._bar.total or 0) - step
            print(
                f"step {step}/{self._bar.total}  {numbers}  {speed:.1f} steps/s  "
                f"at most {left / speed:.0f} s left",
                file=sys.stderr,
            )

        # Draws may agree for other reasons, such as a posterior that `finish` has yet to compute.
        collapsed = summary.get("disagreement", 1.0) < COLLAPSED and "sigma_over_mu" in summary
        if collapsed and not self._has_warned:
            self._has_warned = True
            print(
                f"warning: at step {step} all draws say the same (disagreement "
                f"{summary['disagreement']:.1e}): the posterior has collapsed to one network, or "
                "has not spread yet; a larger initial standard deviation, or more weight on the "
                "KL term, keeps it wide",
                file=sys.stderr,
            )

    def close(self) -> None:
        """Flushes everything."""
        self._bar.close()
        self._events.close()
