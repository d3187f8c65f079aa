"""A disk that is full while a checkpoint is written."""

import contextlib
import errno
import resource
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from research.runtime import checkpoint
from research.runtime.mesh import data_mesh, replicate


@contextlib.contextmanager
def largest_file(size: int):
    """No file may grow beyond `size` bytes: what a quota does, without one."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_disk_without_room_is_not_written_to(tmp_path, monkeypatch):
    state = replicate({"x": np.zeros(1000, np.float32)}, data_mesh())  # 4,000 bytes
    usage = {}
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(**usage))
    with contextlib.closing(checkpoint.open_checkpoints(tmp_path / "checkpoints")) as checkpoints:
        usage.update(total=10**6, free=3999)
        with pytest.raises(OSError, match="No space left on device") as caught:
            checkpoint.save(checkpoints, 1, state)
        assert caught.value.filename == str(tmp_path / "checkpoints")
        assert list((tmp_path / "checkpoints").iterdir()) == []
        usage.update(free=4000)
        checkpoint.save(checkpoints, 1, state)
        usage.update(total=0, free=0)  # what a file system says that does not tell
        checkpoint.save(checkpoints, 2, state)
    assert {p.name for p in (tmp_path / "checkpoints").iterdir()} == {"1", "2"}


def test_a_full_disk_is_an_os_error_and_the_last_checkpoint_stays(tmp_path, capfd):
    states = [
        replicate({"x": np.random.default_rng(i).random(100_000).astype(np.float32)}, data_mesh())
        for i in range(3)
    ]
    with contextlib.closing(checkpoint.open_checkpoints(tmp_path / "checkpoints")) as checkpoints:
        checkpoint.save(checkpoints, 1, states[0])
    with (
        largest_file(50_000),
        pytest.raises(OSError, match="File too large") as caught,
        contextlib.closing(checkpoint.open_checkpoints(tmp_path / "checkpoints")) as checkpoints,
    ):
        checkpoint.save(checkpoints, 2, states[1])
    assert caught.value.errno == errno.EFBIG
    assert caught.value.filename == str(tmp_path / "checkpoints")
    assert capfd.readouterr().err == ""
    with contextlib.closing(checkpoint.open_checkpoints(tmp_path / "checkpoints")) as checkpoints:
        step, state = checkpoint.restore(checkpoints, states[2])
        assert step == 1
        np.testing.assert_array_equal(state["x"], states[0]["x"])
        checkpoint.save(checkpoints, 2, states[1])
    assert [p.name for p in sorted((tmp_path / "checkpoints").iterdir())] == ["1", "2"]
