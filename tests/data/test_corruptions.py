"""Corruptions: what each does, that levels are steps, and that batches may be cut anywhere."""

import colorsys
import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from research.data import corruptions
from research.data.corruptions import (
    CORRUPTIONS,
    LEVELS,
    corrupt,
    corrupt_all,
    lose_as_jpeg,
    quantisation_tables,
    rotate,
)
from research.runtime.errors import UserError

KEY = jax.random.key(0)
STAY_GREY = [name for name in CORRUPTIONS if name != "noise"]  # each channel has its own noise


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Twelve smooth colourful images [12, 32, 32, 3]."""
    random = np.random.default_rng(0)
    small = random.integers(0, 256, (12, 7, 7, 3), dtype=np.uint8)
    large = [Image.fromarray(each).resize((32, 32), Image.Resampling.BICUBIC) for each in small]
    return np.stack([np.asarray(each) for each in large])


@pytest.fixture(scope="module")
def corrupted(images) -> dict[str, np.ndarray]:
    """By name, all levels [6, 12, 32, 32, 3], level 0 first."""
    levels = range(corruptions.NUM_LEVELS + 1)
    return {
        name: np.stack([corrupt(KEY, images, name, level) for level in levels])
        for name in CORRUPTIONS
    }


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_each_level_is_further_from_the_original(corrupted, images, name):
    levels = corrupted[name]
    assert levels.dtype == np.uint8
    assert levels.shape == (6, *images.shape)
    np.testing.assert_array_equal(levels[0], images)
    if name in ("rotation", "translation"):  # small structures are out of place at once
        wave = 128 + 100 * np.sin(2 * np.pi * (np.arange(32) - 15.5) / 32)
        images = np.broadcast_to(wave[:, None, None], images.shape).astype(np.uint8)
        levels = np.stack([corrupt(KEY, images, name, level) for level in range(6)])
    distances = np.abs(levels.astype(float) - images).mean(axis=(1, 2, 3, 4))
    assert np.all(np.diff(distances) > 0.5), distances


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_an_image_meets_the_same_wherever_the_batches_are_cut(corrupted, images, name):
    whole = corrupted[name][3]
    parts = [corrupt(KEY, images[i : i + 6], name, 3, first=i) for i in (0, 6)]
    # XLA may round a last bit the other way in a batch of another size.
    difference = np.abs(np.concatenate(parts).astype(int) - whole)
    assert difference.max() <= (30 if name == "jpeg" else 1)
    assert np.mean(difference > 0) < 0.01


def test_the_key_decides_the_noise(images):
    same, other = (corrupt(key, images, "noise", 1) for key in (KEY, jax.random.key(1)))
    np.testing.assert_array_equal(corrupt(KEY, images, "noise", 1), same)
    assert np.mean(np.asarray(same) != other) > 0.5
    assert np.mean(np.asarray(same)[0] != np.asarray(same)[1]) > 0.5


def test_one_program_serves_all_levels_and_all_batches_of_a_shape(images):
    corruptions._corrupt.clear_cache()
    for level in (1, 4):
        for first in (0, 5):
            corrupt(KEY, images[:4], "contrast", level, first)
    assert corruptions._corrupt._cache_size() == 1


def test_a_whole_split_is_the_same_batch_by_batch(images, corrupted, monkeypatch):
    monkeypatch.setattr(corruptions, "BATCH", 5)  # does not divide 12
    found = corrupt_all(KEY, images, "translation", 2)
    np.testing.assert_array_equal(found, corrupted["translation"][2])


@pytest.mark.parametrize("name", STAY_GREY)
def test_grey_stays_grey(images, name):
    grey = np.repeat(images[..., :1], 3, axis=-1)
    found = np.asarray(corrupt(KEY, grey, name, 4)).astype(int)
    assert np.ptp(found, axis=-1).max() <= (1 if name == "jpeg" else 0)  # colour is rounded there


def test_noise_has_the_stated_deviation():
    grey = np.full((8, 32, 32, 3), 128, np.uint8)
    noise = np.asarray(corrupt(KEY, grey, "noise", 2), float) - 128
    count, deviation = noise.size, 255 * LEVELS["noise"][1]
    assert abs(noise.mean()) < 5 * deviation / np.sqrt(count)
    # Rounding to whole numbers adds a variance of 1/12.
    assert np.isclose(noise.std(), np.hypot(deviation, 12**-0.5), rtol=5 / np.sqrt(2 * count))


def test_blur_is_scipys_and_keeps_the_mean(images, corrupted):
    deviation = LEVELS["blur"][3]
    wanted = gaussian_filter(images.astype(float), (0, deviation, deviation, 0), mode="reflect")
    assert np.abs(corrupted["blur"][4] - wanted).max() < 0.51
    means = [x.astype(float).mean(axis=(1, 2)) for x in (corrupted["blur"][4], images)]
    np.testing.assert_allclose(*means, atol=0.2)  # each pixel is rounded


def test_contrast_shrinks_towards_the_mean(images, corrupted):
    x = images.astype(float)
    mean = x.mean(axis=(1, 2), keepdims=True)
    wanted = mean + LEVELS["contrast"][1] * (x - mean)
    assert np.abs(corrupted["contrast"][2] - wanted).max() < 0.51


def test_brightness_adds_to_the_value_of_hsv(images, corrupted):
    added = LEVELS["brightness"][0]
    for before, after in zip(images[0, ::8, 5], corrupted["brightness"][1][0, ::8, 5], strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*(before / 255))
        wanted = colorsys.hsv_to_rgb(hue, saturation, min(value + added, 1))
        np.testing.assert_allclose(after, 255 * np.array(wanted), atol=0.51)
    black = np.zeros((1, 32, 32, 3), np.uint8)
    np.testing.assert_array_equal(corrupt(KEY, black, "brightness", 1), round(255 * added))


def test_pixelate_is_pillows_box_there_and_back(images, corrupted):
    for level, kept in enumerate(LEVELS["pixelate"], start=1):
        size = int(32 * kept)
        small = Image.fromarray(images[0]).resize((size, size), Image.Resampling.BOX)
        wanted = np.asarray(small.resize((32, 32), Image.Resampling.BOX), int)
        if 32 % size == 0:  # elsewhere Pillow's boxes take whole pixels, ours share them
            assert np.abs(corrupted["pixelate"][level][0] - wanted).max() <= 1
        blocks = corrupted["pixelate"][5][0].reshape(8, 4, 8, 4, 3)
        assert np.ptp(blocks, axis=(1, 3)).max() == 0


@pytest.mark.parametrize("quality", LEVELS["jpeg"])
def test_jpeg_is_pillows(images, quality):
    odd = images[:, :27, :21]  # no multiple of a block
    tables = quantisation_tables(quality)
    found = np.clip(np.round(lose_as_jpeg(odd.astype(np.float32), tables)), 0, 255)
    differences, losses = [], []
    for image, ours in zip(odd, found, strict=True):
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "jpeg", quality=quality, subsampling=0)
        with Image.open(buffer) as file:
            theirs = np.asarray(file, float)
            assert sorted(file.quantization[0]) == sorted(tables[0].ravel())
            assert sorted(file.quantization[1]) == sorted(tables[1].ravel())
        differences.append(np.abs(ours - theirs).mean())
        losses.append(np.abs(theirs - image).mean())
    # Pillow's library computes in whole numbers: now and then a value is rounded the other way.
    assert np.mean(differences) < 0.5
    assert np.mean(differences) < 0.15 * np.mean(losses)


def test_rotation_by_hand(images):
    image = images[0].astype(np.float32)
    np.testing.assert_allclose(rotate(image, 0.0), image, atol=1e-3)
    np.testing.assert_allclose(rotate(image, 90.0), np.rot90(image), atol=0.05)
    np.testing.assert_allclose(rotate(image, 180.0), image[::-1, ::-1], atol=0.05)
    # A quarter of a right angle: the centre of four equal quadrants stays where it is.
    disc = np.hypot(*(np.mgrid[:32, :32] - 15.5))[..., None].repeat(3, -1).astype(np.float32)
    inside = disc[..., 0] < 14
    np.testing.assert_allclose(np.asarray(rotate(disc, 22.5))[inside], disc[inside], atol=0.4)


def test_rotation_turns_to_both_sides(images, corrupted):
    lefts = 0
    for image, found in zip(images, corrupted["rotation"][2], strict=True):
        errors = [np.abs(rotate(image.astype(np.float32), d) - found).max() for d in (16.0, -16.0)]
        assert min(errors) < 1
        lefts += errors[0] < errors[1]
    assert 0 < lefts < len(images)


def test_translation_moves_whole_pixels_around_the_edge(images, corrupted):
    used = set()
    for image, found in zip(images, corrupted["translation"][3], strict=True):
        moves = [(y, x) for y in (-3, 3) for x in (-3, 3)]
        same = [move for move in moves if np.array_equal(np.roll(image, move, (0, 1)), found)]
        assert len(same) == 1
        used |= set(same)
    assert len(used) > 1


def test_lengths_grow_with_the_image():
    large = np.zeros((1, 64, 64, 3), np.uint8)
    large[0, 30, 30] = 255
    place = np.argwhere(np.asarray(corrupt(KEY, large, "translation", 1))[0, :, :, 0])[0]
    np.testing.assert_array_equal(np.abs(place - 30), 2)


def test_errors():
    images = jnp.zeros((1, 32, 32, 3), jnp.uint8)
    with pytest.raises(UserError, match=r"corruption fog: unknown; choose from noise, blur"):
        corrupt(KEY, images, "fog", 1)
    with pytest.raises(UserError, match=r"corruption level 6: give 0 to 5"):
        corrupt(KEY, images, "blur", 6)
