from research.report.findings import headline
from research.report.terminal import WIDTH, summary
from tests.report.conftest import make_method, make_result, make_split


def test_the_summary_holds_the_answer_in_a_hundred_columns(full_result):
    text = summary(full_result, "runs/1/report.html")
    lines = text.splitlines()
    assert lines[0] == headline(full_result)
    assert max(map(len, lines)) <= WIDTH
    assert lines[-1] == "The whole report: runs/1/report.html"
    for found in full_result["findings"]:
        assert found["title"] in text
    assert "launch/run.sh experiments.diagnose" in text


def test_every_split_and_method_has_its_numbers_above_their_intervals(full_result):
    lines = summary(full_result).splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("train"))
    assert lines[at].split() == ["train", "4,000", "100", "%", "99.99", "%", "0.0010", "3.00", "%"]
    assert lines[at + 1].split()[:2] == ["[99.90,", "100]"]
    cost = next(line for line in lines if line.startswith("MC dropout "))
    assert cost.endswith("41.2 ms")
    value, interval = lines[at].index("100 %"), lines[at + 1].index("[99.90")
    assert value + len("100 %") == interval + len("[99.90, 100]")  # the columns end together


def test_the_widest_numbers_still_fit():
    split = make_split(n=100_000, errors=1, confidence=1 - 1e-6, nll=0.0000123)
    names = {
        name: make_method("A method with a long name", splits={"test": split}) for name in "ab"
    }
    result = make_result({"point": make_method(splits={"test": split})} | names)
    lines = summary(result).splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert any("99.9999 %" in line for line in lines)
