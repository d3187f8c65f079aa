"""What the log says of a weight posterior."""

import contextlib
import json

import numpy as np
import pytest

from research.metrics.scores import disagreement
from research.runtime.progress import Progress

STEP = {"loss": 0.5, "nll": 0.5, "accuracy": 0.8, "confidence": 0.7}
VALID = {"nll": 0.43, "accuracy": 1.0, "confidence": 0.65}


def _log(directory, *summaries):
    with contextlib.closing(Progress(directory, 10, 0, 5)) as progress:
        for step, summary in enumerate(summaries, start=1):
            progress.log(step, [STEP], VALID, 0.1, summary)
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


def test_a_collapsed_posterior_is_warned_of_once(tmp_path, capsys):
    collapsed = {"sigma_over_mu": 1e-4, "disagreement": 1e-5}
    rows = _log(tmp_path, collapsed, collapsed)
    assert [row["sigma_over_mu"] for row in rows] == [1e-4, 1e-4]
    printed = capsys.readouterr().err
    assert printed.count("the posterior has collapsed") == 1
    assert "at step 1 all draws say the same" in printed


@pytest.mark.parametrize(
    "summary",
    [{}, {"disagreement": 1e-5}, {"sigma_over_mu": 0.3, "disagreement": 0.02}],
    ids=["no draws", "no weight posterior yet", "draws that differ"],
)
def test_nothing_else_is(tmp_path, capsys, summary):
    _log(tmp_path, summary)
    assert "collapsed" not in capsys.readouterr().err


def test_disagreement_is_the_mean_total_variation_from_the_mean():
    one, other = [[1.0, 0.0], [0.5, 0.5]], [[0.0, 1.0], [0.5, 0.5]]
    with np.errstate(divide="ignore"):
        log_probs = np.log([one, other])
    assert disagreement(log_probs) == pytest.approx((0.5 + 0.0) / 2)
    assert disagreement(log_probs[:1]) == 0
