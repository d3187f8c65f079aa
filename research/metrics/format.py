"""Numbers as a person reads them: 99.9998 % never prints as 100 %."""

import math
import re

SHARES = (
    "accuracy",
    "share_",
    "mean_confidence",
    "overconfidence",
    "confidence_on_errors",
    "error_fpr95",
)
CALIBRATION_ERRORS = ("ece", "mce", "ks_error")
ACRONYMS = {
    word.lower(): word for word in ("NLL", "ECE", "MCE", "KS", "AURC", "AUROC", "AUPR", "FPR95")
}
MOST_PERCENT_DECIMALS = 6  # an uncertainty of 1e-8 is the smallest that is shown apart from 0
MOST_DECIMALS = 5
NONE = "\N{EN DASH}"  # what stands where a number could not be computed


def is_share(metric: str) -> bool:
    """Whether a metric reads best as a percentage."""
    return metric.startswith(SHARES) or is_calibration_error(metric)


def is_calibration_error(metric: str) -> bool:
    """Whether a metric is a distance between confidence and accuracy."""
    return metric in CALIBRATION_ERRORS or metric.endswith("_ece")


def _decimals_needed(share: float) -> int:
    """Decimals of the percentage that keep `share` apart from 0 % and 100 %; one at least."""
    distance = 100 * min(abs(share), abs(1 - share))
    # Rounded, because the logarithm of 1 - 0.99 is a hair off -2.
    return max(1, -math.floor(round(math.log10(distance), 6))) if distance else 1


def bare_percent(share: float, decimals: int | None = None) -> str:
    """A share as a percentage without its sign, never rounded to a 0 or 100 that it is not.

    Args:
        share: 0 to 1 (a difference of shares may be negative).
        decimals: number of decimals; by default one, and more near 0 and 100.
    """
    if share in (0, 1):
        return f"{100 * share:.0f}"
    needed = _decimals_needed(share)
    if needed > MOST_PERCENT_DECIMALS:
        return ">99.999999" if share > 0.5 else "<0.000001"
    return f"{100 * share:.{max(needed if decimals is None else decimals, needed)}f}"


def percent(share: float, decimals: int | None = None) -> str:
    """`bare_percent` with its sign: "99.9998 %"."""
    return bare_percent(share, decimals) + " %"


def number(value: float, decimals: int | None = None) -> str:
    """A plain number to three figures, to two below 0.1: "12.3", "0.257", "0.0057"."""
    return f"{value:.{_decimals_of_number(value) if decimals is None else decimals}f}"


def _decimals_of_number(value: float) -> int:
    if not value:
        return 1
    magnitude = math.floor(math.log10(abs(value)))
    return min(max((2 if magnitude >= -1 else 1) - magnitude, 0), MOST_DECIMALS)


def metric_value(metric: str, value: float | None) -> str:
    """One metric's value with its unit: "97.2 %" or "0.257"; an NLL that is None is infinite."""
    if value is None:
        return "infinite" if metric == "nll" else NONE
    if is_calibration_error(metric):
        return percent(value, decimals=2)
    return percent(value) if is_share(metric) else number(value)


def metric_interval(metric: str, entry: dict) -> str:
    """The interval in the unit of the value, "[96.1, 98.1]"; empty where there is none."""
    value, low, high = entry["value"], entry["low"], entry["high"]
    if value is None or low is None or high is None:
        return ""
    if is_share(metric):
        decimals = 2 if is_calibration_error(metric) else _decimals_needed(value)
        ends = [bare_percent(end, decimals) for end in (low, high)]
    else:
        ends = [number(end, _decimals_of_number(value)) for end in (low, high)]
    return f"[{ends[0]}, {ends[1]}]"


def with_interval(metric: str, entry: dict) -> str:
    """A metric as it stands in a sentence: "97.2 % [96.1, 98.1]"."""
    return f"{metric_value(metric, entry['value'])} {metric_interval(metric, entry)}".rstrip()


def metric_name(metric: str) -> str:
    """`share_above_0.999` -> "share above 0.999"; `debiased_ece` -> "debiased ECE"."""
    name = " ".join(ACRONYMS.get(word, word) for word in metric.split("_"))
    name = name.replace("e AURC", "E-AURC")
    return name[0].upper() + name[1:]


def count(n: int) -> str:
    """10000 -> "10,000"."""
    return f"{n:,}"


def plural(n: int, one: str, many: str | None = None) -> str:
    """ "1 mistake", "28 mistakes", "no mistakes"."""
    return f"{count(n) if n else 'no'} {one if n == 1 else many or one + 's'}"


def duration(seconds: float) -> str:
    """133.2 -> "2 min 13 s"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"


def keep_together(text: str) -> str:
    """Ties a number to its unit and the two ends of an interval with no-break spaces."""
    text = re.sub(r"(?<=\d) %", "\N{NO-BREAK SPACE}%", text)
    return re.sub(r"\[([^\[\], ]+), ([^\[\], ]+)\]", "[\\1,\N{NO-BREAK SPACE}\\2]", text)
