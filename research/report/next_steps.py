"""What to do next: at most a handful of sentences, with a command where there is one."""

import shlex

from research.metrics import format
from research.report.findings import FEW_IMAGES, FEW_MISTAKES
from research.report.reading import (
    baseline,
    best_method,
    is_below,
    may_know_test_images,
    recommended,
    with_interval,
)
from research.report.why import named
from research.runtime.errors import flags

COMMAND = "launch/run.sh experiments.diagnose"
MISTAKES_WANTED = 100  # the accuracy's interval is then about a fifth of the error rate either way


def _advice(result: dict) -> list[str]:
    return [cause["advice"] for cause in named(result) if cause["advice"]]


def _recommended(result: dict) -> list[str]:
    if (name := recommended(result)) == "point":
        return []
    method = result["methods"][name]
    fit = method["temperature"]
    if fit:
        t = format.number(fit["value"])
        return [
            f"Divide the logits by {t} before the softmax: the same answers, said with an honest "
            f"confidence. From probabilities: p = p ** (1 / {t}), then p / p.sum()."
        ]
    after = with_interval(method["splits"]["test"], "nll")
    before = with_interval(baseline(result), "nll")
    return [
        f"Use what did best on images held out, {method['title']}: NLL {after} instead of "
        f"{before}.{_cost(method)} {method['about']}"
    ]


def _cost(method: dict) -> str:
    """What a method takes, and that what was trained was kept; empty for given predictions."""
    if method["milliseconds_per_image"] is None:
        return ""
    seconds = method["training_seconds"]
    cost = f"{method['milliseconds_per_image']:.3g} ms an image"
    if seconds is None:  # of a model that runs as a black box nothing can be kept
        return f" It takes {cost}."
    return (
        f" It took {format.duration(seconds)} to train, takes {cost}, and is kept for "
        "experiments.predict."
    )


def _command(model: str) -> str:
    return f"{COMMAND} {flags('`data` photos/ `model`')} {shlex.quote(model)}"


def _own_images(result: dict) -> list[str]:
    if not result["model"]["imported"]:
        return [
            "Ask the same of your own model and images (class folders): " + _command("model.keras")
        ]
    if not may_know_test_images(result):
        return []
    return [
        "Keep back images that the model has never seen, put them in train/valid/test folders "
        "(each with one folder per class) and ask again: "
        f"{_command(result['model']['source'])}"
    ]


def _more_images(result: dict) -> list[str]:
    test = baseline(result)
    if test["errors"] >= FEW_MISTAKES and test["n"] >= FEW_IMAGES:
        return []
    if not test["errors"]:
        return [f"Find images that it gets wrong: it made no mistake in {format.count(test['n'])}."]
    wanted = int(round(MISTAKES_WANTED * test["n"] / test["errors"], -2))
    return [
        f"Collect more test images: about {format.count(wanted)} hold {MISTAKES_WANTED} mistakes "
        "at this rate, enough for narrow intervals."
    ]


def _certified(result: dict) -> list[str]:
    method = result["methods"][best_method(result)]
    abstention = method["decisions"] and method["decisions"]["abstention"]["chosen"]
    if not abstention or not abstention["share_abstained"]:
        return []
    return [
        f"{method['title']}: send the {format.percent(abstention['share_abstained'])} it is least "
        f"sure of to a person. Of the rest at most {format.percent(abstention['bound'])} are "
        "wrong, with 95 % certainty, on images like these."
    ]


def _abstain(result: dict) -> list[str]:
    if certified := _certified(result):
        return certified
    test = baseline(result)
    answered = {"metrics": {"accuracy": test["metrics"]["accuracy_at_coverage_0.9"]}}
    if not test["errors"] or not is_below(test, answered, "accuracy"):
        return []
    return ["Send the 10 % it is least sure of to a person: the rest is then right more often."]


def _mistakes(result: dict) -> list[str]:
    if not result["mistakes"]:
        return []
    return [
        "Look at its most confident mistakes: wrong labels and odd images are often among them."
    ]


def _logits(result: dict) -> list[str]:
    if not result["model"]["saturated_output"]:
        return []
    return [
        "Give logits instead of rounded probabilities: save the model with a linear last layer, or "
        "put the numbers before the softmax in the predictions file."
    ]


def next_steps(result: dict) -> list[str]:
    """What to do next, the most useful first.

    Args:
        result: the contents of result.json; its own `findings` and `next` are not read.

    Returns:
        Sentences; a command, where there is one, ends its sentence after a colon.
    """
    parts = (_advice, _recommended, _more_images, _abstain, _mistakes, _logits, _own_images)
    return [step for part in parts for step in part(result)]
