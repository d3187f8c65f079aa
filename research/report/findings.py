"""What the numbers say, in sentences for a person who has never heard of ECE.

A finding is a dict with `title`, `text` and `tone` ("good", "warn", "bad", "info"). It claims a
difference only where the intervals bear it, and says so where they do not. What the page already
says of a cause that is present is no finding besides. Everything is a pure function of `result`.
"""

from research.metrics import format
from research.report.comparison import compared_methods
from research.report.reading import (
    baseline,
    finding,
    is_below,
    is_present,
    is_sure_when_wrong,
    may_know_test_images,
    share,
    value,
    verdict,
    with_interval,
    wrong_above_99,
)

FEW_IMAGES = 500
FEW_MISTAKES = 10
MUCH_WORSE = 1.1  # times the lowest validation NLL
SATURATED_SHARE = 0.05  # of answers above 0.999999, or of one identical value


def headline(result: dict) -> str:
    """The claim and the delivery in one sentence."""
    test = baseline(result)
    claimed = format.metric_value("mean_confidence", value(test, "mean_confidence"))
    return (
        f"It says {claimed} on average; it is right {with_interval(test, 'accuracy')} of the time."
    )


def _claim(result: dict) -> list[dict]:
    test = baseline(result)
    expected = test["n"] * (1 - share(test, "mean_confidence"))
    allowed = (
        format.plural(round(expected), "mistake") if expected >= 1 else "less than one mistake"
    )
    made = (
        f"By its own word it should have made {allowed} in these {format.count(test['n'])} images; "
        f"it made {format.count(test['errors'])}."
    )
    match verdict(test):
        case "over":
            return [finding("It is over-confident", made, "bad")]
        case "under":
            return [finding("It is under-confident: right more often than it says", made, "warn")]
    agree = (
        f"What it says and what it delivers agree, as far as {format.count(test['n'])} images can "
        "tell. "
    )
    if not is_sure_when_wrong(test):
        return [finding("Not over-confident on images like these", agree + made, "good")]
    mistakes = format.plural(test["errors"], "mistake")
    carry = "carries" if test["errors"] == 1 else "carry"
    average = "" if test["errors"] == 1 else " on average"
    return [
        finding(
            "Not over-confident on images like these, but sure when it is wrong",
            f"{agree}But its {mistakes} {carry} {with_interval(test, 'confidence_on_errors')} "
            f"confidence{average}: a high number is no warning against a mistake.",
            "warn",
        )
    ]


def _gap(result: dict) -> list[dict]:
    splits = result["methods"]["point"]["splits"]
    if "train" not in splits:
        return [
            finding(
                "No training images to compare with",
                "A model that has learnt its training images by heart shows it as a gap between "
                "those and new images. These data hold none, so the gap is not known. If the "
                "model was trained on the images judged here, the truth is worse than this page.",
                "info",
            )
        ]
    unknown = [_may_be_too_good(result)] if may_know_test_images(result) else []
    if is_present(result, "overfitting"):  # its text tells the gap
        return unknown
    names = {"train": "training", "valid": "validation", "test": "test"}
    shown = [name for name in names if name in splits]
    text = (
        "Right on "
        + ", ".join(
            f"{with_interval(splits[name], 'accuracy')} of the {names[name]} images"
            for name in shown
        )
        + ". NLL, the price of what it says (lower is better): "
        + ", ".join(f"{with_interval(splits[name], 'nll')} ({names[name]})" for name in shown)
        + "."
    )
    train, test = splits["train"], splits["test"]
    if is_below(test, train, "accuracy") or is_below(train, test, "nll"):
        gap = finding(
            "It is better on the images it was trained on",
            text + " Part of what it learnt holds only for those images; believe the test images.",
            "warn",
        )
    else:
        tells = f"No gap between training and new images that {format.count(test['n'])} images show"
        gap = finding(tells, text, "good")
    return [gap, *unknown]


def _may_be_too_good(result: dict) -> dict:
    return finding(
        "The test number may be too good",
        "Candor split these images at random and cannot know which of them "
        f"{result['model']['source']} was trained on. If it has seen the test images, it does "
        "worse on new ones than this page says.",
        "warn",
    )


def _training(result: dict) -> list[dict]:
    """What further training would have made of it: surer, and no better."""
    training = result["model"]["training"]
    history = training["history"] if training else []
    kept = next((row for row in history if row["step"] == training["best_step"]), None)
    if kept is None or kept is history[-1]:
        return []
    last = history[-1]
    if not last["valid_nll"] > MUCH_WORSE * kept["valid_nll"]:
        return []

    def at(row):
        return (
            f"it said {format.percent(row['valid_confidence'])}, was right "
            f"{format.percent(row['valid_accuracy'])}, and its NLL was "
            f"{format.number(row['valid_nll'])}"
        )

    return [
        finding(
            "Trained to the end it would have been surer than it is right",
            f"On the validation images, after epoch {kept['epoch']:g} of "
            f"{history[-1]['epoch']:g} {at(kept)}. After the last epoch {at(last)}. The epoch of "
            "the lowest NLL was kept; whoever looks at accuracy alone keeps the other.",
            "info",
        )
    ]


def _saturation(result: dict) -> list[dict]:
    test, is_rounded = baseline(result), result["model"]["saturated_output"]
    extreme, identical = share(test, "share_above_0.999999"), share(test, "share_identical")
    is_stuck = max(extreme, identical) >= SATURATED_SHARE
    is_ruled_out = value(test, "nll") is None
    if not (is_stuck or is_rounded or is_ruled_out):
        return []
    text = f"{format.percent(extreme)} of its answers are above 0.999999."
    if identical >= SATURATED_SHARE:
        text += (
            f" {format.percent(identical)} are one and the same number: among them the sure cannot "
            "be told from the very sure."
        )
    if is_rounded:
        text += (
            " The model gives rounded probabilities, and its logits could not be recovered: how "
            "far beyond 0.9999999 an answer lies is lost."
        )
    if is_ruled_out:
        text += " It gave a right answer the probability 0, and so its NLL is infinite."
    title = "Its answers are stuck at the end of the scale"
    return [finding(title if is_stuck else "Its probabilities are rounded", text, "warn")]


def _calibration(result: dict) -> list[dict]:
    test = baseline(result)
    ece, chance = test["metrics"]["ece"], test["metrics"]["perfectly_calibrated_ece"]
    text = (
        "ECE, how far confidence and accuracy lie apart on average, is "
        f"{format.with_interval('ece', ece)}. A perfectly honest model that says the same would "
        f"show {format.with_interval('ece', chance)} on {format.count(test['n'])} images by chance."
    )
    if ece["value"] > chance["high"]:
        return [finding("The distance from honest is real, not noise", text, "bad")]
    return [finding("Its calibration error is no larger than chance makes it", text, "good")]


def _mistakes(result: dict) -> list[dict]:
    test = baseline(result)
    if not test["errors"]:
        return []
    coverage = "accuracy_at_coverage_0.9"
    abstaining = (
        "If it refused to answer the 10 % it is least sure of, it would be right "
        f"{with_interval(test, coverage)} of the time on the rest, instead of "
        f"{with_interval(test, 'accuracy')}."
    )
    sure = wrong_above_99(test)
    title = f"{format.plural(test['errors'], 'mistake')} in {format.count(test['n'])} images"
    how_sure = f"{format.count(sure) if sure else 'None'} of them with at least 99 % confidence. "
    return [finding(title, how_sure + abstaining, "warn" if sure else "info")]


def _too_few(result: dict) -> list[dict]:
    test = baseline(result)
    if test["n"] >= FEW_IMAGES and test["errors"] >= FEW_MISTAKES:
        return []
    if is_present(result, "too_few_images"):
        return []
    return [
        finding(
            "Few images, wide intervals",
            f"It was tested on {format.plural(test['n'], 'image')} and made "
            f"{format.plural(test['errors'], 'mistake')}. How sure a model has a right to be is "
            "learnt from its mistakes: with so few, read the intervals, not the single numbers.",
            "warn",
        )
    ]


def _data(result: dict) -> list[dict]:
    notes = result["data"]["notes"]
    return [finding("About the data", " ".join(notes), "info")] if notes else []


def findings(result: dict) -> list[dict]:
    """All findings, in the order in which a person should read them.

    Args:
        result: the contents of result.json; its own "findings" and "next" are not read.

    Returns:
        Dicts of `title`, `text`, `tone` ("good", "warn", "bad", "info") and `method`: of a finding
        about one, its name.
    """
    parts = (
        _claim,
        _gap,
        _training,
        _saturation,
        _calibration,
        compared_methods,
        _mistakes,
        _too_few,
        _data,
    )
    return [found for part in parts for found in part(result)]
