"""One run: the folder that it writes to, the devices that it uses, and its random streams."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import jax
from jax.sharding import Mesh

from research.runtime.mesh import round_up_to_devices

# A new name changes what `key` gives to those that are here.
STREAMS: tuple[str, ...] = ("train", "draw")


@dataclass(frozen=True)
class Run:
    """Where a run writes, what computes it, and what decides its random numbers."""

    directory: Path
    mesh: Mesh
    seed: int

    def key(self, name: str) -> jax.Array:
        """The key of a stream.

        Args:
            name: "train" for initial weights, order and noise of every training; "draw" for the
                networks that predictions are drawn from.
        """
        keys = jax.random.split(jax.random.key(self.seed), len(STREAMS))
        return dict(zip(STREAMS, keys, strict=True))[name]

    def batch(self, size: int) -> int:
        """The smallest batch of at least `size` that the devices can share evenly."""
        return round_up_to_devices(size, self.mesh)

    def folder(self, name: str) -> "Run":
        """The same run, which writes to the folder `name` in this one's."""
        return dataclasses.replace(self, directory=self.directory / name)
