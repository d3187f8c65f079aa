"""How the sentences read `result`: metrics with intervals, and whether two intervals lie apart."""

import math

from research.diagnosis.verdict import PRESENT
from research.metrics import format

UNLIKE_VALIDATION = ("class_imbalance", "covariate_shift")  # then the test images differ in kind
SURE_WHEN_WRONG = 0.8  # mistakes at this mean confidence give a person no warning


def finding(title: str, text: str, tone: str, method: str = "") -> dict:
    """One finding as result.json holds it; `method` names the one that it is about, if any."""
    return {"title": title, "text": text, "tone": tone, "method": method}


def baseline(result: dict) -> dict:
    """The test split of the model as it is."""
    return result["methods"]["point"]["splits"]["test"]


def with_interval(split: dict, metric: str) -> str:
    """A metric of a split with its interval, as it stands in a sentence."""
    return format.with_interval(metric, split["metrics"][metric])


def value(split: dict, metric: str) -> float | None:
    """A metric of a split."""
    return split["metrics"][metric]["value"]


def share(split: dict, metric: str) -> float:
    """A metric that is a share of all images of a split, and so is always defined."""
    return split["metrics"][metric]["value"]


def is_below(split: dict, other: dict, metric: str) -> bool:
    """Whether `split`'s interval of a metric lies wholly below `other`'s."""
    high, low = split["metrics"][metric]["high"], other["metrics"][metric]["low"]
    return high is not None and low is not None and high < low


def lowers_nll(split: dict) -> bool:
    """Whether a method's NLL is below that of the model as it is by more than chance."""
    high = split["nll_change"]["high"]
    return high is not None and high < 0


def raises_nll(split: dict) -> bool:
    """Whether a method's NLL is above that of the model as it is by more than chance."""
    low = split["nll_change"]["low"]
    return low is not None and low > 0


def verdict(test: dict) -> str:
    """ "over", "under" or "within": the mean confidence against the interval of the accuracy."""
    accuracy, confidence = test["metrics"]["accuracy"], value(test, "mean_confidence")
    if confidence > accuracy["high"]:
        return "over"
    return "under" if confidence < accuracy["low"] else "within"


def is_sure_when_wrong(test: dict) -> bool:
    """Whether the mistakes carry a high confidence."""
    return (value(test, "confidence_on_errors") or 0) >= SURE_WHEN_WRONG


def wrong_above_99(test: dict) -> int:
    """How many mistakes were made with at least 99 % confidence."""
    histogram = test["histogram"]
    upper_edges = histogram["edges"][1:]
    pairs = zip(upper_edges, histogram["wrong"], strict=True)
    return sum(wrong for edge, wrong in pairs if edge <= -2)  # doubt of 10^-2


def is_present(result: dict, cause: str) -> bool:
    """Whether the diagnosis found a cause."""
    return any(c["cause"] == cause and c["state"] == PRESENT for c in result["diagnosis"])


def may_know_test_images(result: dict) -> bool:
    """Whether the test images may be among those that a model from elsewhere was trained on."""
    model = result["model"]
    is_untouched = model["imported"] and model["training"] is None
    has_splits = "train" in result["methods"]["point"]["splits"]
    return is_untouched and has_splits and not result["data"]["given_splits"]


def chosen_by(result: dict) -> str:
    """The split whose NLL decides what is recommended.

    It is "valid", so that the method is evaluated on a test split that did not choose it; it is
    "test" where there is no other, or where the validation images are of another kind than those
    that the classifier gets now.
    """
    is_unlike = any(is_present(result, cause) for cause in UNLIKE_VALIDATION)
    has_valid = "valid" in result["methods"]["point"]["splits"]
    return "valid" if has_valid and not is_unlike else "test"


def best_method(result: dict) -> str:
    """The name of the method of the lowest NLL on `chosen_by`'s split.

    Args:
        result: the contents of result.json.
    """
    methods, split = result["methods"], chosen_by(result)

    def nll(name: str) -> float:
        found = value(methods[name]["splits"][split], "nll")
        return math.inf if found is None else found

    return min(methods, key=nll)


def recommended(result: dict) -> str:
    """`best_method`, where its NLL on the test images is lower by more than chance; else "point".

    Args:
        result: the contents of result.json.
    """
    name = best_method(result)
    return name if lowers_nll(result["methods"][name]["splits"]["test"]) else "point"
