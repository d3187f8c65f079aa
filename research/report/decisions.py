"""What may be decided by the classifier alone: refusal with a bound, and sets with a guarantee.

Thresholds come from the validation images; what they do is counted on the test images.
"""

import numpy as np

from research.data.dataset import Split
from research.metrics import format
from research.metrics.abstention import choose_threshold, summarise_choice
from research.metrics.conformal import KINDS, conformal_sets, fit_conformal, summarise_conformal
from research.metrics.scores import scores

MISS = 0.1  # the share of sets that may lack the right answer


def decide(
    log_probs: dict[str, np.ndarray], splits: dict[str, Split], max_error: float
) -> dict | None:
    """A method's refusal threshold and prediction sets.

    Args:
        log_probs: by split: [S, N, K].
        splits: labels by split.
        max_error: the error rate allowed among the answers that are not refused.

    Returns:
        `refusal` (see `summarise_choice`) and `sets` by kind (see `summarise_conformal`); None
        where there are no validation images.
    """
    if "valid" not in log_probs:
        return None
    valid = scores(log_probs["valid"], splits["valid"].labels)
    test = scores(log_probs["test"], splits["test"].labels)
    choice = choose_threshold(valid.doubt, ~valid.correct, max_error)
    sets = {}
    for kind in KINDS:
        fit = fit_conformal(log_probs["valid"], splits["valid"].labels, MISS, kind)
        held = conformal_sets(fit, log_probs["test"])
        sets[kind] = summarise_conformal(fit, held, splits["test"].labels)
    return {"refusal": summarise_choice(choice, test.doubt, ~test.correct), "sets": sets}


def _interval(estimate: dict) -> tuple[str, str]:
    if estimate["value"] is None:
        return format.NONE, ""
    low, high = (f"{100 * estimate[key]:.1f}" for key in ("low", "high"))
    return format.percent(estimate["value"]), f"[{low}, {high}]"


def _columns(decided: dict) -> list[tuple[str, str]]:
    refusal = decided["refusal"]["refusal"]
    if refusal is None:
        told = [("not possible", ""), (format.NONE, ""), (format.NONE, "")]
    else:
        told = [
            _interval({n: refusal["coverage"][n] for n in ("value", "low", "high")}),
            _interval(refusal["error"]),
            (format.percent(refusal["bound"]), ""),
        ]
    for kind in KINDS:
        one = decided["sets"][kind]
        told += [(f"{one['mean_size']:.2f}", ""), _interval(one["coverage"])]
    return told


def rows(methods: list[dict]) -> list[tuple[str, list[tuple[str, str]]]]:
    """The rows of the page's table, a cell for each method; empty without validation images."""
    decided = [method["decisions"] for method in methods]
    if None in decided:
        return []
    names = ["Answers given", "Wrong among them", "Certified: wrong at most"]
    for kind in KINDS:
        names += [f"Classes in a set ({kind})", f"Sets that hold the answer ({kind})"]
    columns = [_columns(each) for each in decided]
    return [(name, [column[i] for column in columns]) for i, name in enumerate(names)]
