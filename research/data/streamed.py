"""Images that do not fit in memory: decoded when needed, or ahead of need in grain's threads."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from research.data.images import resize


@dataclass(frozen=True)
class StreamedImages:
    """`Images` that are decoded on every access. The same pixels as if they were kept in memory."""

    read: Callable[[int], Image.Image]  # a source's
    rows: np.ndarray  # [N] which of its images
    image_size: int

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """[N, size, size, 3]."""
        return len(self.rows), self.image_size, self.image_size, 3

    def __len__(self) -> int:
        """N."""
        return len(self.rows)

    def __getitem__(self, index: np.ndarray) -> np.ndarray:
        """Images [n, size, size, 3] uint8 at `index` [n] (or a slice)."""
        rows = self.rows[index]
        images = np.empty((len(rows), *self.shape[1:]), np.uint8)
        for i, row in enumerate(rows):
            images[i] = resize(self.read(row), self.image_size)
        return images


def ahead(function: Callable[[int], Any], start: int, stop: int) -> Iterator[Any]:
    """function(start), ..., function(stop - 1), in order, computed ahead in threads.

    `function` is pure, so the result depends on the number alone and not on where reading began.
    """
    import grain  # a second of imports, for streamed data only

    threads = min(16, os.cpu_count() or 1)
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads)
    return iter(grain.MapDataset.range(start, stop).map(function).to_iter_dataset(options))
