"""Devices: one axis, "data". State is on every device, a batch is shared out.

The same program runs on one CPU, eight GPUs or a TPU pod: plain `jit` follows the shardings of its
arguments. `AxisType.Auto` because under Explicit axes `vmap` over a convolution with a sharded
batch raises an error in JAX 0.10.
"""

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from research.runtime.errors import UserError


def data_mesh() -> Mesh:
    """All devices of all hosts in one row."""
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))


def replicate(tree, mesh: Mesh):
    """Puts a copy of every array on every device."""
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def place(state, members: int, mesh: Mesh):
    """Puts a method's state on the devices: members shared out where that comes out even.

    Args:
        state: of a method; with M > 1 members its leaves have the leading axis M.
        members: M.
        mesh: the devices.
    """
    if members == 1 or members % mesh.size:
        return replicate(state, mesh)

    def put(leaf):
        has_members = leaf.ndim > 0 and leaf.shape[0] == members
        return shard(leaf, mesh) if has_members else replicate(leaf, mesh)

    return jax.tree.map(put, state)


def shard(tree, mesh: Mesh):
    """Shares the first axis of every array out over the devices."""
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec("data")))


def round_up_to_devices(size: int, mesh: Mesh) -> int:
    """The smallest multiple of the number of devices that is at least `size`."""
    return -(-size // mesh.size) * mesh.size


def check_batch_size(batch_size: int, mesh: Mesh) -> None:
    """Every device gets the same number of examples.

    Raises:
        UserError: the batch size is no multiple of the number of devices.
    """
    if batch_size % mesh.size:
        raise UserError(
            "batch_size",
            f"not a multiple of the {mesh.size} devices",
            f"use {max(1, round(batch_size / mesh.size)) * mesh.size}",
            value=batch_size,
        )
