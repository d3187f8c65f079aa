"""This file, the only one that imports Orbax, writes and reads the checkpoints of a run.

A checkpoint is one pytree of arrays, stored under its step. The newest few are kept. Orbax
writes to a temporary name and renames, so a kill in the middle of a save loses nothing.
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
    """Opens the checkpoints in a folder, which is made if it is missing.

    The result has to be closed after use (`contextlib.closing`). `should_save(step)` is true when
    the scheduler has announced a pre-emption.
    """
    # Orbax logs every save at length, and logs what it raises once more in every thread.
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    return ocp.training.Checkpointer(
        str(directory.resolve()),
        # Orbax's own policies miss its own protocols by the type of a step.
        save_decision_policy=ocp.training.save_decision_policies.PreemptionCheckpointingPolicy(),  # pyright: ignore[reportArgumentType]
        preservation_policy=ocp.training.preservation_policies.LatestN(KEEP),  # pyright: ignore[reportArgumentType]
        cleanup_tmp_directories=True,
    )


def save(checkpoints: ocp.training.Checkpointer, step: int, state: Any) -> None:
    """Writes `state` under `step`, whole or not at all; a checkpoint that is there already stays.

    Raises:
        OSError: the disk is full, or the folder may not be written to.
    """
    latest = checkpoints.latest
    if latest is not None and latest.step >= step:
        return
    disk = shutil.disk_usage(checkpoints.directory)
    needed = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    # Orbax's threads print a thousand lines where a disk fills up in the middle of a save. A file
    # system that gives a total size of 0 does not know its free space.
    if disk.total and disk.free < needed:
        raise _os_error(errno.ENOSPC, checkpoints)
    try:
        checkpoints.save(step, state, force=True)
    except ValueError as error:  # so Orbax's C++ part reports errors of the disk
        code = re.search(r"\[os_error_code='(\d+)'\]", str(error))
        if code is None:
            raise
        with contextlib.suppress(ValueError):
            checkpoints.wait()  # Orbax raises the error once more, here or when it is closed
        raise _os_error(int(code.group(1)), checkpoints) from error


def _os_error(number: int, checkpoints: ocp.training.Checkpointer) -> OSError:
    return OSError(number, os.strerror(number), str(checkpoints.directory))


def restore(checkpoints: ocp.training.Checkpointer, like: Any) -> tuple[int, Any] | None:
    """Reads the newest checkpoint.

    Args:
        checkpoints: what `open_checkpoints` gave.
        like: arrays with the structure, shapes, types and shardings to restore into.

    Returns:
        (step, state), or None where there is no checkpoint.
    """
    latest = checkpoints.latest
    if latest is None:
        return None
    abstract = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), like
    )
    return latest.step, checkpoints.load(latest.step, abstract_state=abstract)
