import pytest

from research.metrics import format
from research.metrics.evaluate import TABLE
from tests.report.conftest import estimate


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.972, "97.2 %"),
        (0.9998, "99.98 %"),
        (0.999998, "99.9998 %"),
        (0.99, "99.0 %"),
        (0.99999, "99.999 %"),
        (1.0, "100 %"),
        (0.0, "0 %"),
        (0.000001, "0.0001 %"),
        (1 - 1e-9, ">99.999999 %"),
        (1e-12, "<0.000001 %"),
        (-0.021, "-2.1 %"),
    ],
)
def test_percent_keeps_the_digits_that_matter(share, text):
    assert format.percent(share) == text


def test_only_certainty_prints_as_certainty():
    for digits in range(2, 16):
        for digit in range(1, 10):
            uncertainty = digit * 10.0**-digits
            assert float(format.bare_percent(1 - uncertainty).strip(">")) < 100
            assert float(format.bare_percent(uncertainty).strip("<")) > 0
            assert format.bare_percent(1 - uncertainty, decimals=1) not in ("100.0", "100")


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.2571, "0.257"), (0.00573, "0.0057"), (12.345, "12.3"), (1234.5, "1234"), (0.0, "0.0")],
)
def test_numbers_have_two_or_three_figures(value, text):
    assert format.number(value) == text


@pytest.mark.parametrize(
    ("metric", "entry", "text"),
    [
        ("accuracy", estimate(0.972, 0.9609, 0.9812), "97.2 % [96.1, 98.1]"),
        ("accuracy", estimate(0.99, 0.95, 0.99996), "99.0 % [95.0, 99.996]"),
        ("accuracy", estimate(1.0, 0.992, 1.0), "100 % [99.2, 100]"),
        ("ece", estimate(0.0398, 0.0369, 0.0442), "3.98 % [3.69, 4.42]"),
        ("nll", estimate(0.2571, 0.24, 0.2732), "0.257 [0.240, 0.273]"),
        ("nll", estimate(None), "infinite"),
        ("error_auroc", estimate(None), format.NONE),
    ],
)
def test_a_value_stands_with_its_interval(metric, entry, text):
    assert format.with_interval(metric, entry) == text


def test_every_metric_has_its_kind():
    plain = {name for name in TABLE if not format.is_share(name)}
    assert plain == {
        *("nll", "brier", "brier_reliability", "brier_resolution", "brier_uncertainty"),
        *("aurc", "e_aurc", "error_auroc", "error_aupr"),
        *("entropy", "expected_entropy", "mutual_information"),
    }


@pytest.mark.parametrize(
    ("metric", "name"),
    [
        ("share_above_0.999", "Share above 0.999"),
        ("debiased_ece", "Debiased ECE"),
        ("e_aurc", "E-AURC"),
        ("ks_error", "KS error"),
    ],
)
def test_names_are_plain_english(metric, name):
    assert format.metric_name(metric) == name


def test_a_number_is_never_parted_from_its_unit():
    text = format.keep_together("right 97.2 % [96.1, 98.1] of the time, 3 of 4")
    assert text.split(" ") == [
        "right",
        "97.2\xa0%",
        "[96.1,\xa098.1]",
        *["of", "the", "time,", "3", "of", "4"],
    ]


@pytest.mark.parametrize(
    ("seconds", "text"), [(3.21, "3.2 s"), (133.2, "2 min 13 s"), (7260, "2 h 1 min")]
)
def test_durations(seconds, text):
    assert format.duration(seconds) == text


def test_plural():
    assert [format.plural(n, "mistake") for n in (0, 1, 1234)] == [
        *("no mistakes", "1 mistake", "1,234 mistakes"),
    ]
