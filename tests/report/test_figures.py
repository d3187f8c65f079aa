import base64
import html
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


def svg(img: str) -> str:
    """The SVG that an `<img>` holds."""
    return base64.b64decode(re.search(r"base64,([^\"]+)", img).group(1)).decode()


def alt(img: str) -> str:
    return html.unescape(re.search(r'alt="([^"]*)"', img).group(1))


def texts(img: str) -> list[str]:
    elements = ET.fromstring(svg(img)).iter("{http://www.w3.org/2000/svg}text")
    return ["".join(element.itertext()) for element in elements]


def test_figures_are_the_same_every_time(full_result, drawn):
    assert draw_all(full_result) == drawn


def test_figures_say_what_they_show_and_load_nothing(drawn):
    for img in drawn:
        root = ET.fromstring(svg(img))
        assert root.attrib["viewBox"].startswith("0 0 360 ")
        assert len(alt(img)) > 30
        names = {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
        names.add("http://www.w3.org/Graphics/SVG/1.1/DTD/svg11.dtd")  # a name: it is not fetched
        assert set(re.findall(r'https?://[^"]*', svg(img))) <= names


def test_the_histogram_shows_its_counts(drawn):
    shown = texts(drawn[0])
    # 960 right at a doubt of 1e-7; 40 wrong at 0.05, 1e-4 and 1e-9 in turn.
    assert {"960 right", "14 wrong", "13 wrong"} <= set(shown)
    assert {"90 %", "99 %", "99.9999 %", "99.99999 %"} <= set(shown)
    assert "973 of 1,000 answers are above 99.99999 %, 13 of them wrong" in alt(drawn[0])


def test_the_histogram_drops_rows_below_the_least_sure_answer():
    img = figures.confidence_histogram(make_split(errors=30, uncertainty_of_errors=(1e-3,)))
    assert "99.9 %" in texts(img)
    assert "50 %" not in texts(img)


def test_each_reliability_diagram_has_its_title_and_the_same_axes(drawn):
    diagrams = drawn[1:4]
    for title, img in zip(("As it is", "MC dropout", "Temperature scaling"), diagrams, strict=True):
        assert title in texts(img)
        assert f"{title}: where it says 99.9 % it is right 96.0 % of the time" in alt(img)
    assert len({tuple(t for t in texts(img) if "%" in t) for img in diagrams}) == 1


def test_the_gap_names_every_split(drawn):
    assert {"train (4,000)", "valid (500)", "test (1,000)"} <= set(texts(drawn[4]))


def test_a_title_is_text_and_not_mathematics_or_markup():
    methods = {"point": make_method("$x_1$ <b>&")}
    img = figures.reliability_diagrams(methods)[0]
    assert "$x_1$ <b>&" in texts(img)
    assert alt(img).startswith("Reliability diagram, $x_1$ <b>&:")
    assert "<b>" not in img


def test_an_infinite_nll_is_left_out_of_the_picture_and_named():
    split = make_split(nll=estimate(None))
    methods = {"point": make_method(splits={"test": split}), "b": make_method("MC dropout")}
    assert "As it is infinite, MC dropout 0.300" in alt(figures.methods_compared(methods))
