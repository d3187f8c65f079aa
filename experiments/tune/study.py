"""One Optuna study that several processes share, and that goes on after any of them was killed.

The study is a journal: a file to which every process appends what it did. Who runs a trial holds a
lock on that trial's file, which the system lets go when the process ends, however it ends. A trial
that claims to be running but that nobody holds is dead: it is marked failed, and the same choice is
tried again, from its last checkpoint.

The draws of a trial are seeded by how many there were before it, so a search that was stopped goes
on as it would have.
"""

import contextlib
import fcntl
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState

DEFAULTS, FOLDER = "defaults", "folder"  # of a trial's attributes
STARTUP = 5  # random choices before the sampler, and finished ones before the pruner, begin
WARMUP = 2  # epochs at least before a trial may be stopped


class Claimed(NamedTuple):
    """A trial that this process runs."""

    trial: Trial
    folder: Path
    has_defaults: bool


@contextlib.contextmanager
def only_one(directory: Path) -> Iterator[None]:
    """Lets one process at a time in; the others wait."""
    with (directory / "lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def first_epoch(epochs: int) -> int:
    """At which a trial may be stopped: a third of them, as what was first to learn need not win."""
    return max(WARMUP, epochs // 3)


def open_study(directory: Path, epochs: int) -> optuna.Study:
    """The study of a run's folder, made where there is none. Call it inside `only_one`.

    Args:
        directory: the run's folder.
        epochs: of a trial.
    """
    return optuna.create_study(
        study_name="tune",
        storage=JournalStorage(JournalFileBackend(str(directory / "study.journal"))),
        pruner=optuna.pruners.MedianPruner(STARTUP, n_warmup_steps=first_epoch(epochs)),
        load_if_exists=True,
    )


def _lock_of(directory: Path, name: str) -> Path:
    return directory / "trials" / f"{name}.lock"


def _is_held(directory: Path, trial: FrozenTrial) -> bool:
    name = trial.user_attrs.get(FOLDER)
    if name is None:  # killed while claiming
        return False
    with _lock_of(directory, name).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def running(study: optuna.Study, directory: Path) -> list[FrozenTrial]:
    """The trials that some process is at."""
    trials = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    return [trial for trial in trials if _is_held(directory, trial)]


def done(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that have ended, pruned ones among them, in their order."""
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))


def _complete(study: optuna.Study) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))


def best(study: optuna.Study) -> FrozenTrial | None:
    """The trial of lowest validation NLL; None: none has been trained to its end."""

    def nll(trial: FrozenTrial) -> Any:
        return trial.value

    return min(_complete(study), key=nll, default=None)


def with_defaults(study: optuna.Study) -> FrozenTrial | None:
    """The trial of the defaults; None: it was not trained to its end."""
    return next((trial for trial in _complete(study) if trial.user_attrs.get(DEFAULTS)), None)


def folder_of(directory: Path, trial: FrozenTrial) -> Path:
    """Where a trial is trained."""
    return directory / "trials" / trial.user_attrs[FOLDER]


def _give_up_the_dead(study: optuna.Study, directory: Path) -> None:
    held = {trial.number for trial in running(study, directory)}
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if trial.number not in held:
            study.tell(trial.number, state=TrialState.FAIL)
            study.enqueue_trial(trial.params, user_attrs=trial.user_attrs)


def _next_trial(study, directory, space, defaults, total, seed) -> Trial | None:
    _give_up_the_dead(study, directory)
    trials = study.get_trials(deepcopy=False)
    if sum(t.state not in (TrialState.FAIL, TrialState.WAITING) for t in trials) >= total:
        return None
    proposed = [trial for trial in trials if trial.state is not TrialState.FAIL]
    if not any(trial.user_attrs.get(DEFAULTS) for trial in proposed):
        study.enqueue_trial(defaults, user_attrs={DEFAULTS: True})
    drawn = np.random.SeedSequence([seed, len(proposed)]).generate_state(1)
    study.sampler = optuna.samplers.TPESampler(n_startup_trials=STARTUP, seed=int(drawn[0]))
    trial = study.ask(space)
    if FOLDER not in trial.user_attrs:
        trial.set_user_attr(FOLDER, f"{trial.number:04}")
    return trial


@contextlib.contextmanager
def claim(
    study: optuna.Study,
    directory: Path,
    space: dict[str, BaseDistribution],
    defaults: dict[str, float | int],
    total: int,
    seed: int,
) -> Iterator[Claimed | None]:
    """A trial for this process to run; the first one of a study tries the defaults.

    Args:
        study: of `open_study`.
        directory: the run's folder.
        space: what is drawn, by name.
        defaults: a choice.
        total: no more trials than these, of all processes.
        seed: decides the choices.

    Yields:
        The trial; None: all have been claimed.
    """
    (directory / "trials").mkdir(exist_ok=True)
    with contextlib.ExitStack() as stack:
        with only_one(directory):
            trial = _next_trial(study, directory, space, defaults, total, seed)
            if trial is not None:
                name = trial.user_attrs[FOLDER]
                held = stack.enter_context(_lock_of(directory, name).open("a"))
                fcntl.flock(held, fcntl.LOCK_EX)
        if trial is None:
            yield None
        else:
            has_defaults = bool(trial.user_attrs.get(DEFAULTS))
            yield Claimed(trial, directory / "trials" / name, has_defaults)


def settle(study: optuna.Study, directory: Path, trial: Trial, value: float | None) -> None:
    """Tells the study what came out, and deletes what is not the best, nor the defaults.

    Args:
        study: of `open_study`.
        directory: the run's folder.
        trial: of `claim`.
        value: the validation NLL; None: it was stopped.
    """
    with only_one(directory):
        state = TrialState.PRUNED if value is None else TrialState.COMPLETE
        study.tell(trial, value, state)
        states = (TrialState.RUNNING, TrialState.WAITING)
        kept = study.get_trials(deepcopy=False, states=states)
        kept += [each for each in (best(study), with_defaults(study)) if each is not None]
        names = {each.user_attrs.get(FOLDER) for each in kept}
        for path in (directory / "trials").iterdir():
            if path.stem not in names:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
