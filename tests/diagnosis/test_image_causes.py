"""Causes that need the images, or new ones, are found where they were planted."""

import re
from dataclasses import replace

import numpy as np
from scipy.special import log_softmax

from research.diagnosis.diagnose import load
from research.diagnosis.evidence import Evidence, EvidenceSplit, NewImages
from research.diagnosis.verdict import ABSENT, PRESENT
from tests.diagnosis.conftest import evidence_of, examine, sample, true_log_probs, with_split


def picture_evidence(mark):
    """12 by 12 images of which the answer is read off one pixel."""
    generator = np.random.default_rng(4)
    labels = generator.integers(0, 2, 100)
    images = generator.integers(0, 256, (100, 12, 12, 3)).astype(np.uint8)
    images[:, mark[0], mark[1]] = (40 + 170 * labels)[:, None]

    def predict(images):
        z = (images[:, mark[0], mark[1], 0].astype(float) - 125) / 20
        return log_softmax(np.stack([0 * z, z], axis=1), axis=1)

    part = EvidenceSplit(predict(images), labels, None, images)
    return Evidence(classes=("a", "b"), splits={"test": part}, predict=predict), images, labels


def test_a_mark_in_a_corner_is_a_shortcut_and_one_in_the_middle_is_not():
    found = examine("shortcut", picture_evidence((0, 11))[0])
    assert found.state == PRESENT
    assert "upper right" in found.text
    assert found.heat.shape == (6, 6)
    assert found.heat.argmax() == 5
    assert np.count_nonzero(found.heat) == 1
    assert examine("shortcut", picture_evidence((6, 6))[0]).state == ABSENT


def test_the_text_tells_what_border_colour_and_channels_matter():
    evidence, images, _ = picture_evidence((0, 11))  # read off its red
    listed = examine("shortcut", evidence).text.split("in brackets how sure: ")[1].rstrip(".")
    shares = re.findall(r"([a-z][a-z ]+) ([\d.]+) % \(", listed)
    right = {name: float(share) for name, share in shares}
    assert right["as they are"] == 100
    assert right["with the border of another image"] < 70
    assert right["with the red of another image"] == right["with the border of another image"]
    assert (
        right["with the green of another image"] == right["with the blue of another image"] == 100
    )
    changed = load("shortcut").without(images, images[::-1])
    framed = changed["with the border of another image"]
    np.testing.assert_array_equal(framed[:, 1:-1, 1:-1], images[:, 1:-1, 1:-1])
    np.testing.assert_array_equal(framed[:, 0], images[::-1, 0])
    assert (changed["without colour"] == changed["without colour"][..., :1]).all()
    grey = np.repeat(images[..., :1], 3, axis=-1)
    assert list(load("shortcut").without(grey, grey)) == ["with the border of another image"]


def test_a_corner_that_costs_more_than_any_other_part_is_a_shortcut():
    """Five parts tell the class; without one of them the others mostly carry the answer."""

    def evidence_of_five(corner):
        generator = np.random.default_rng(4)
        labels = generator.integers(0, 2, 200)
        images = generator.integers(0, 256, (200, 12, 12, 3)).astype(np.uint8)
        parts = {(0, 0): corner, (4, 4): 2.0, (4, 6): 2.0, (6, 4): 2.0, (6, 6): 2.0}
        for r, c in parts:
            shade = 125 + 60 * (2 * labels - 1) + generator.normal(0, 45, 200)
            images[:, r, c] = np.clip(shade, 0, 255)[:, None]

        def predict(images):
            z = sum(w * (images[:, r, c, 0] - 125.0) / 85 for (r, c), w in parts.items())
            return log_softmax(np.stack([0 * z, z], axis=1), axis=1)

        part = EvidenceSplit(predict(images), labels, None, images)
        return Evidence(classes=("a", "b"), splits={"test": part}, predict=predict)

    found = examine("shortcut", evidence_of_five(3.5))
    assert found.state == PRESENT
    assert found.number.low < 0.05 < found.effect.nll.low  # accuracy alone would not tell
    assert examine("shortcut", evidence_of_five(1.0)).state == ABSENT


def test_pixels_in_the_wrong_form():
    evidence, images, _ = picture_evidence((6, 6))
    predict = evidence.predict
    wrong = with_split(evidence, "test", log_probs=predict(images // 4))
    forms = {"whole": predict, "dark": lambda x: predict(x // 8)}
    wrong = replace(wrong, predict_as=forms)
    found = examine("preprocessing", wrong)
    assert found.state == PRESENT
    assert "whole" in found.advice
    right = replace(evidence, predict_as={"dark": forms["dark"]})
    assert examine("preprocessing", right).state == ABSENT


def new_images(features):
    images = np.zeros((len(features), 2, 2, 3), np.uint8)
    ids = np.array([f"{i}.jpg" for i in range(len(features))])
    return NewImages(true_log_probs(features), features, images, ids)


def test_new_images_of_the_same_kind(data):
    same, _ = sample(150, np.random.default_rng(5))
    found = examine("deployment_shift", evidence_of(data, new=new_images(same)))
    assert found.state == ABSENT
    assert found.number.low < 0.55


def test_new_images_of_another_kind(data):
    """Half of them are shifted; the most unlike that are shown are among those."""
    features, _ = sample(150, np.random.default_rng(5))
    features[:75, 4:] += 3
    found = examine("deployment_shift", evidence_of(data, new=new_images(features)))
    assert found.state == PRESENT
    assert found.number.low > 0.6
    assert all(split == "new" and index < 75 for split, index in found.suspects)
    assert "`compare`" in examine("deployment_shift", evidence_of(data)).text
