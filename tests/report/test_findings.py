import copy

import pytest

from research.metrics.evaluate import DESCRIPTIONS
from research.report.findings import findings, headline
from tests.report.conftest import FIT, estimate, make_cause, make_method, make_result, make_split


def point(**options) -> dict:
    return {"point": make_method(splits={"test": make_split(**options)})}


def titles(result: dict) -> str:
    return " | ".join(found["title"] for found in result["findings"])


def found(result: dict, title: str) -> dict:
    return next(f for f in result["findings"] if title in f["title"])


def test_the_headline_is_claim_and_delivery():
    result = make_result(point(n=1000, errors=28, confidence=0.9998))
    assert headline(result) == (
        "It says 99.98 % on average; it is right 97.2 % [96.0, 98.1] of the time."
    )


@pytest.mark.parametrize(
    ("options", "title", "tone", "text"),
    [
        ({"errors": 40, "confidence": 0.999}, "It is over-confident", "bad", "made 1 mistake in"),
        ({"errors": 40, "confidence": 0.99999}, "It is over-confident", "bad", "less than one"),
        ({"errors": 40, "confidence": 0.9}, "It is under-confident", "warn", "made 100 mistakes"),
        (
            {"errors": 10, "confidence": 0.989, "confidence_on_errors": 0.6},
            "Not over-confident on images like these",
            "good",
            "it made 10",
        ),
        (
            {"errors": 10, "confidence": 0.989, "confidence_on_errors": 0.93},
            "Not over-confident on images like these, but sure when it is wrong",
            "warn",
            "10 mistakes carry 93.0 %",
        ),
        (
            {"errors": 1, "confidence": 0.9995, "confidence_on_errors": 0.93},
            "but sure when it is wrong",
            "warn",
            "1 mistake carries 93.0 %",
        ),
        ({"errors": 0, "confidence": 0.999}, "Not over-confident", "good", "it made 0"),
    ],
)
def test_claim_against_delivery(options, title, tone, text):
    first = make_result(point(**options))["findings"][0]
    assert title in first["title"]
    assert first["tone"] == tone
    assert text in first["text"]


def gap_splits(train: dict, test: dict) -> dict:
    parts = {"train": make_split(**train), "valid": make_split(**test), "test": make_split(**test)}
    return {"point": make_method(splits=parts)}


def test_the_gap_comes_second():
    methods = gap_splits({"n": 4000, "errors": 0, "nll": 0.001}, {"errors": 40, "nll": 0.4})
    gap = make_result(methods)["findings"][1]
    assert gap["title"] == "It is better on the images it was trained on"
    assert "100 % [99.90, 100] of the training images" in gap["text"]
    assert "96.0 % [94.6, 97.0] of the test images" in gap["text"]
    assert "0.400 [0.360, 0.440] (test)" in gap["text"]


def test_the_nll_alone_can_show_the_gap():
    methods = gap_splits({"errors": 40, "nll": 0.1}, {"errors": 40, "nll": 0.4})
    assert make_result(methods)["findings"][1]["tone"] == "warn"


def test_no_gap_where_the_intervals_overlap():
    methods = gap_splits({"errors": 38, "nll": 0.39}, {"errors": 40, "nll": 0.4})
    gap = make_result(methods)["findings"][1]
    assert (gap["title"][:6], gap["tone"]) == ("No gap", "good")


@pytest.mark.parametrize(
    ("model", "data", "warned"),
    [
        ({}, {}, True),
        ({}, {"given_splits": True}, False),
        ({"imported": False}, {}, False),
        ({"training": {"what": "head", "history": []}}, {}, False),
    ],
)
def test_images_that_an_imported_model_may_know(model, data, warned):
    result = make_result(gap_splits({}, {}), model=model, data=data)
    assert ("The test number may be too good" in titles(result)) == warned
    assert any("Keep back images" in step for step in result["next"]) == warned


def test_a_single_split_has_no_gap_to_tell():
    result = make_result()
    assert result["findings"][1]["title"] == "No training images to compare with"
    assert "may be too good" not in titles(result)


@pytest.mark.parametrize(
    ("options", "rounded", "title", "text"),
    [
        ({"share_above_0__999999": 0.62}, False, "stuck at the end", "62.0 % of its answers"),
        ({"share_identical": 0.41}, False, "stuck at the end", "41.0 % are one and the same"),
        ({}, True, "are rounded", "logits could not be recovered"),
        ({"nll": estimate(None)}, False, "are rounded", "probability 0"),
    ],
)
def test_saturation(options, rounded, title, text):
    result = make_result(point(**options), model={"saturated_output": rounded})
    assert text in found(result, title)["text"]


def test_no_word_of_saturation_where_there_is_none():
    assert "stuck" not in titles(make_result())
    assert "rounded" not in titles(make_result())


@pytest.mark.parametrize(("ece", "tone"), [(0.03, "bad"), (0.009, "good")])
def test_ece_against_chance(ece, tone):
    result = make_result(point(ece=ece, perfectly_calibrated_ece=estimate(0.005, 0.001, 0.01)))
    calibration = next(f for f in result["findings"] if f["text"].startswith("ECE"))
    assert calibration["tone"] == tone
    assert "0.50 % [0.10, 1.00]" in calibration["text"]


def tempered(nll: float, fit: dict | None = FIT, title="Temperature scaling") -> dict:
    test = {"point": make_method(splits={"test": make_split(nll=0.4)})}
    method = make_method(title, splits={"test": make_split(nll=nll)}, temperature=fit)
    return make_result(test | {"method": method})


@pytest.mark.parametrize(
    ("nll", "title", "tone", "best"),
    [
        (0.2, "helps", "good", "has the lowest NLL on the test images"),
        (0.39, "makes no clear difference", "info", "has the lowest NLL on the test images"),
        (0.41, "makes no clear difference", "info", "best as it is"),
        (0.9, "makes it worse", "bad", "best as it is"),
    ],
)
def test_what_a_method_changed(nll, title, tone, best):
    result = tempered(nll)
    method = found(result, f"Temperature scaling {title}")
    assert method["tone"] == tone
    assert "T = 2.31 [2.10, 2.50]: the model was too sure" in method["text"]
    assert "accuracy stays 96.0 %" in method["text"]
    assert best in titles(result)


def test_of_the_best_method_it_is_known_whether_it_could_be_chance():
    assert "more than chance" in found(tempered(0.2), "lowest NLL on the test images")["text"]
    assert "may be chance" in found(tempered(0.39), "lowest NLL on the test images")["text"]


@pytest.mark.parametrize(
    ("fit", "title", "text"),
    [
        ({"separable": True}, "could not be fitted", "run to 0"),
        (
            {"value": 1.0, "low": 0.0, "high": None},
            "could not be fitted",
            "no better than guessing",
        ),
        ({"value": 1.1, "low": 0.9, "high": 1.3}, "makes no", "holds 1"),
        ({"value": 1.1, "low": 0.9, "high": None}, "makes no", "[0.900, no limit]"),
        ({"value": 0.6, "low": 0.5, "high": 0.7}, "makes no", "not sure enough"),
    ],
)
def test_the_temperature_in_the_text_of_the_page(fit, title, text):
    assert text in found(tempered(0.4, FIT | fit), f"Temperature scaling {title}")["text"]


def test_an_infinite_nll_is_worse_than_any():
    test = {"point": make_method(splits={"test": make_split(nll=estimate(None))})}
    method = make_method("MC dropout", splits={"test": make_split(nll=9.0)})
    result = make_result(test | {"mc_dropout": method})
    assert "MC dropout has the lowest NLL on the test images" in titles(result)
    assert "NLL goes from infinite to 9.00" in found(result, "MC dropout makes")["text"]


def test_mistakes_and_what_abstaining_would_do():
    # A third of 30 mistakes each at doubts 0.05, 1e-4 and 1e-9: 20 above 99 %.
    mistakes = found(make_result(point(errors=30)), "30 mistakes in 1,000 images")
    assert mistakes["text"].startswith("20 of them with at least 99 % confidence.")
    assert "right 99.0 % [98.0, 99.5] of the time on the rest" in mistakes["text"]
    unsure = found(make_result(point(errors=30, uncertainty_of_errors=(0.3,))), "30 mistakes")
    assert unsure["text"].startswith("None of them")
    assert unsure["tone"] == "info"


@pytest.mark.parametrize(
    ("n", "errors", "few"), [(1000, 40, False), (499, 40, True), (1000, 9, True)]
)
def test_too_little_data_is_named(n, errors, few):
    assert ("Few images" in titles(make_result(point(n=n, errors=errors)))) == few


def test_notes_on_the_data_come_last():
    result = make_result(data={"notes": ["4 copies.", "1 file was skipped."]})
    assert result["findings"][-1]["text"] == "4 copies. 1 file was skipped."
    assert "About the data" not in titles(make_result())


def test_findings_are_pure_and_use_only_metrics_that_exist(full_result):
    before = copy.deepcopy(full_result)
    again = findings(full_result)
    assert full_result == before
    assert again == full_result["findings"]
    assert {f["tone"] for f in again} <= {"good", "warn", "bad", "info"}
    # make_split fills every metric of the table and no other: an unknown name would have raised.
    test = full_result["methods"]["point"]["splits"]["test"]
    assert set(test["metrics"]) == set(DESCRIPTIONS)


@pytest.mark.parametrize(
    ("cause", "title"),
    [("overfitting", "better on the images it was trained on"), ("too_few_images", "Few images")],
)
def test_what_a_cause_states_is_no_finding_besides(cause, title):
    methods = gap_splits({"n": 4000, "errors": 0, "nll": 0.001}, {"n": 100, "errors": 4})
    assert title in titles(make_result(methods, diagnosis=[make_cause(cause, "absent")]))
    assert title not in titles(make_result(methods, diagnosis=[make_cause(cause, "present")]))
    assert "may be too good" in titles(
        make_result(methods, diagnosis=[make_cause(cause, "present")])
    )
