"""A run's folder: whole or not at all, and never over something else."""

import errno
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from research.runtime.errors import UserError
from research.runtime.files import write_json, write_whole
from research.runtime.run_folder import fingerprint, open_run

OPTIONS = {"seed": 0, "data": "digits", "limit": None}
OTHER = OPTIONS | {"seed": 1}


def contents(folder):
    """Every file below a folder with its bytes."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def make_run(out, options=OPTIONS, text="first"):
    with open_run(out, options) as directory:
        assert directory == out
        (directory / "result.json").write_text(text)
    return contents(out.parent)


def fail_in(error, paths, *run):
    """A run that makes these folders and ends in an error."""
    with open_run(*run) as directory:
        for path in paths:
            (directory / path).mkdir(parents=True, exist_ok=True)
        raise error


def test_a_writer_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "file.json"
    path.write_text("old")

    def fail(part):
        part.write_text("half")
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError):
        write_whole(path, fail)
    assert contents(tmp_path) == {"file.json": b"old"}
    write_whole(path, lambda part: part.write_text("new"))
    assert contents(tmp_path) == {"file.json": b"new"}
    write_whole(tmp_path / "a.npz", lambda part: np.savez(part, x=np.arange(3)))
    assert (tmp_path / "a.npz").exists()


def test_a_writer_that_is_killed_leaves_the_old_file(tmp_path):
    path = tmp_path / "file.json"
    path.write_text("old")
    code = (
        "import os, signal, sys, pathlib\n"
        "from research.runtime.files import write_whole\n"
        "def write(part):\n"
        "    part.write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "write_whole(pathlib.Path(sys.argv[1]), write)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code, str(path)])
    assert ended.returncode == -signal.SIGKILL
    assert path.read_text() == "old"
    write_whole(path, lambda part: part.write_text("new"))
    assert contents(tmp_path) == {"file.json": b"new"}


def test_a_full_disk_names_the_file(tmp_path):
    def fail(part):
        raise OSError(errno.ENOSPC, "No space left on device")  # as `write` gives it: no name

    def fail_as_numpy(part):
        raise OSError("122880 requested and 98176 written")

    for writer in (fail, fail_as_numpy):
        with pytest.raises(OSError, match="No space left") as caught:
            write_whole(tmp_path / "file.json", writer)
        assert caught.value.filename == str(tmp_path / "file.json")
        assert caught.value.errno == errno.ENOSPC


def test_json_without_nan(tmp_path):
    write_json(tmp_path / "a.json", {"x": [1, 2.5, None]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": [1, 2.5, None]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "b.json", {"x": float("nan")})
    assert not (tmp_path / "b.json").exists()


def test_fingerprint_differs_where_an_option_does():
    assert fingerprint(OPTIONS) == fingerprint(dict(reversed(OPTIONS.items())))
    assert fingerprint(OPTIONS) != fingerprint(OTHER)
    assert len(fingerprint(OPTIONS)) == 8


def test_config_tells_what_the_run_was(tmp_path):
    make_run(tmp_path / "new" / "run")
    config = json.loads((tmp_path / "new" / "run" / "config.json").read_text())
    assert config["options"] == OPTIONS
    assert config["versions"].keys() >= {"jax", "flax", "numpy"}
    assert "commit" in config


def test_the_same_configuration_goes_on(tmp_path):
    out = tmp_path / "run"
    make_run(out)
    with open_run(out, OPTIONS) as directory:
        assert directory == out
        assert (out / "result.json").read_text() == "first"


def test_an_empty_folder_is_used_and_stays(tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    with pytest.raises(UserError, match="bad"):
        fail_in(UserError(None, "bad"), ["data"], out, OPTIONS)
    assert list(out.iterdir()) == []
    make_run(out)


@pytest.mark.parametrize("error", [UserError(None, "bad"), OSError(errno.ENOSPC, "full")])
def test_bad_input_leaves_no_trace(tmp_path, error):
    out = tmp_path / "new" / "deep" / "run"
    with pytest.raises(type(error)):
        fail_in(error, ["data", "checkpoints/6.orbax-checkpoint-tmp"], out, OPTIONS)
    assert list(tmp_path.iterdir()) == []
    assert not isinstance(error, OSError) or error.filename == str(out)


def test_what_was_trained_stays(tmp_path):
    out = tmp_path / "run"
    with pytest.raises(UserError, match="diverged"):
        fail_in(UserError(None, "training diverged"), ["checkpoints/6"], out, OPTIONS)
    assert (out / "checkpoints" / "6").is_dir()
    make_run(out)


def test_bad_input_leaves_an_earlier_result(tmp_path):
    before = make_run(tmp_path / "run")
    for options, overwrite in ((OPTIONS, False), (OTHER, True)):
        with pytest.raises(UserError, match="bad"):
            fail_in(UserError(None, "bad"), ["data"], tmp_path / "run", options, overwrite)
        assert contents(tmp_path) == before
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_another_configuration_is_an_error_or_replaces(tmp_path):
    out = tmp_path / "run"
    before = make_run(out)
    with pytest.raises(UserError, match=r"^out .*different configuration.*overwrite"):
        make_run(out, OTHER)
    assert contents(tmp_path) == before
    with open_run(out, OTHER, overwrite=True) as directory:
        (directory / "new.json").write_text("new")
        assert (out / "result.json").read_text() == "first"  # until the new one is whole
    assert contents(out).keys() == {"config.json", "new.json"}
    assert json.loads((out / "config.json").read_text())["options"] == OTHER
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_a_killed_replacement_goes_on(tmp_path):
    """The earlier run stays in its place meanwhile."""
    out = tmp_path / "run"
    make_run(out)
    third = OPTIONS | {"seed": 2}
    for options, path in ((OTHER, "first"), (OTHER, "second"), (third, "third")):
        with pytest.raises(KeyboardInterrupt):
            fail_in(KeyboardInterrupt(), [path], out, options, True)
        assert contents(out).keys() == {"config.json", "result.json"}
        beside = {p.name for p in (tmp_path / ".run.new").iterdir()}
        assert beside >= ({"first", "second"} if path == "second" else {path})
        assert ("first" in beside) == (options == OTHER)
    with open_run(out, third, overwrite=True):
        pass
    assert {p.name for p in out.iterdir()} == {"config.json", "third"}


def test_a_replacement_behind_a_link(tmp_path, monkeypatch):
    make_run(tmp_path / "real")
    (tmp_path / "link").symlink_to("real")
    with open_run(tmp_path / "link", OTHER, overwrite=True) as directory:
        (directory / "new.json").touch()
    assert contents(tmp_path / "real").keys() == {"config.json", "new.json"}
    monkeypatch.chdir(tmp_path / "real")
    with open_run(type(tmp_path)("."), OPTIONS, overwrite=True) as directory:
        (directory / "newer.json").touch()
    assert contents(tmp_path / "real").keys() == {"config.json", "newer.json"}


@pytest.mark.parametrize("config", [None, "{", "[]", '{"model_type": "vit"}', '{"options": {}}'])
@pytest.mark.parametrize("overwrite", [False, True])
def test_something_else_is_never_touched(tmp_path, config, overwrite):
    out = tmp_path / "photos"
    out.mkdir()
    (out / "holiday.jpg").touch()
    if config is not None:
        (out / "config.json").write_text(config)
    before = contents(tmp_path)
    with (
        pytest.raises(UserError, match=r"^out .*photos: exists and is not a run of Candor"),
        open_run(out, OPTIONS, overwrite),
    ):
        pass
    assert contents(tmp_path) == before


def test_a_file_or_a_dangling_link_is_no_folder(tmp_path):
    (tmp_path / "file").write_text("mine")
    os.symlink("nowhere", tmp_path / "link")
    for name in ("file", "link"):
        with pytest.raises(UserError, match="is not a run"), open_run(tmp_path / name, OPTIONS):
            pass
    with pytest.raises(NotADirectoryError), open_run(tmp_path / "file" / "run", OPTIONS):
        pass
    assert contents(tmp_path) == {"file": b"mine"}
