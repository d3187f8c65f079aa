"""What experiments.report reads; that it makes the same page again is tested in test_diagnose."""

import json

import pytest

from experiments import report
from research.runtime.errors import UserError
from tests.report.conftest import make_result


@pytest.mark.parametrize("text", [None, "", "[]", "{}"])
def test_a_folder_without_a_result_is_named(tmp_path, text):
    if text is not None:
        (tmp_path / "result.json").write_text(text)
    with pytest.raises(UserError, match="no result can be read there"):
        report.main(report.Config(tmp_path))


def test_pictures_that_cannot_be_read_are_named(tmp_path):
    (tmp_path / "result.json").write_text(json.dumps(make_result()))
    (tmp_path / "pictures.npz").write_text("no pictures")
    with pytest.raises(UserError, match=r"pictures\.npz cannot be read"):
        report.main(report.Config(tmp_path))
    (tmp_path / "pictures.npz").unlink()
    report.main(report.Config(tmp_path))
    assert (tmp_path / "report.html").stat().st_size
