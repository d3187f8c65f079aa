"""The base's features are computed once, and anew where anything about them has changed."""

import jax.numpy as jnp
import numpy as np
import pytest

from research.data.dataset import Dataset, Split
from research.models.features import compute_features
from research.runtime.mesh import data_mesh
from research.runtime.run import Run

COUNTS = {"train": 69, "valid": 32, "test": 5}  # in batches of 32: one partial, one full, too few


@pytest.fixture
def dataset():
    random = np.random.default_rng(0)
    splits = {
        name: Split(
            random.integers(0, 256, (n, 4, 4, 3), dtype=np.uint8),
            np.zeros(n, np.int32),
            np.arange(n).astype(str),
        )
        for name, n in COUNTS.items()
    }
    return Dataset("noise", ("a", "b"), **splits, fingerprint="first")


def base(params, images):
    return params["scale"] * jnp.mean(images.astype(jnp.float32), axis=(1, 2))


def other_base(params, images):
    return params["scale"] * jnp.max(images.astype(jnp.float32), axis=(1, 2))


PARAMS = {"scale": np.float32(2)}


def run(tmp_path, dataset, apply=base, params=PARAMS):
    return compute_features(apply, params, dataset, Run(tmp_path, data_mesh(), seed=0))


def spoil(tmp_path) -> set[str]:
    """Puts zeros into every cached file."""
    paths = list((tmp_path / "features").iterdir())
    for path in paths:
        np.save(path, np.zeros_like(np.load(path)))
    return {path.name for path in paths}


def test_every_image_has_its_features(tmp_path, dataset):
    featured = run(tmp_path, dataset)
    for name, n in COUNTS.items():
        split = featured.dataset.splits[name]
        expected = 2 * dataset.splits[name].images.mean(axis=(1, 2))
        assert split.images.shape == (n, 3)
        np.testing.assert_allclose(split.images, expected, rtol=1e-5)
        np.testing.assert_array_equal(split.ids, dataset.splits[name].ids)
    assert featured.milliseconds_per_image > 0


def test_what_is_cached_is_read(tmp_path, dataset):
    run(tmp_path, dataset)
    names = spoil(tmp_path)
    assert len(names) == 3
    assert not run(tmp_path, dataset).dataset.train.images.any()
    assert spoil(tmp_path) == names


def test_what_has_changed_is_computed_anew(tmp_path, dataset):
    changed = [
        {"dataset": dataset._replace(fingerprint="second")},
        {"params": {"scale": np.float32(3)}},
        {"apply": other_base},  # the same weights: another layer, or another preprocessing
    ]
    for options in changed:
        run(tmp_path, dataset)
        old = spoil(tmp_path)
        featured = run(tmp_path, **({"dataset": dataset} | options))
        assert featured.dataset.train.images.all()
        names = {path.name for path in (tmp_path / "features").iterdir()}
        assert len(names) == 3  # what will not be read again is gone
        assert not names & old
