"""`experiments.tune`: one search over restarts and processes, and a winner that diagnose takes."""

import io
import json
import re
import shlex
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace

import jax
import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from experiments import cli, diagnose
from experiments.tune import __main__ as tune
from experiments.tune import page as tune_page
from experiments.tune import result as tune_result
from experiments.tune import space as tune_space
from experiments.tune import study as tune_study
from experiments.tune import trial as tune_trial
from experiments.tune.trial import Task
from research.data.dataset import Dataset, Split
from research.models.classifier import Classifier, Origin, base_and_head
from research.models.layers import Dense, Dropout
from research.runtime.errors import UserError
from research.runtime.mesh import data_mesh
from research.runtime.run import Run
from research.training.recipe import parse

SPACE = {"learning_rate": FloatDistribution(1e-4, 1e-2, log=True)}
DEFAULTS = {"learning_rate": 1e-3}
LAYERS = (
    Dense("fc1", 8, "relu"),
    Dropout(0.5),
    Dense("predictions", 2),
)
TRAINING = diagnose.Training(epochs=6, batch_size=16)
CONFIG = diagnose.resolve(diagnose.Config(training=TRAINING))
OPTIONS = ("--epochs", "2", "--batch_size", "8", "--preprocess", "unit")


@pytest.fixture(scope="module", autouse=True)
def quiet():
    """As the command has it."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)


@pytest.fixture(scope="module")
def classifier():
    """Two blobs in the plane, as the cached features of a fresh head."""
    generator = np.random.default_rng(0)

    def split(n):
        labels = (np.arange(n) % 2).astype(np.int32)
        points = generator.normal(size=(n, 2)) + 2.0 * labels[:, None]
        return Split(points.astype(np.float32), labels, np.arange(n).astype(str))

    dataset = Dataset("blobs", ("a", "b"), split(64), split(32), split(32))
    return Classifier(
        *base_and_head(LAYERS, None),
        trainable="head",
        preprocess="raw",
        origin=Origin("blobs", "trained here", 0, ""),
        dataset=dataset,
        layers=LAYERS,
    )


@pytest.fixture
def task(classifier, tmp_path):
    """What the trials of a search over the blobs share."""
    run = Run(tmp_path, data_mesh(), 0)
    return Task(CONFIG, parse("point")[0], classifier, LAYERS, run)


def _tune(*arguments, out):
    """Exit code, stdout and stderr of the command."""
    streams = [io.StringIO() for _ in range(2)]
    streams[0].reconfigure = lambda **_: None
    code = 0
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(streams[0]):
        patch.setattr(sys, "argv", ["tune", *map(str, arguments), "--out", str(out)])
        with redirect_stderr(streams[1]):
            try:
                cli.run(tune.main, tune.Config)
            except SystemExit as stop:
                code = stop.code
    return code, *(stream.getvalue() for stream in streams)


def _study(directory):
    with tune_study.only_one(directory):
        return tune_study.open_study(directory, CONFIG.training.epochs)


def _claim(study, directory, total=6):
    return tune_study.claim(study, directory, SPACE, DEFAULTS, total, 0)


def _nll(trial):
    """A made-up one, lowest at 3e-3."""
    return abs(np.log(trial.params["learning_rate"] / 3e-3))


def _work(study, directory, total=6):
    """A whole process: trials until there are none left."""
    while True:
        with _claim(study, directory, total) as claimed:
            if claimed is None:
                return
            claimed.folder.mkdir(exist_ok=True)
            tune_study.settle(study, directory, claimed.trial, _nll(claimed.trial))


def _rates(study):
    return [trial.params["learning_rate"] for trial in tune_study.done(study)]


def test_a_killed_search_goes_on_as_it_would_have(tmp_path):
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    whole = _study(tmp_path / "whole")
    _work(whole, tmp_path / "whole")
    assert len(set(_rates(whole))) == 6
    assert _rates(whole)[0] == DEFAULTS["learning_rate"]

    killed = _study(tmp_path / "killed")
    for _ in range(3):
        _work(killed, tmp_path / "killed", total=2)
        with _claim(killed, tmp_path / "killed") as claimed:
            claimed.folder.mkdir(exist_ok=True)
            folder = claimed.folder  # and there it ends, before it could tell
        killed = _study(tmp_path / "killed")
        # Nothing of what it had saved is lost, nor is it counted.
        assert folder.exists()
        assert len(tune_study.done(killed)) == 2
        assert tune_study.running(killed, tmp_path / "killed") == []
    with _claim(killed, tmp_path / "killed") as claimed:
        assert claimed.folder == folder
        tune_study.settle(killed, tmp_path / "killed", claimed.trial, _nll(claimed.trial))
    _work(killed, tmp_path / "killed")
    assert _rates(killed) == _rates(whole)
    _work(killed, tmp_path / "killed", total=8)
    assert _rates(killed)[:6] == _rates(whole)
    assert len(_rates(killed)) == 8


def test_two_processes_share_one_search(tmp_path):
    one, other = _study(tmp_path), _study(tmp_path)
    with _claim(one, tmp_path, total=4) as first, _claim(other, tmp_path, total=4) as second:
        assert first.has_defaults
        assert not second.has_defaults
        assert first.trial.number != second.trial.number
        held = tune_study.running(one, tmp_path)
        assert {trial.number for trial in held} == {first.trial.number, second.trial.number}
        with _claim(other, tmp_path, total=2) as none_left:
            assert none_left is None
        for study, claimed in ((one, first), (other, second)):
            claimed.folder.mkdir()
            tune_study.settle(study, tmp_path, claimed.trial, _nll(claimed.trial))
    _work(other, tmp_path, total=4)
    assert len(tune_study.done(one)) == 4
    assert tune_study.best(one).number == tune_study.best(other).number
    best = min(tune_study.done(one), key=_nll)
    assert tune_study.best(one).value == pytest.approx(_nll(best))
    assert tune_study.with_defaults(one).params == DEFAULTS
    folders = {path.name for path in (tmp_path / "trials").iterdir() if path.is_dir()}
    kept = (tune_study.best(one), tune_study.with_defaults(one))
    assert folders == {tune_study.folder_of(tmp_path, trial).name for trial in kept}


def test_watching_tells_every_look_and_may_stop_it(task, tmp_path):
    seen = []
    tune_trial.fit_trial(task, {}, tmp_path, lambda step, nll: seen.append((step, nll)))
    rows = [
        json.loads(line) for line in (tmp_path / "point/metrics.jsonl").read_text().split("\n")[:-1]
    ]
    assert seen == [(row["step"], row["valid_nll"]) for row in rows]
    assert [step for step, _ in seen] == [4, 8, 12, 16, 20, 24]
    # What starts from the point network, trained already, goes on after all of its steps.
    further = task._replace(recipe=parse("mc_dropout(epochs=0.5, num_samples=2)")[0])
    tune_trial.fit_trial(further, {}, tmp_path, lambda step, nll: seen.append((step, nll)))
    assert [step for step, _ in seen[6:]] == [28, 32, 36]


def test_a_trial_worse_than_the_median_is_stopped(task, tmp_path):
    study = _study(tmp_path)
    for _ in range(tune_study.STARTUP):
        study.add_trial(
            create_trial(
                params=DEFAULTS,
                distributions=SPACE,
                value=0.01,
                intermediate_values=dict.fromkeys(range(1, 7), 0.01),
                user_attrs={tune_study.DEFAULTS: True, tune_study.FOLDER: "made-up"},
            )
        )
    with _claim(study, tmp_path, total=9) as claimed:
        looks = []
        value = tune_trial.run_trial(task, claimed, {"learning_rate": 1e-6}, looks.append)
        assert value is None
        assert len(looks) == tune_study.first_epoch(CONFIG.training.epochs) < CONFIG.training.epochs
        assert claimed.folder.exists()
        tune_study.settle(study, tmp_path, claimed.trial, value)
    assert not claimed.folder.exists()
    assert [trial.state for trial in tune_study.done(study)][-1] is TrialState.PRUNED
    assert tune_study.best(study).value == 0.01


def test_a_trial_that_diverges_is_the_worst_and_bad_input_is_told(task, tmp_path):
    study = _study(tmp_path)
    with _claim(study, tmp_path) as claimed:
        chosen = {"learning_rate": 1e30}
        assert tune_trial.run_trial(task, claimed, chosen, lambda _: None) is None
        training = replace(CONFIG.training, batch_size=128)
        wrong = task._replace(config=replace(CONFIG, training=training))
        with pytest.raises(UserError, match="only 64 training images"):
            tune_trial.run_trial(wrong, claimed, {}, lambda _: None)


def test_the_space_follows_from_what_is_trained(classifier, monkeypatch):
    def space_of(recipe, given=classifier, layers=LAYERS):
        return tune_space.search_of(CONFIG, parse(recipe)[0], given, layers)

    for name in ("dropout", "head_width"):
        monkeypatch.setitem(tune_space.DIAGNOSE, name, None)
    space, defaults = space_of("point")
    assert space["head_width"] == IntDistribution(1, 16, log=True)
    assert defaults == {
        **{"learning_rate": 1e-3, "weight_decay": 1e-4},
        **{"dropout": 0.5, "head_width": 8},
    }
    for name, value in defaults.items():
        assert space[name].low <= value <= space[name].high
    assert space_of("point", layers=(Dense("predictions", 2),))[1].keys() == {
        *("learning_rate", "weight_decay")
    }
    params = classifier.model.init(jax.random.key(0), np.zeros((1, 2), np.float32))
    trained = replace(classifier, start=params)
    assert "head_width" not in space_of("point", given=trained)[0]
    assert space_of("bayes_by_backprop").defaults.items() >= {
        *(("prior_sigma", 0.2), ("initial_sigma", 0.1))
    }
    known = space_of("ensemble(bayes_by_backprop(prior=mixture, initial_sigma=0.2))").space.keys()
    assert not known & {"prior_sigma", "initial_sigma"}
    assert space_of("sgmcmc").defaults["temperature"] == 1


def test_layers_that_keep_their_shape_start_as_they_did(classifier):
    image, key = classifier.dataset.train.images[:1], jax.random.key(3)
    before = classifier.model.init(key, image)
    model = tune_space.network_of(classifier, LAYERS, {"head_width": 5, "dropout": 0.0}, True)
    after = model.init(key, image)
    assert after["fc1"]["kernel"].shape == (2, 5)
    assert after["predictions"]["kernel"].shape == (5, 2)
    same = tune_space.network_of(classifier, LAYERS, {"dropout": 0.0}, True)
    for one, other in zip(*map(jax.tree.leaves, (same.init(key, image), before)), strict=True):
        np.testing.assert_array_equal(one, other)
    logits = same.apply(before, image, key), same.apply(before, image)
    np.testing.assert_array_equal(*logits)
    assert (
        tune_space.network_of(classifier, LAYERS, {"learning_rate": 1.0}, True) is classifier.model
    )


def test_the_command_is_one_that_diagnose_takes():
    images = diagnose.Images(data="my photos", skip_bad_images=True)
    config = diagnose.Config(images=images, seed=3)
    recipe = parse("ensemble(bayes_by_backprop(estimator=local), num_members=2)")[0]
    chosen = {"learning_rate": 1.23e-05, "weight_decay": 0.01, "prior_sigma": 0.3}
    line = shlex.split(tune_space.command(config, recipe, chosen))
    assert line[:2] == ["launch/run.sh", "experiments.diagnose"]
    parsed = cli.parse(diagnose.Config, line[2:])
    (found,) = parsed.assessment.recipes
    assert (found,) == parse(
        "ensemble(bayes_by_backprop(estimator=local, prior_sigma=0.3), num_members=2)"
    )
    training = replace(config.training, learning_rate=1.23e-05, weight_decay=0.01)
    assessment = replace(config.assessment, methods=str(found))
    assert parsed == replace(config, training=training, assessment=assessment)
    assert "--methods" not in tune_space.command(config, parse("point")[0], {})


pytest_keras = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)


@pytest.mark.slow
@pytest_keras
def test_a_whole_search(keras_model, photos, tmp_path):
    model, out = keras_model("tuned.keras", lambda layers: [layers.Dropout(0.5)]), tmp_path / "run"
    options = ("--data", photos, "--model", model, *OPTIONS)
    code, stdout, stderr = _tune(*options, "--trials", "2", out=out)
    assert code == 0, stderr
    assert len(re.findall(r"^trial \d/2", stderr, re.MULTILINE)) == 2
    first = json.loads((out / "result.json").read_text())
    stamps = [path.stat().st_mtime_ns for path in (out / "features").iterdir()]
    code, stdout, stderr = _tune(*options, "--trials", "3", out=out)
    assert code == 0, stderr
    assert len(re.findall(r"^trial \d/3", stderr, re.MULTILINE)) == 1
    assert [path.stat().st_mtime_ns for path in (out / "features").iterdir()] == stamps
    result = json.loads((out / "result.json").read_text(), parse_constant=pytest.fail)
    assert result["trials"][:2] == first["trials"]
    assert [trial["is_defaults"] for trial in result["trials"]] == [True, False, False]

    best = json.loads((out / "best.json").read_text())
    assert best == result["best"]
    assert best["valid_nll"] == min(trial["valid_nll"] for trial in result["trials"])
    parsed = cli.parse(diagnose.Config, shlex.split(best["command"])[2:])
    resolved = diagnose.resolve(parsed)
    assert parsed.network.model == model
    assert (resolved.network.train, resolved.training.epochs) == ("head", 2)
    assert resolved.training.learning_rate == best["options"]["learning_rate"]
    assert best["command"] in stdout
    assert str(out / "tune.html") in stdout

    tested = result["test"]
    for name, change in tested["change"].items():
        before, after = (tested["metrics"][x][name]["value"] for x in ("defaults", "best"))
        assert change["value"] == pytest.approx(after - before, abs=1e-9)
    page = (out / "tune.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    assert page.count("<img") == 1  # too few trials for an importance

    # Another configuration, or none, leaves everything as it was.
    code, _, stderr = _tune(*options, "--seed", "1", out=out)
    assert code == 2
    assert "different configuration" in stderr
    assert stderr.count("\n") == 1
    assert json.loads((out / "result.json").read_text()) == result


def test_what_the_page_says_of_many_trials(tmp_path):
    study, random = _study(tmp_path), np.random.default_rng(0)
    space = SPACE | {"weight_decay": FloatDistribution(1e-6, 1e-1, log=True)}
    defaults = {"learning_rate": 1e-3, "weight_decay": 1e-4}
    for i in range(12):
        params = {
            "learning_rate": 1e-3 if i == 0 else 10 ** random.uniform(-4, -2),
            "weight_decay": 1e-4 if i == 0 else 10 ** random.uniform(-6, -1),
        }
        attributes = {tune_study.DEFAULTS: i == 0, tune_study.FOLDER: str(i)}
        nll = 0.1 + abs(np.log10(params["learning_rate"] / 3e-3))
        state = TrialState.PRUNED if i == 5 else TrialState.COMPLETE
        trial = create_trial(
            state=state, value=nll, params=params, distributions=space, user_attrs=attributes
        )
        study.add_trial(trial)
    labels = random.integers(0, 2, 400)

    def log_probs(strength):
        logits = strength * (2 * np.eye(2)[labels] - 1) + random.normal(size=(400, 2))
        return (logits - np.logaddexp(*logits.T)[:, None])[None]

    draws = {"defaults": log_probs(0.3), "best": log_probs(1.0)}
    result = tune_result.describe(
        study=study,
        space=tune_space.Search(space, defaults),
        data={"name": "<b>photos</b>", "counts": {"train": 10, "valid": 5, "test": 400}},
        model={"description": "a head", "parameters": 12},
        method="point",
        seed=0,
        command="launch/run.sh experiments.diagnose",
        test=tune_result.compare_on_test(draws, labels, 0),
    )
    share = {name: option["importance"] for name, option in result["options"].items()}
    assert share["learning_rate"] > 0.9
    assert sum(share.values()) == pytest.approx(1)
    assert result["test"]["change"]["nll"]["high"] < 0
    assert "better there too" in tune_page.verdict(result)
    tune_page.write(tmp_path, result)
    page = (tmp_path / "tune.html").read_text(encoding="utf-8")
    assert page.count("<img") == 2
    assert "<b>photos" not in page
    assert page.count("stopped early") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--trials 0", "--trials 0: give 1 or more"),
        ("--trials many", "--trials many: not a whole number"),
        ("--minutes 0", "--minutes 0.0: give a number above 0"),
        ("--methods swagger", "there is no method swagger; choose from"),
        ("--methods swag,point", "--methods swag,point: give one method"),
        ("--methods point(rank=3)", "point has no option rank"),
        ("--learning_rate 0.1", "Unrecognized options: --learning_rate"),
        ("--epochs 0", "--epochs 0: give a number above 0"),
        ("--train head", "--train head: needs a trained network"),
        ("--model a.keras --weights imagenet", "--model and --weights: give one of them"),
        ("--data nowhere", "--data nowhere: no such folder"),
        ("--batch_size 12", "--batch_size 12: not a multiple of the 8 devices"),
    ],
)
def test_bad_input_is_one_line(tmp_path, arguments, words):
    code, stdout, stderr = _tune(*arguments.split(), out=tmp_path / "run")
    assert (code, stdout) == (2, "")
    assert words in stderr
    assert stderr.startswith("error: ")
    assert stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()
