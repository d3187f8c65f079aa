import re
import xml.etree.ElementTree as ET

import pytest

from research.report import figures
from tests.report.conftest import estimate, make_method, make_split


def draw_all(result: dict) -> list[str]:
    methods = result["methods"]
    splits = methods["point"]["splits"]
    return [
        figures.confidence_histogram(splits["test"]),
        *figures.reliability_diagrams(methods),
        figures.gap(splits),
        figures.methods_compared(methods),
    ]


@pytest.fixture(scope="module")
def drawn(full_result) -> list[str]:
    return draw_all(full_result)


def parsed(svg: str) -> ET.Element:
    return ET.fromstring(svg.replace("<svg ", '<svg xmlns:xlink="x" ', 1))


def texts(svg: str) -> list[str]:
    return ["".join(element.itertext()) for element in parsed(svg).iter("text")]


def test_figures_are_the_same_every_time(full_result, drawn):
    assert draw_all(full_result) == drawn


def test_no_two_figures_share_an_id_and_every_reference_is_met(drawn):
    seen = set()
    for svg in drawn:
        ids = re.findall(r'\bid="([^"]+)"', svg)
        assert ids
        assert len(ids) == len(set(ids))
        assert not seen & set(ids)
        seen |= set(ids)
        references = re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', svg)
        assert references
        assert {a or b for a, b in references} <= set(ids)


def test_figures_scale_say_what_they_show_and_ask_nothing_of_the_network(drawn):
    for svg in drawn:
        root = parsed(svg)
        assert root.attrib["viewBox"].startswith("0 0 360 ")
        assert "width" not in root.attrib
        assert root.attrib["role"] == "img"
        assert len(root.attrib["aria-label"]) > 30
        assert "http" not in svg


def test_the_histogram_counts_in_words(drawn):
    shown = texts(drawn[0])
    # 960 right at a doubt of 1e-7; 40 wrong at 0.05, 1e-4 and 1e-9 in turn.
    assert {"960 right", "14 wrong", "13 wrong"} <= set(shown)
    assert {"90 %", "99 %", "99.9999 %", "99.99999 %"} <= set(shown)
    assert "973 of 1,000 answers are above 99.99999 %, 13 of them wrong" in drawn[0]


def test_the_histogram_drops_rows_below_the_least_sure_answer():
    svg = figures.confidence_histogram(make_split(errors=30, doubts_wrong=(1e-3,)))
    assert "99.9 %" in texts(svg)
    assert "50 %" not in texts(svg)


def test_each_reliability_diagram_has_its_title_and_the_same_axes(drawn):
    diagrams = drawn[1:4]
    for title, svg in zip(("As it is", "MC dropout", "Temperature scaling"), diagrams, strict=True):
        assert title in texts(svg)
        assert f"{title}: where it says 99.9 % it is right 96.0 % of the time" in svg
    assert len({tuple(t for t in texts(svg) if "%" in t) for svg in diagrams}) == 1


def test_the_gap_names_every_split(drawn):
    assert {"train (4,000)", "valid (500)", "test (1,000)"} <= set(texts(drawn[4]))


def test_a_title_is_text_and_not_mathematics_or_markup():
    methods = {"point": make_method("$x_1$ <b>&")}
    assert "$x_1$ <b>&" in texts(figures.reliability_diagrams(methods)[0])


def test_an_infinite_nll_is_left_out_of_the_picture_and_said():
    split = make_split(nll=estimate(None))
    methods = {"point": make_method(splits={"test": split}), "b": make_method("MC dropout")}
    assert "As it is infinite, MC dropout 0.300" in figures.methods_compared(methods)
