"""Decodes every image once, in threads: finds the broken ones and the copies, keeps what fits.

Pillow releases the interpreter's lock while it decodes and resizes. Grain, whose threads decode
streamed images, takes over a second to import, which small data sets need not pay. What fits in
memory is written to the run's folder as one `.npy`, whose name is a digest of all it was made from,
so that the same command reads it back.
"""

import hashlib
import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import PIL
from tqdm import tqdm

from research.data.images import UnreadableImage, resize
from research.data.sources.source import Source
from research.runtime.files import write_whole

_BLOCK = 64  # number of images that a thread takes at a time


def _decode_all(
    source: Source, rows: np.ndarray, image_size: int, keep: bool, progress: bool
) -> tuple[np.ndarray | None, np.ndarray]:
    """Images, if they are kept, and digests, as `decode_once` returns them."""
    images = np.empty((len(rows), image_size, image_size, 3), np.uint8) if keep else None
    digests = np.zeros((len(rows), 16), np.uint8)

    def decode_block(start):
        block = range(start, min(start + _BLOCK, len(rows)))
        for i in block:
            try:
                image = resize(source.read(rows[i]), image_size)
            except UnreadableImage:
                continue
            digests[i] = np.frombuffer(
                hashlib.blake2b(image.data, digest_size=16).digest(), np.uint8
            )
            if images is not None:
                images[i] = image
        return len(block)

    disable = None if progress else True  # None: where stderr is no terminal
    bar = tqdm(total=len(rows), desc="reading images", unit="image", disable=disable)
    pool = ThreadPoolExecutor(os.cpu_count())
    with bar, warnings.catch_warnings():
        # Pillow warns of odd metadata in files that it decodes all the same.
        warnings.filterwarnings("ignore", module="PIL")
        try:
            for done in pool.map(decode_block, range(0, len(rows), _BLOCK)):
                bar.update(done)
        finally:  # an interrupted run must not wait for the rest
            pool.shutdown(cancel_futures=True)
    return images, digests


def _name(source: Source, rows: np.ndarray, image_size: int) -> str:
    """A digest of everything that the decoded images depend on."""
    made_from = (source.fingerprint, image_size, PIL.__version__, *source.ids[rows])
    text = "\n".join(map(str, made_from)).encode(errors="surrogateescape")
    return hashlib.blake2b(text, digest_size=16).hexdigest()


def decode_once(
    source: Source,
    rows: np.ndarray,
    image_size: int,
    memory_gb: float,
    cache_dir: Path | None,
    progress: bool,
) -> tuple[np.ndarray | None, np.ndarray]:
    """Decodes the images `rows` [N] of a source, or reads back what an earlier run decoded.

    Args:
        source: where the images come from.
        rows: indices of its images to decode, [N].
        image_size: the side to resize to, in pixels.
        memory_gb: the most memory that the images may fill, in 10^9 bytes.
        cache_dir: folder for the decoded images; None: they are not written.
        progress: whether a terminal shows a bar.

    Returns:
        The images [N, size, size, 3] uint8, or None where they do not fit in `memory_gb`; and a
        digest of each image, [N, 16] uint8, which is all zero for one that cannot be read.

    Raises:
        OSError: the cache cannot be written.
    """
    keep = len(rows) * image_size**2 * 3 <= memory_gb * 1e9
    if cache_dir is None:
        return _decode_all(source, rows, image_size, keep, progress)
    name = _name(source, rows, image_size)
    images_file = cache_dir / f"images-{name}.npy"
    digests_file = cache_dir / f"digests-{name}.npy"
    if not digests_file.exists() or (keep and not images_file.exists()):
        images, digests = _decode_all(source, rows, image_size, keep, progress)
        if images is not None:
            write_whole(images_file, lambda part, images=images: np.save(part, images))
        write_whole(digests_file, lambda part: np.save(part, digests))
        for file in (*cache_dir.glob("images-*.npy"), *cache_dir.glob("digests-*.npy")):
            if name not in file.name:  # it holds other images or another size: never read again
                file.unlink(missing_ok=True)
    # The file is mapped and not read, because the splits copy their images out of it.
    images = np.load(images_file, mmap_mode="r") if keep else None
    return images, np.load(digests_file)
