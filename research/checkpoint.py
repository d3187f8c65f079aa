"""Checkpoints in a run's folder: the only file that imports Orbax.

A checkpoint is one pytree of arrays under its step. The newest few are kept. Orbax writes to a
temporary name and renames, so a kill in the middle of a save loses nothing.
"""

import logging
from pathlib import Path
from typing import Any

import jax
from orbax.checkpoint import v1 as ocp

KEEP = 2


def open_checkpoints(directory: Path) -> ocp.training.Checkpointer:
    """The checkpoints in a folder, made if it is missing. Close it after use
    (`contextlib.closing`).

    `should_save(step)` is true when the scheduler has announced a pre-emption.
    """
    logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax reports each save at length
    return ocp.training.Checkpointer(
        directory.resolve(),
        save_decision_policy=ocp.training.save_decision_policies.PreemptionCheckpointingPolicy(),
        preservation_policy=ocp.training.preservation_policies.LatestN(KEEP),
        cleanup_tmp_directories=True,
    )


def save(checkpoints: ocp.training.Checkpointer, step: int, state: Any) -> None:
    """Writes `state` under `step`, whole or not at all; a step that is already there stays."""
    latest = checkpoints.latest
    if latest is None or latest.step < step:
        checkpoints.save(step, state, force=True)


def restore(checkpoints: ocp.training.Checkpointer, like: Any) -> tuple[int, Any] | None:
    """The newest checkpoint, or None.

    Args:
        checkpoints: from `open_checkpoints`.
        like: arrays with the structure, shapes, types and shardings to restore into.

    Returns:
        (step, state).
    """
    latest = checkpoints.latest
    if latest is None:
        return None
    abstract = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), like
    )
    return latest.step, checkpoints.load(latest.step, abstract_state=abstract)
