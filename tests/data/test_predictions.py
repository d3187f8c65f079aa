"""Predictions files: every form that is read, and every error in one line."""

from pathlib import Path

import numpy as np
import pytest
from scipy.special import log_softmax

from research.data.predictions import SMALLEST, read_predictions
from research.runtime.errors import UserError

LOGITS = np.random.default_rng(0).normal(0, 3, (12, 3))
LOG_PROBS = log_softmax(LOGITS, axis=1)
PROBS = np.exp(LOG_PROBS)
LABELS = np.arange(12) % 3
NAMES = np.array(["ant", "bee", "cat"])


@pytest.fixture
def npz(tmp_path):
    """npz(probs=..., labels=...): the file of these arrays."""

    def save(**arrays) -> Path:
        np.savez(tmp_path / "predictions.npz", **arrays)
        return tmp_path / "predictions.npz"

    return save


@pytest.fixture
def table(tmp_path):
    """table(header, rows): a .csv file; other delimiters and encodings as options."""

    def save(header: str, rows, delimiter=",", encoding="utf-8") -> Path:
        lines = [header, *(delimiter.join(map(str, row)) for row in rows)]
        path = tmp_path / "predictions.csv"
        path.write_text("\n".join(lines) + "\n", encoding=encoding)
        return path

    return save


def rows_of(labels=LABELS, scores=PROBS, *more):
    return [
        (label, *row, *rest)
        for label, row, *rest in zip(labels, scores.tolist(), *more, strict=True)
    ]


def message_of(path, *options) -> str:
    with pytest.raises(UserError) as caught:
        read_predictions(path, *options)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    "scores",
    [
        {"probs": PROBS},
        {"probs": PROBS.astype(np.float32)},
        {"logits": LOGITS},
        {"logits": LOGITS + 100},
        {"log_probs": LOG_PROBS},
        {"logits": LOGITS, "probs": np.zeros_like(PROBS)},  # what lost nothing goes first
    ],
)
def test_npz(npz, scores):
    file = read_predictions(npz(labels=LABELS, **scores))
    np.testing.assert_allclose(file.log_probs, LOG_PROBS, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(file.labels, LABELS)
    assert file.classes == ("0", "1", "2")
    assert file.notes == ()
    assert set(file.split) == {"test"}
    assert file.ids.tolist() == [str(i) for i in range(12)]


@pytest.mark.parametrize("kind", ["U", "S"])
def test_npz_with_all_it_may_hold(npz, kind):
    split = np.array(["train", "val", "validation", "valid", "test", "test"] * 2)
    ids = np.array([f"photo {i}" for i in range(12)])
    texts = {"labels": NAMES[LABELS], "classes": NAMES, "split": split, "ids": ids}
    file = read_predictions(npz(probs=PROBS, **{n: a.astype(kind) for n, a in texts.items()}))
    assert file.classes == ("ant", "bee", "cat")
    np.testing.assert_array_equal(file.labels, LABELS)
    np.testing.assert_array_equal(file.ids, ids)
    assert file.split.tolist() == ["train", "valid", "valid", "valid", "test", "test"] * 2


@pytest.mark.parametrize("shape", [(12,), (12, 1)])
def test_one_score_column_is_that_of_class_1(npz, shape):
    """1 / (1 + exp(-z)) is the softmax of (0, z)."""
    z = LOGITS[:, 0]
    expected = log_softmax(np.stack([0 * z, z], axis=1), axis=1)
    one = {"logits": z, "probs": 1 / (1 + np.exp(-z)), "log_probs": -np.log1p(np.exp(-z))}
    for kind, scores in one.items():
        file = read_predictions(npz(labels=LABELS % 2, **{kind: scores.reshape(shape)}))
        np.testing.assert_allclose(file.log_probs, expected, rtol=0, atol=1e-9)
        assert file.classes == ("0", "1")


def test_zeros_are_floored_and_noted(npz):
    probs = np.array([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.2, 0.3, 0.5], [1 - 1e-30, 1e-30, 1e-30]])
    file = read_predictions(npz(probs=probs, labels=np.array([1, 0, 2, 0])))
    np.testing.assert_allclose(file.log_probs[0], np.log([1, SMALLEST, SMALLEST]), atol=1e-9)
    np.testing.assert_allclose(file.log_probs[1], np.log([0.5, 0.5, SMALLEST]), atol=1e-9)
    # What is small but not 0 is what the file says.
    np.testing.assert_allclose(file.log_probs[3, 1:], np.log(1e-30))
    (note,) = file.notes
    assert note.startswith("2 of 4 predictions give some class a probability of exactly 0")
    with np.errstate(divide="ignore"):
        same = read_predictions(npz(log_probs=np.log(probs), labels=np.array([1, 0, 2, 0])))
    np.testing.assert_allclose(same.log_probs, file.log_probs, atol=1e-12)
    assert same.notes == file.notes


def test_rounded_rows_are_normalised(npz):
    file = read_predictions(npz(probs=PROBS.round(4), labels=LABELS))
    np.testing.assert_allclose(np.exp(file.log_probs).sum(axis=1), 1, atol=1e-12)
    # 1 - p of a float32 p just above 1.
    read_predictions(npz(probs=np.array([1.0000001, 0.5], np.float32), labels=np.array([1, 0])))


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])  # with a byte order mark, as Excel
def test_csv(table, delimiter, encoding):
    header = delimiter.join(["label", "ant", "bee", "cat"])
    file = read_predictions(table(header, rows_of(), delimiter, encoding))
    np.testing.assert_allclose(file.log_probs, LOG_PROBS, atol=1e-12)
    np.testing.assert_array_equal(file.labels, LABELS)
    assert file.classes == ("ant", "bee", "cat")


def test_csv_with_all_it_may_hold(table):
    split = ["train", "val", "test", "test"] * 3
    ids = [f"photos/{i}.jpg" for i in range(12)]
    rows = rows_of(NAMES[LABELS], LOGITS, split, ids)
    path = table("truth, ant, bee, cat, split, id", rows)
    for column in ("truth", "0"):
        file = read_predictions(path, column, True)
        np.testing.assert_allclose(file.log_probs, LOG_PROBS, atol=1e-12)
        np.testing.assert_array_equal(file.labels, LABELS)
        assert file.split.tolist() == ["train", "valid", "test", "test"] * 3
        assert file.ids.tolist() == ids


def test_csv_as_pandas_writes_it(table):
    rows = [(f"row{i}", *row) for i, row in enumerate(rows_of(LABELS.astype(float)))]
    file = read_predictions(table(",label,ant,bee,cat", [*rows, ("", "", "", "", "")]))
    np.testing.assert_array_equal(file.labels, LABELS)
    assert file.ids[3] == "row3"


def test_csv_of_one_score_column(table):
    file = read_predictions(table("label,bad", [(0, 0.25), (1, 0.5)]))
    np.testing.assert_allclose(np.exp(file.log_probs), [[0.75, 0.25], [0.5, 0.5]])


def test_numeric_class_names_are_names(table):
    file = read_predictions(table("label,7,3", [("7", 0.9, 0.1), ("3", 0.2, 0.8)]))
    assert file.classes == ("7", "3")
    assert file.labels.tolist() == [0, 1]


def changed(array, row, value):
    array = array.copy()
    array[row] = value
    return array


BAD_NPZ = {
    "names the rows": (
        {"probs": changed(PROBS, [3, 7], [-0.5, 0.5, 1.0])},
        "rows 3, 7 (counted from 0): probabilities below 0 or above 1",
    ),
    "many rows": ({"probs": PROBS * 0.9}, "rows 0, 1, 2, 3, 4 and 7 more (counted from 0): "),
    "NaN": ({"probs": changed(PROBS, 2, np.nan)}, "row 2 (counted from 0): NaN"),
    "above 1": ({"probs": changed(PROBS, 2, [1.5, -0.25, -0.25])}, "row 2 "),
    "sum": ({"probs": changed(PROBS, 5, [0.5, 0.6, 0.1])}, "row 5 (counted from 0): probabi"),
    "sum of logs": ({"log_probs": changed(LOG_PROBS, 5, -0.1)}, "do not sum to 1"),
    "logits as probabilities": ({"probs": LOGITS}, "name the array logits"),
    "probabilities as logits": ({"logits": PROBS}, "logits are probabilities"),
    "infinite logits": ({"logits": changed(LOGITS, 4, np.inf)}, "row 4 (counted from 0): infin"),
    "labels above": ({"labels": changed(LABELS, 6, 3)}, "row 6 (counted from 0): labels out of "),
    "labels below": ({"labels": changed(LABELS, 6, -1)}, "they run from 0 to 2"),
    "labels between": ({"labels": LABELS + 0.5}, "labels out of range"),
    "labels NaN": ({"labels": changed(LABELS * 1.0, 6, np.nan)}, "row 6 "),
    "label names": (
        {"labels": changed(NAMES[LABELS], 6, "dog"), "classes": NAMES},
        "row 6 (counted from 0): labels that are neither numbers nor one of the classes ant, bee",
    ),
    "one-hot labels": ({"labels": np.eye(3)[LABELS]}, "labels of shape (12, 3)"),
    "too few labels": ({"labels": LABELS[:5]}, "12 rows of probs for labels of shape (5,)"),
    "complex labels": ({"labels": LABELS * 1j}, "type complex128"),
    "too few classes": ({"classes": NAMES[:2]}, "3 columns of probs need as many"),
    "classes twice": ({"classes": np.array(["a", "b", "a"])}, "different class names"),
    "split unknown": ({"split": np.array(["test"] * 11 + ["dev"])}, "row 11 (counted from 0): sp"),
    "split length": ({"split": np.array(["test"] * 5)}, "one entry a row"),
    "ids length": ({"ids": np.arange(5)}, "one entry a row"),
    "no test": ({"split": np.array(["train"] * 12)}, "no row of the split test"),
    "one valid": ({"split": np.array(["test"] * 11 + ["valid"])}, "only one row of the split v"),
    "text": ({"probs": PROBS.astype(str)}, "must be numbers of shape [N, K]"),
    "no classes": ({"probs": PROBS[:, :0]}, "must be numbers of shape [N, K]"),
    "no rows": ({"probs": PROBS[:0], "labels": LABELS[:0]}, "must be numbers of shape [N, K]"),
    "cube": ({"probs": PROBS[None]}, "must be numbers of shape [N, K]"),
    "pickle": ({"labels": LABELS.astype(object)}, "never unpickled"),
}


@pytest.mark.parametrize("case", BAD_NPZ)
def test_bad_npz(npz, case):
    arrays, expected = BAD_NPZ[case]
    given = {} if "logits" in arrays or "log_probs" in arrays else {"probs": PROBS}
    assert expected in message_of(npz(**({"labels": LABELS} | given | arrays)))


def test_npz_without_what_is_needed(npz, tmp_path):
    assert "holds probs; it needs" in message_of(npz(probs=PROBS))
    assert "holds labels, x; it needs" in message_of(npz(labels=LABELS, x=PROBS))
    assert "logits, label_column: are for a .csv" in message_of(npz(x=PROBS), "label", True)
    whole = npz(probs=PROBS, labels=LABELS).read_bytes()
    broken = tmp_path / "broken.npz"
    for content in (b"", b"text", whole[: len(whole) // 2]):
        broken.write_bytes(content)
        assert "not a whole .npz file" in message_of(broken)
    with broken.open("wb") as stream:
        np.save(stream, PROBS)
    assert "not a whole .npz file" in message_of(broken)


BAD_CSV = {
    "no rows": ("label,a,b", [], "needs a header line and at least one row"),
    "ragged": ("label,a,b", [(0, 1, 0), (1, 0)], "row 1 (counted from 0): not 3 columns"),
    "no label": ("truth,a,b", [(0, 1, 0)] * 2, "label_column label: "),
    "no classes": ("label,split", [(0, "test")] * 2, "no class columns beside label, split"),
    "twice": ("label,a,a", [(0, 1, 0)] * 2, "two columns are called 'a'"),
    "text": ("label,file,a", [(0, "x.jpg", 1)] * 2, "taken to be file, a; mend them"),
    "gap": ("label,a,b", [(0, 1, 0), (0, "", 1)], "row 1 (counted from 0): NaN or text"),
    "other columns": ("label,a,b,age", [(0, 1, 0, 44)] * 2, "taken to be a, b, age"),
    "logits": ("label,a,b", [(0, 4, -2)] * 2, "give logits"),
    "label name": ("label,a,b", [("a", 1, 0), ("c", 1, 0)], "row 1 (counted from 0): labels that"),
    "label gap": ("label,a,b", [("", 1, 0), (0, 1, 0)], "row 0 (counted from 0): labels that"),
}


@pytest.mark.parametrize("case", BAD_CSV)
def test_bad_csv(table, case):
    header, rows, expected = BAD_CSV[case]
    assert expected in message_of(table(header, rows))


def test_csv_that_is_none(table, tmp_path):
    path = table("label,a,b", [(0, 1, 0)] * 2)
    for column in ("3", "-1", "²", "c"):
        assert f"label_column {column}: " in message_of(path, column)
    utf_16 = table("label,a,b", [(0, 1, 0)] * 2, encoding="utf-16")
    assert "save it as CSV in UTF-8" in message_of(utf_16)
    assert "no such file" in message_of(tmp_path / "absent.csv")
    assert "no such file" in message_of(tmp_path)
    other = tmp_path / "predictions.parquet"
    other.touch()
    assert "must be a .npz or a .csv file" in message_of(other)
