"""What a method is called on the page, and one sentence about it."""

import importlib
from collections import Counter
from collections.abc import Iterable, Mapping

from research.assessment.remedies import HEAD, Candidate
from research.calibrators.fit import calibrator_names
from research.training.recipe import Recipe, parse

FIXED = {  # by the names that every run uses
    "point": ("As it is", "The network as it was trained, or as it came."),
    "mc_dropout": (
        "MC dropout",
        "Dropout stays on: the average of many random sub-networks of the same network.",
    ),
    "temperature": (
        "Temperature scaling",
        "The logits are divided by one number, fitted on held-out images; answers stay the same.",
    ),
}
NAMES = {  # of methods that are not written as their file is
    "point": "Trained anew",
    "bayes_by_backprop": "Bayes by Backprop",
    "swag": "SWAG",
    "ivon": "IVON",
    "sngp": "SNGP",
    "sgmcmc": "SG-MCMC",
    "mc_dropout": "MC dropout",
    "batch_ensemble": "BatchEnsemble",
}


def _options(recipe: Recipe) -> str:
    return ", ".join(f"{option.replace('_', ' ')} {value}" for option, value in recipe.options)


def _title(recipe: Recipe, in_full: bool) -> str:
    """`ensemble(swag(rank=10), num_members=3)` -> "Ensemble (num members 3): SWAG (rank 10)"."""
    name = NAMES.get(recipe.name, recipe.name.replace("_", " ").capitalize())
    if in_full and recipe.options:
        name += f" ({_options(recipe)})"
    if recipe.inner is None or recipe.inner == Recipe("point"):
        return name
    return f"{name}: {_title(recipe.inner, in_full)}"


def _first_sentence(module: str) -> str:
    documentation = importlib.import_module(module).__doc__ or ""
    return documentation.partition("\n\n")[0].replace("\n", " ")


def _describe(name: str, candidate: Candidate | None, in_full: bool) -> tuple[str, str]:
    if name in FIXED:
        return FIXED[name]
    if name in calibrator_names():
        about = _first_sentence(f"research.calibrators.{name}")
        return about.partition(":")[0], about
    recipe = parse(name.removeprefix(HEAD))[0]
    room = "calibrators" if recipe.name in calibrator_names() else "methods"
    title, about = _title(recipe, in_full), _first_sentence(f"research.{room}.{recipe.name}")
    if recipe.options:
        about += f" Here: {_options(recipe)}."
    if not name.startswith(HEAD):
        return title, about
    note = f", with {candidate.note}" if candidate and candidate.note else ""
    if recipe.name in ("point", "ensemble"):  # common nouns, where the others are names
        title = title[0].lower() + title[1:]
    return f"Head: {title}", f"{about} Only the head was trained{note}."


def titles(names: Iterable[str], candidates: Mapping[str, Candidate]) -> dict[str, tuple[str, str]]:
    """The title of each method, and one sentence about it: the first of its file.

    A title names the options where another method would have the same title without them.

    Args:
        names: of the methods in the result.
        candidates: what was trained, by the same names.
    """
    short = {name: _describe(name, candidates.get(name), in_full=False) for name in names}
    times = Counter(title for title, _ in short.values())
    return {
        name: described
        if times[described[0]] == 1
        else _describe(name, candidates.get(name), in_full=True)
        for name, described in short.items()
    }
