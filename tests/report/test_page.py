"""report.html as a browser shows it: on a phone, on a desk, and with no network."""

import html
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from research.metrics import format
from research.report import pictures
from research.report.findings import headline
from research.report.page import data_uri, render
from research.report.pictures import Pictures
from tests.report.conftest import HOSTILE, make_result

SMALL = np.arange(32 * 32 * 3, dtype=np.uint8).reshape(32, 32, 3)
LARGE = np.full((300, 900, 3), (200, 30, 60), np.uint8)
WIDTHS = (360, 390, 1280)
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--hide-scrollbars",
]

# Runs in a copy of the page that stands in a frame of a phone's width (a window cannot be so
# narrow), and leaves with the frame what only a browser can measure.
PROBE = """<script>addEventListener("load", () => {
  frameElement.dataset.probe = JSON.stringify({
    width: innerWidth,
    content: document.documentElement.scrollWidth,
    scripts: document.scripts.length,
    pictures: [...document.querySelectorAll(".mistakes img")].map(
      i => [i.naturalWidth, i.naturalHeight, i.alt]),
    figures: [...document.querySelectorAll("figure img")].map(s => s.getBoundingClientRect().width),
    fetched: performance.getEntriesByType("resource").map(r => r.name.slice(0, 40)),
    text: document.body.innerText,
  });
});</script>"""


@pytest.fixture(scope="module")
def page(full_result) -> str:
    return render(full_result, Pictures({("test", 0): SMALL, ("test", 2): LARGE}))


@pytest.fixture(scope="module")
def browse(tmp_path_factory):
    """Runs Chromium on a page of the given width and returns what it prints."""
    names = ("chromium", "chromium-browser", "google-chrome")
    binary = next(filter(None, map(shutil.which, names)), None)
    if binary is None:
        pytest.skip("no Chromium here (Debian's package is chromium): the page was not opened")

    def run(page: str, width: int, *options: str) -> str:
        folder = tmp_path_factory.mktemp("browser")
        file = folder / "report.html"
        file.write_text(page, encoding="utf-8")
        command = [
            *(binary, *FLAGS, f"--user-data-dir={folder / 'profile'}"),
            *(f"--window-size={width},1200", *options, file.as_uri()),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
        return done.stdout

    return run


@pytest.fixture(scope="module")
def measured(browse, page) -> dict[int, dict]:
    """What the browser measured, by the width of the screen."""
    copy = html.escape(page.replace("</body>", PROBE + "</body>"))
    frames = [f'<iframe style="width:{w}px;border:0" srcdoc="{copy}"></iframe>' for w in WIDTHS]
    dom = browse("<!DOCTYPE html><meta charset=utf-8>" + "".join(frames), 1400, "--dump-dom")
    probes = [json.loads(html.unescape(p)) for p in re.findall(r'data-probe="([^"]*)"', dom)]
    return dict(zip(WIDTHS, probes, strict=True))


@pytest.mark.parametrize("width", WIDTHS)
def test_in_a_browser(measured, full_result, width):
    measured = measured[width]
    assert measured["width"] == width
    assert measured["content"] <= width, "the page is wider than the screen"
    assert measured["scripts"] == 1, "the probe is the only script: a class name is not one"
    assert [name for name in measured["fetched"] if not name.startswith("data:")] == []
    assert measured["pictures"] == [
        [32, 32, f"good/IMG_0.jpg, labelled good, taken for {HOSTILE}"],
        [320, 107, f"good/IMG_2.jpg, labelled good, taken for {HOSTILE}"],
    ]
    assert (
        len(measured["figures"]) == 6
    )  # the histogram, 3 reliability diagrams, the gap, the methods
    assert all(280 <= drawn <= 512 for drawn in measured["figures"])
    text = " ".join(measured["text"].split())
    sentences = [headline(full_result), *(f["text"] for f in full_result["findings"])]
    sentences += full_result["descriptions"].values()
    for sentence in sentences:
        assert " ".join(format.keep_together(sentence).split()) in text
    assert f"Says {HOSTILE}, 99.9998 %. It is good. good/IMG_0.jpg" in text
    assert full_result["command"] in text
    parts = ("Title of label_noise", "What to do: Look at", "What was found", "How sure it is")
    places = [text.index(part) for part in parts]
    assert places == sorted(places)


@pytest.mark.parametrize("width", [390, 1280])
def test_a_screenshot_shows_the_figures(browse, page, tmp_path, width):
    picture = tmp_path / "page.png"
    browse(page, width, f"--screenshot={picture}", f"--window-size={width},7500")
    pixels = np.asarray(Image.open(picture).convert("RGB"))
    assert pixels.shape[1] == width
    for colour in ((0, 114, 178), (213, 94, 0), (200, 30, 60)):  # bars right, bars wrong, a picture
        assert np.sum(np.all(pixels == colour, axis=-1)) > 200


def test_it_prints(browse, page, tmp_path):
    printed = tmp_path / "page.pdf"
    browse(page, 1280, f"--print-to-pdf={printed}")
    assert printed.read_bytes().startswith(b"%PDF")
    assert _pages(printed) > 2


def _pages(printed):
    return len(re.findall(rb"/Type\s*/Page\b", printed.read_bytes()))


def test_printed_it_is_two_pages_and_an_appendix(browse, page, tmp_path):
    printed = tmp_path / "page.pdf"
    browse(
        page.replace("</style>", ".appendix { display: none; } </style>"),
        1280,
        f"--print-to-pdf={printed}",
    )
    assert _pages(printed) <= 2


def test_names_from_files_are_text(page):
    assert HOSTILE not in page
    assert html.escape(HOSTILE) in page


def test_it_refers_to_nothing_outside_itself(page):
    assert re.findall(r"https?://|<script|<iframe|@import|<object|<embed", page) == []
    references = re.findall(r'\b(?:src|href)="([^"#][^":]*:)', page)
    assert set(references) == {"data:"}


def test_every_number_has_its_meaning(page, full_result):
    text = html.unescape(page)
    for metric, meaning in full_result["descriptions"].items():
        assert f"<strong>{format.metric_name(metric)}</strong>" in text
        assert format.keep_together(meaning) in text


def test_ids_are_unique(page):
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids)) > 5


def test_a_predictions_file_makes_a_shorter_page():
    result = make_result(model={"preprocess": None, "parameters": None, "parity": None})
    page = render(result, Pictures())
    assert "1,000 test." in page
    for absent in (
        "learnt from",
        "at random",
        "confident mistakes",
        "Preprocessing",
        "Parity",
        "None",
    ):
        assert absent not in page
    assert page.count("<img") == 2  # the histogram and one reliability diagram


def test_how_it_was_made(page):
    text = re.sub(r"<[^>]*>", "", html.unescape(page))
    for part in (
        "Seed7",
        "jax 0.10.2; Candor at 0123abc",
        "in 2 min 13 s",
        "14,846,530 parameters",
    ):
        assert part in text
    assert "caffe: it goes with Keras' weights" in text
    assert "3.1e-06" in text


def test_training_is_described():
    training = {"what": "head", "steps": 1200, "best_step": 900, "seconds": 61.0, "history": []}
    result = make_result(model={"training": training | {"stopped_early": True}})
    text = render(result, Pictures())
    assert "the head, 1,200 steps in 1 min 1 s; the best after step 900 was kept, and" in text


def test_pictures_lie_in_the_run_as_they_were(full_result, tmp_path):
    shown = Pictures({("test", 0): SMALL, ("new", 12): LARGE}, SMALL)
    pictures.save(tmp_path, shown)
    again = pictures.load(tmp_path)
    assert render(full_result, again) == render(full_result, shown)
    np.testing.assert_array_equal(again.images["new", 12], LARGE)
    assert pictures.load(tmp_path / "elsewhere") == Pictures()


def test_a_picture_travels_as_png_and_large_ones_are_made_smaller():
    assert data_uri(SMALL).startswith("data:image/png;base64,iVBOR")
    assert len(data_uri(LARGE)) < LARGE.size
