"""Checkpoints in a run's folder: the only file that imports Orbax.

A checkpoint is one pytree of arrays under its step. The newest few are kept. Orbax writes to a
temporary name and renames, so a kill in the middle of a save loses nothing.
"""

import contextlib
import errno
import logging
import os
import re
import shutil
from pathlib import Path
from typing import Any

import jax
from orbax.checkpoint import v1 as ocp

KEEP = 2


def open_checkpoints(directory: Path) -> ocp.training.Checkpointer:
    """The checkpoints in a folder, which is made if it is missing.

    They have to be closed after use (`contextlib.closing`). `should_save(step)` is true when the
    scheduler has announced a pre-emption.
    """
    # Orbax reports each save at length, and what it raises once more in every thread.
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    return ocp.training.Checkpointer(
        directory.resolve(),
        save_decision_policy=ocp.training.save_decision_policies.PreemptionCheckpointingPolicy(),
        preservation_policy=ocp.training.preservation_policies.LatestN(KEEP),
        cleanup_tmp_directories=True,
    )


def save(checkpoints: ocp.training.Checkpointer, step: int, state: Any) -> None:
    """Writes `state` under `step`, whole or not at all; a step that is already there stays.

    Raises:
        OSError: the disk is full, or it may not be written to.
    """
    latest = checkpoints.latest
    if latest is not None and latest.step >= step:
        return
    disk = shutil.disk_usage(checkpoints.directory)
    needed = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    # A disk that fills up in the middle of a save gives a thousand lines from Orbax's threads. A
    # file system that gives a total size of 0 does not know its free space.
    if disk.total and disk.free < needed:
        raise _os_error(errno.ENOSPC, checkpoints)
    try:
        checkpoints.save(step, state, force=True)
    except ValueError as error:  # Orbax's C++ part reports errors of the disk so
        code = re.search(r"\[os_error_code='(\d+)'\]", str(error))
        if code is None:
            raise
        with contextlib.suppress(ValueError):
            checkpoints.wait()  # Orbax raises the error once more, here or when it is closed
        raise _os_error(int(code.group(1)), checkpoints) from error


def _os_error(number: int, checkpoints: ocp.training.Checkpointer) -> OSError:
    return OSError(number, os.strerror(number), str(checkpoints.directory))


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
