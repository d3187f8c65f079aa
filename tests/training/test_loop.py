"""The training loop: resume to the bit, best state, early stop, and stopping when it diverges."""

import json
import os
import signal

import jax
import numpy as np
import optax
import pytest
from PIL import Image

from research.data.dataset import Dataset, Split
from research.data.streamed import StreamedImages
from research.methods.ensemble import ensemble
from research.methods.mc_dropout import mc_dropout
from research.methods.point import point
from research.models import chain
from research.models.layers import Conv, Dense, Dropout, Flatten, Pool
from research.models.preprocess import PREPROCESS
from research.runtime import checkpoint
from research.runtime.errors import Interrupted, UserError
from research.runtime.mesh import data_mesh
from research.runtime.progress import Progress
from research.runtime.run import Run
from research.training.loop import TrainingPlan, train

SIZE, EXAMPLES, BATCH, EPOCHS = 8, 44, 16, 5
LAYERS = (
    Conv("conv", 4),
    Pool("max"),
    Flatten(),
    Dropout(0.3),
    Dense("predictions", 2),
)
SCHEDULE = optax.cosine_decay_schedule(0.05, 100)
STEPS_AN_EPOCH = EXAMPLES // BATCH
PLAN = TrainingPlan(
    num_steps=EPOCHS * STEPS_AN_EPOCH,
    batch_size=BATCH,
    schedule=SCHEDULE,
    evaluate_every=STEPS_AN_EPOCH,
    patience=100,
    flip=True,
    crop=1,
    save_seconds=0.0,
)


class PowerCut(Exception):
    """What stops a run without warning."""


def _split(seed, n):
    generator = np.random.default_rng(seed)
    labels = (np.arange(n) % 2).astype(np.int32)
    brightness = 100 + 60 * labels[:, None, None, None]
    images = generator.normal(brightness, 60, (n, SIZE, SIZE, 3)).clip(0, 255).astype(np.uint8)
    return Split(images, labels, np.arange(n).astype(str))


@pytest.fixture(scope="module")
def dataset():
    """Bright and dark noise; the last training batch of an epoch is a partial one."""
    return Dataset("noise", ("dark", "bright"), _split(0, EXAMPLES), _split(1, 21), _split(2, 21))


def _model():
    return chain.as_model(chain.Chain(LAYERS), PREPROCESS["unit"])


def _method(schedule=SCHEDULE):
    return point(_model(), optax.adam(schedule))


def _train(dataset, directory, method=None, plan=PLAN, schedule=SCHEDULE):
    method = method or _method(schedule)
    run = Run(directory, data_mesh(), 7)
    plan = plan._replace(schedule=schedule)
    return train(jax.random.key(7), method, dataset, plan, run)


def _rows(directory):
    rows = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k != "steps_per_second"} for row in rows]


def _assert_equal_to_the_bit(one, other):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def _cut_power_at(monkeypatch, step):
    taken = 0

    def advance(self):
        nonlocal taken
        taken += 1
        if taken == step:
            raise PowerCut

    monkeypatch.setattr(Progress, "advance", advance)


@pytest.fixture(scope="module")
def uninterrupted(dataset, tmp_path_factory):
    """A run that nothing disturbs, and its folder."""
    directory = tmp_path_factory.mktemp("uninterrupted")
    return _train(dataset, directory), directory


def test_a_killed_run_goes_on_and_equals_one_never_stopped(
    dataset, uninterrupted, tmp_path, monkeypatch
):
    expected, directory = uninterrupted
    with monkeypatch.context() as patch:
        _cut_power_at(patch, 7)  # in the middle of an epoch, after the save of step 6
        with pytest.raises(PowerCut):
            _train(dataset, tmp_path)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 8, "lo')  # the power went in the middle of a row
    resumed = _train(dataset, tmp_path)
    _assert_equal_to_the_bit(resumed.state, expected.state)
    assert resumed[1:4] == expected[1:4]
    assert _rows(tmp_path) == _rows(directory)


def test_a_stop_signal_saves_in_mid_epoch_and_interrupts(
    dataset, uninterrupted, tmp_path, monkeypatch
):
    expected, _ = uninterrupted
    advance, taken = Progress.advance, []

    def stop_at_5(self):
        taken.append(1)
        if len(taken) == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        advance(self)

    with monkeypatch.context() as patch:
        patch.setattr(Progress, "advance", stop_at_5)
        with pytest.raises(Interrupted, match="saved at step 5: the same command") as stopped:
            _train(dataset, tmp_path)
    assert stopped.value.signal_number == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    checkpoints = checkpoint.open_checkpoints(tmp_path / "checkpoints")
    assert checkpoints.latest.step == 5
    checkpoints.close()
    _assert_equal_to_the_bit(_train(dataset, tmp_path).state, expected.state)


def test_an_ensemble_resumes_to_the_bit(dataset, tmp_path, monkeypatch):
    method = ensemble(mc_dropout(_model(), optax.adam(SCHEDULE), num_samples=3))
    expected = _train(dataset, tmp_path / "whole", method)
    with monkeypatch.context() as patch:
        _cut_power_at(patch, 5)
        with pytest.raises(PowerCut):
            _train(dataset, tmp_path / "cut", method)
    _assert_equal_to_the_bit(_train(dataset, tmp_path / "cut", method).state, expected.state)


def test_streamed_images_train_to_the_same_bit(dataset, uninterrupted, tmp_path):
    pixels = dataset.train.images
    rows = np.arange(len(pixels))
    streamed = StreamedImages(lambda i: Image.fromarray(pixels[i]), rows, SIZE)
    again = dataset._replace(train=dataset.train._replace(images=streamed))
    _assert_equal_to_the_bit(_train(again, tmp_path).state, uninterrupted[0].state)


def test_the_best_state_is_returned_and_training_stops_early(dataset, tmp_path):
    # Labels of the validation split are turned round, so that learning makes it worse.
    wrong = dataset._replace(valid=dataset.valid._replace(labels=1 - dataset.valid.labels))
    plan = PLAN._replace(num_steps=100, patience=3)
    trained = _train(wrong, tmp_path, plan=plan)
    rows = _rows(tmp_path)
    nll = [row["valid_nll"] for row in rows]
    assert trained.steps < 100
    assert len(rows) == int(np.argmin(nll)) + 1 + plan.patience
    assert trained.best_step == rows[int(np.argmin(nll))]["step"]
    log_probs = _method().apply(trained.state.params, wrong.valid.images)
    found = -np.mean(np.asarray(log_probs)[np.arange(21), wrong.valid.labels])
    assert found == pytest.approx(min(nll), rel=1e-5)
    # The same command again has nothing left to do.
    again = _train(wrong, tmp_path, plan=plan)
    assert _rows(tmp_path) == rows
    _assert_equal_to_the_bit(again.state, trained.state)


def test_divergence_stops_at_once_and_keeps_the_last_good_state(dataset, tmp_path):
    def schedule(step):
        return jax.numpy.where(step < 6, 0.05, 1e38)

    method = point(_model(), optax.sgd(schedule))
    with pytest.raises(UserError, match=r"step (7|8), learning rate 1e\+38.*of step 6, is kept"):
        _train(dataset, tmp_path, method, schedule=schedule)
    # What is kept loads, and is finite.
    kept = _train(dataset, tmp_path, method, PLAN._replace(num_steps=6), schedule)
    assert kept.steps == 6
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(kept.state))


def test_a_training_does_not_go_on_with_other_images(dataset, tmp_path):
    plan = PLAN._replace(num_steps=2)
    _train(dataset._replace(fingerprint="a"), tmp_path, plan=plan)
    with pytest.raises(UserError, match="have changed since training began"):
        _train(dataset._replace(fingerprint="b"), tmp_path, plan=plan)
    _train(dataset._replace(fingerprint="a"), tmp_path, plan=plan)


def test_batches_that_cannot_be_are_errors(dataset, tmp_path):
    with pytest.raises(UserError, match=r"^batch_size 12: .* 8 devices"):
        _train(dataset, tmp_path, plan=PLAN._replace(batch_size=12))
    with pytest.raises(UserError, match=r"^batch_size 48: .* 44 training images"):
        _train(dataset, tmp_path, plan=PLAN._replace(batch_size=48))


def test_the_log_holds_losses_rates_and_validation_metrics(uninterrupted):
    _, directory = uninterrupted
    rows = _rows(directory)
    assert [row["step"] for row in rows] == list(
        range(STEPS_AN_EPOCH, PLAN.num_steps + 1, STEPS_AN_EPOCH)
    )
    wanted = {"loss", "learning_rate", "valid_nll", "valid_accuracy", "valid_confidence", "epoch"}
    assert wanted <= set(rows[0])
    events = b"".join(path.read_bytes() for path in (directory / "tensorboard").iterdir())
    assert b"valid_nll" in events
