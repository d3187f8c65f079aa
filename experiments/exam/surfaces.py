"""Generated photographs of surfaces, "good" and "bad": what a camera over a belt might see.

A good surface has grain, uneven light and specks of dust; a bad one also a scratch or a stain. The
scratch or stain may be faint, so that the classes overlap as they do in a factory.
"""

import numpy as np
from scipy.ndimage import gaussian_filter

CLASSES = ("bad", "good")
SIDE = 32


def _surface(generator: np.random.Generator) -> np.ndarray:
    """Grain, light from one side, dust: [SIDE, SIDE] about 0.5."""
    grain = gaussian_filter(generator.normal(size=(SIDE, SIDE)), (0.5, 2.0))
    direction = generator.normal(size=2)
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE - 0.5
    light = 0.12 * (direction[0] * y + direction[1] * x)
    picture = 0.55 + 0.08 * grain / grain.std() * 0.5 + light + generator.normal(0, 0.04)
    for _ in range(generator.poisson(2)):
        r, c = generator.integers(0, SIDE, 2)
        picture[r, c] -= generator.uniform(0.1, 0.3)
    return picture


def _fault(generator: np.random.Generator) -> np.ndarray:
    """A scratch or a stain, as darkness to take away: [SIDE, SIDE]."""
    y, x = np.mgrid[:SIDE, :SIDE]
    centre = generator.uniform(0.25 * SIDE, 0.75 * SIDE, 2)
    depth = generator.uniform(0.12, 0.45)
    if generator.random() < 0.5:
        angle, length = generator.uniform(0, np.pi), generator.uniform(5, 11)
        along = (y - centre[0]) * np.sin(angle) + (x - centre[1]) * np.cos(angle)
        across = (y - centre[0]) * np.cos(angle) - (x - centre[1]) * np.sin(angle)
        return depth * 1.3 * np.exp(-(across**2) / 1.2) * (np.abs(along) < length)
    radius = generator.uniform(2.5, 5.0)
    squared = (y - centre[0]) ** 2 + (x - centre[1]) ** 2
    return depth * np.exp(-squared / (2 * radius**2))


def generate(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Surfaces and their labels.

    Args:
        count: N.
        seed: of everything.

    Returns:
        images [N, SIDE, SIDE, 3] uint8, and labels [N] int32 as in `CLASSES`, half of each.
    """
    generator = np.random.default_rng(seed)
    labels = generator.permutation(np.arange(count) % 2).astype(np.int32)
    images = np.empty((count, SIDE, SIDE, 3), np.uint8)
    tint = np.array([1.0, 0.97, 0.92])
    for i, label in enumerate(labels):
        picture = _surface(generator)
        if CLASSES[label] == "bad":
            picture = picture - _fault(generator)
        pixels = 255 * np.clip(picture, 0, 1)[..., None] * tint
        images[i] = np.clip(pixels + generator.normal(0, 4, pixels.shape), 0, 255)
    return images, labels
