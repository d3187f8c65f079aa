"""A run's random streams are the ones that earlier runs had, and batches fit the devices."""

import jax
import numpy as np
import pytest

from research.runtime.mesh import data_mesh
from research.runtime.run import Run


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path, data_mesh(), 5)


def test_streams_are_the_two_halves_of_the_seed(run):
    train, draw = jax.random.split(jax.random.key(5))
    for name, key in {"train": train, "draw": draw}.items():
        np.testing.assert_array_equal(
            jax.random.key_data(run.key(name)), jax.random.key_data(key), strict=True
        )
    with pytest.raises(KeyError, match="noise"):
        run.key("noise")


@pytest.mark.parametrize(("size", "batch"), [(1, 8), (8, 8), (9, 16), (32, 32)])
def test_a_batch_is_a_multiple_of_the_eight_devices(run, size, batch):
    assert run.batch(size) == batch


def test_a_folder_inside_is_the_same_run(run):
    inside = run.folder("training")
    assert inside.directory == run.directory / "training"
    assert (inside.mesh, inside.seed) == (run.mesh, run.seed)
