import json

import numpy as np
import pytest

from research.report.histogram import LOG_DOUBT_EDGES, histogram


def slow_bin(doubt: float) -> int:
    """The first bin whose upper edge is not below the doubt."""
    return next(i for i, edge in enumerate(LOG_DOUBT_EDGES[1:]) if doubt <= 10.0**edge)


def test_counts_match_a_slow_loop():
    generator = np.random.default_rng(0)
    doubt = 10.0 ** generator.uniform(-20, 0, 500)
    correct = generator.random(500) < 0.7
    drawn = histogram(doubt, correct)
    right, wrong = [0] * 9, [0] * 9
    for d, c in zip(doubt, correct, strict=True):
        (right if c else wrong)[slow_bin(d)] += 1
    assert (drawn["right"], drawn["wrong"]) == (right, wrong)
    json.dumps(drawn, allow_nan=False)


@pytest.mark.parametrize(
    ("doubt", "expected"),
    [(0.0, 0), (1e-300, 0), (1e-7, 0), (1.1e-7, 1), (0.01, 5), (0.011, 6), (0.5, 7), (1.0, 8)],
)
def test_edges(doubt, expected):
    drawn = histogram(np.array([doubt]), np.array([True]))
    assert np.flatnonzero(drawn["right"]).tolist() == [expected]
    assert sum(drawn["wrong"]) == 0
