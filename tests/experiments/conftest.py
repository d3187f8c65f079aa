"""The command run in this process, and small things to give it."""

import io
import json
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import pytest
from PIL import Image

from experiments import cli, diagnose
from research.diagnosis import diagnose as causes
from research.diagnosis.causes import shortcut
from research.models.keras.file import import_keras_on_jax

QUICK_CAUSES = ("double_softmax", "permuted_classes", "too_few_images", "well_calibrated")


class Ran(NamedTuple):
    """What a command did."""

    code: int
    stdout: str
    stderr: str
    out: Path

    def result(self) -> dict:
        """result.json, which must be JSON as the standard has it, without NaN."""
        assert self.code == 0, self.stderr
        text = (self.out / "result.json").read_text()
        return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in result.json"))

    def predictions(self) -> dict[str, np.ndarray]:
        """The arrays of predictions.npz."""
        with np.load(self.out / "predictions.npz", allow_pickle=False) as file:
            return dict(file)


@pytest.fixture(scope="session")
def run_diagnose() -> Callable[..., Ran]:
    """run_diagnose(*arguments, out=folder): `python -m experiments.diagnose` without the start."""

    def run(*arguments, out: Path, all_causes: bool = False) -> Ran:
        streams = [io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2)]
        code = 0
        with (
            pytest.MonkeyPatch.context() as patch,
            redirect_stdout(streams[0]),
            redirect_stderr(streams[1]),
        ):
            patch.setattr(shortcut, "MOST_IMAGES", 20)  # 37 looks at each
            if not all_causes:  # they have tests of their own, and refits take seconds
                patch.setattr(causes, "cause_names", lambda: QUICK_CAUSES)
            patch.setattr(sys, "argv", ["diagnose", *map(str, arguments), "--out", str(out)])
            try:
                cli.run(diagnose.main, diagnose.Config)
            except SystemExit as stop:
                code = stop.code
        return Ran(code, *(stream.buffer.getvalue().decode() for stream in streams), out)

    return run


@pytest.fixture(scope="session")
def make_photos() -> Callable[..., Path]:
    """make_photos(root, {"good": 20, ...}): JPEG files, the classes told apart by brightness."""

    def make(root: Path, counts: dict[str, int], size: int = 36) -> Path:
        random = np.random.default_rng(0)
        for i, (name, count) in enumerate(counts.items()):
            (root / name).mkdir(parents=True)
            for j in range(count):
                pixels = random.integers(0, 128, (size, size, 3), dtype=np.uint8) + np.uint8(60 * i)
                Image.fromarray(pixels).save(root / name / f"{j:03}.jpg")
        return root

    return make


@pytest.fixture(scope="session")
def photos(make_photos, tmp_path_factory) -> Path:
    """43 images of two classes: no split of them is a multiple of a batch."""
    return make_photos(tmp_path_factory.mktemp("data") / "photos", {"bad": 20, "good": 23})


@pytest.fixture(scope="session")
def keras_model(tmp_path_factory) -> Callable[..., Path]:
    """keras_model(name, middle=None, units=2, size=32): a tiny saved classifier, the layers of
    `middle(keras.layers)` between pooling and softmax."""
    folder = tmp_path_factory.mktemp("models")

    def make(name: str, middle=None, units: int = 2, size: int = 32) -> Path:
        keras = import_keras_on_jax()
        layers = keras.layers
        with jax.numpy_rank_promotion("allow"):  # Keras' own code promotes ranks
            image = keras.Input((size, size, 3))
            x = layers.Conv2D(3, 5, strides=3, activation="relu", kernel_initializer="zeros")(image)
            x = layers.GlobalAveragePooling2D()(x)
            for layer in middle(layers) if middle else ():
                x = layer(x)
            x = layers.Dense(units, activation="softmax", kernel_initializer="zeros")(x)
            model = keras.Model(image, x)
            random = np.random.default_rng(0)
            for variable in model.trainable_variables:
                scale = 0.3 / np.sqrt(np.prod(variable.shape[:-1]))
                variable.assign(scale * random.normal(size=variable.shape))
            model.save(folder / name)
        return folder / name

    return make
