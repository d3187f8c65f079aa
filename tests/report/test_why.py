"""The diagnosis in words: what is named, in what order, and what it costs."""

import numpy as np

from research.report import page, why
from research.report.next_steps import next_steps
from research.report.pictures import Pictures
from research.report.terminal import summary
from tests.report.conftest import (
    FIT,
    HOSTILE,
    estimate,
    make_cause,
    make_method,
    make_result,
    make_split,
)


def test_named_are_the_faults_that_are_present_in_their_order(full_result):
    assert [cause["cause"] for cause in why.named(full_result)] == ["label_noise", "leakage"]
    assert [cause["cause"] for cause in why.undecided(full_result)] == ["capacity"]
    assert [cause["cause"] for cause in why.absent(full_result)] == ["shortcut"]


def test_what_a_cause_costs_and_what_it_hides():
    costs = {"nll": estimate(0.2), "ece": 0.03}
    text = why.effect_text(make_cause("overfitting", "present", effect=costs))
    assert text == "It costs 0.200 [0.180, 0.220] nats of NLL, and 3.00 % of ECE."
    hidden = {"nll": estimate(0.2), "ece": None}
    text = why.effect_text(make_cause("leakage", "present", effect=hidden))
    assert text.startswith("It hides 0.200")
    assert why.effect_text(make_cause("too_few_images", "present")) == ""


def test_one_sentence_gives_the_reason():
    two = [make_cause("overfitting", "present"), make_cause("leakage", "present")]
    text = why.because(make_result(diagnosis=two))
    assert text == "Title of overfitting; and title of leakage."
    fine = make_result(diagnosis=[make_cause("well_calibrated", "present")])
    assert "right as often as it says" in why.because(fine)


def test_over_confidence_that_no_cause_explains_is_that_of_the_likelihood():
    sure = {"accuracy": 0.9, "mean_confidence": 0.95}
    before, after = make_split(**sure), make_split(**sure, nll=0.01)
    text = why.because(make_result({"point": make_method(splits={"test": before})}))
    assert text.startswith("No cause")
    assert "Guo et al. 2017" in text
    assert "dividing" not in text
    cured = make_method(splits={"test": after}, temperature=FIT)
    both = {"point": make_method(splits={"test": before}), "temperature": cured}
    assert "dividing the logits by 2.31 mends that." in why.because(make_result(both))
    honest = make_split(accuracy=0.95, mean_confidence=0.94)
    text = why.because(make_result({"point": make_method(splits={"test": honest})}))
    assert text == "No cause that was looked for explains it."


def test_the_page_opens_with_the_causes_and_shows_what_they_point_at(full_result):
    picture = np.zeros((8, 8, 3), np.uint8)
    text = page.render(full_result, Pictures({("train", 3): picture}, picture))
    assert text.index("Title of label_noise") < text.index("What was found")
    assert HOSTILE not in text
    assert text.count('<img class="small"') == 1  # the suspect label
    assert "What could not be told: 1 of 5 causes" in text
    assert "What was looked for and not found: 1 of 5 causes" in text
    assert 'alt="How much each region of the images matters"' in text


def test_the_advice_of_the_causes_comes_first(full_result):
    assert next_steps(full_result)[0] == "Look at the 7 suspect labels."
    assert "Why:" in summary(full_result)
