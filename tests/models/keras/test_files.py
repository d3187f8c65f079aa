"""Files that are no model, or a model with code in it: one line each, and nothing is run."""

import json
import shutil
import subprocess
import sys
import zipfile

import h5py
import numpy as np
import pytest

from research.models import parity
from research.models.keras import importer
from research.models.keras.file import import_keras_on_jax
from research.runtime.errors import UserError

# Keras' own code: numpy 2 asks its variables for an argument that they do not take.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)


@pytest.fixture(scope="module")
def keras():
    return import_keras_on_jax()


def small(keras, *middle, image=(8, 8, 3), end="softmax", units=2):
    """A tiny classifier with layers of one's choice in the middle."""
    layers = keras.layers
    head = [layers.GlobalAveragePooling2D(), layers.Dense(units, activation=end, name="dense")]
    return keras.Sequential([keras.Input(image), *middle, *head])


@pytest.fixture(scope="module")
def files(keras, tmp_path_factory):
    """One good model in both formats, and its weights alone."""
    folder = tmp_path_factory.mktemp("good")
    model = small(keras, keras.layers.Conv2D(2, 3, name="conv"))
    for name in ("model.keras", "model.h5"):
        model.save(folder / name)
    model.save_weights(folder / "model.weights.h5")
    return folder


def message_of(path):
    """The one line with which a file is refused."""
    with pytest.raises(UserError) as caught:
        importer.import_keras(path)
    message = str(caught.value)
    assert message.startswith(f"model {path}: ")
    assert "\n" not in message
    return message


def truncated(source, target):
    content = source.read_bytes()
    target.write_bytes(content[: len(content) * 2 // 3])
    return target


def test_what_is_no_file(tmp_path):
    assert "no such file" in message_of(tmp_path / "absent.keras")
    assert "is a folder" in message_of(tmp_path)
    empty = tmp_path / "empty.keras"
    empty.touch()
    assert "is empty" in message_of(empty)


def test_what_is_no_model(files, tmp_path):
    text = tmp_path / "text.h5"
    text.write_text("not a model")
    assert "neither a .keras (zip) nor an .h5 (HDF5) file" in message_of(text)
    other = tmp_path / "other.keras"
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert "without config.json" in message_of(other)
    table = tmp_path / "table.h5"
    with h5py.File(table, "w") as file:
        file["x"] = np.arange(3)
    assert "without a Keras model" in message_of(table)
    assert "with weights" in message_of(files / "model.weights.h5")
    legacy_weights = tmp_path / "legacy.h5"
    with h5py.File(files / "model.h5") as source, h5py.File(legacy_weights, "w") as target:
        for name, value in source["model_weights"].attrs.items():
            target.attrs[name] = value
    assert "with weights" in message_of(legacy_weights)


@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
def test_cut_short(files, tmp_path, name):
    assert "again" in message_of(truncated(files / name, tmp_path / name))


def rewritten(source, target, change):
    """A copy of a `.keras` file whose config went through `change`."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, change(content) if name == "config.json" else content)
    return target


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff", b'{"class_name": "Sequential"}'])
def test_damaged_config(files, tmp_path, content):
    path = rewritten(files / "model.keras", tmp_path / "model.keras", lambda _: content)
    assert "cannot load it" in message_of(path)


def test_keras_2_archive(files, tmp_path):
    """Keras 2.13 to 2.15 wrote this module, which Keras 3 does not have."""

    def change(content):
        config = json.loads(content) | {"module": "keras.src.engine.functional"}
        return json.dumps(config | {"class_name": "Functional"})

    path = rewritten(files / "model.keras", tmp_path / "model.keras", change)
    assert "of Keras 2, which Keras 3 cannot read; save it there as model.h5" in message_of(path)


def test_weights_missing_in_the_archive(files, tmp_path):
    path = tmp_path / "model.keras"
    with zipfile.ZipFile(files / "model.keras") as old, zipfile.ZipFile(path, "w") as new:
        new.writestr("config.json", old.read("config.json"))
    assert "cannot load it" in message_of(path)


def test_hdf5_under_the_other_name(files, tmp_path):
    """Old versions of Keras wrote HDF5 into a file called .keras."""
    path = tmp_path / "old.keras"
    shutil.copy(files / "model.h5", path)
    ours, theirs = (importer.import_keras(x).params for x in (path, files / "model.keras"))
    np.testing.assert_array_equal(ours["conv"]["kernel"], theirs["conv"]["kernel"])


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_lambda_is_not_run(keras, tmp_path, suffix):
    marker, path = tmp_path / "ran", tmp_path / f"model.{suffix}"
    code = keras.layers.Lambda(
        eval(f"lambda x: (open({str(marker)!r}, 'w').close(), x)[1]"), name="trick"
    )
    nested = keras.Sequential([keras.Input((8, 8, 3)), code], name="inner")
    small(keras, nested).save(path)
    marker.unlink()
    message = message_of(path)
    assert "layer 'trick' (Lambda) holds code" in message
    assert not marker.exists()
    if suffix == "keras":  # the file is a real danger: without safe mode it does run
        keras.models.load_model(path, safe_mode=False)
        assert marker.exists()


def test_registered_class_of_this_process_is_not_used(keras, tmp_path):
    built = []

    @keras.saving.register_keras_serializable(package="candor_test")
    class Spy(keras.layers.Layer):
        def __init__(self, **options):
            built.append(self)
            super().__init__(**options)

        def call(self, x):
            return x

    for name in ("model.keras", "model.h5"):
        small(keras, Spy(name="spy")).save(tmp_path / name)
        built.clear()
        message = message_of(tmp_path / name)
        assert "Spy'" in message
        assert not built


def test_custom_activation_function(keras, tmp_path):
    def twice(x):
        return 2 * x

    small(keras, keras.layers.Conv2D(2, 3, activation=twice, name="odd")).save(tmp_path / "m.keras")
    assert "layer 'odd' uses 'twice'" in message_of(tmp_path / "m.keras")


@pytest.mark.parametrize(
    "planted",
    [
        {"module": "os", "class_name": "system", "config": {"command": "touch ran"}},
        {"module": "os", "class_name": "function", "config": "system"},
        {"module": "keras.utils", "class_name": "function", "config": "get_file"},
        {"module": "keras.models", "class_name": "function", "config": "load_model"},
        {"module": "keras.src.utils.file_utils", "class_name": "get_file", "config": {}},
        {"module": "keras.layers", "class_name": "TFSMLayer", "config": {"filepath": "x"}},
        {"module": "keras.layers", "class_name": "Dense", "registered_name": "p>D", "config": {}},
        {"class_name": "__lambda__", "config": {"value": "x"}},
        {"module": "builtins", "class_name": "function", "config": "eval"},
        {"class_name": "Unheard", "config": {}},
        {"class_name": ["Lambda"], "config": {}},
    ],
)
def test_planted_objects_never_reach_keras(files, keras, tmp_path, planted, monkeypatch):
    """As an activation, deep inside a layer's config."""

    def plant(content):
        config = json.loads(content)
        config["config"]["layers"][1]["config"]["activation"] = planted
        return json.dumps(config)

    path = rewritten(files / "model.keras", tmp_path / "model.keras", plant)
    loaded = []
    monkeypatch.setattr(keras.models, "load_model", lambda *_, **__: loaded.append(1))
    message = message_of(path)
    assert not loaded
    is_text = isinstance(planted["class_name"], str)
    assert ("layer 'conv'" if is_text else "cannot load it") in message


def test_loss_of_ones_own_is_no_obstacle(keras, tmp_path):
    def own_loss(y, p):
        return keras.ops.mean((y - p) ** 2)

    model = small(keras)
    model.compile(loss=own_loss)
    model.save(tmp_path / "model.keras")
    assert importer.import_keras(tmp_path / "model.keras").classes == 2


def two_inputs(keras):
    a, b = keras.Input((8, 8, 3)), keras.Input((8, 8, 3))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Add()([a, b]))
    return keras.Model([a, b], keras.layers.Dense(2)(x))


def vectors(keras):
    return keras.Sequential([keras.Input((5,)), keras.layers.Dense(2)])


NOT_CLASSIFIERS = [
    (two_inputs, "from one image to one answer"),
    (vectors, "from one image to one answer"),
    (lambda keras: small(keras, image=(8, 8, 1)), "square RGB images"),
    (lambda keras: small(keras, image=(8, 6, 3)), "square RGB images"),
    (lambda keras: keras.Sequential([keras.Input((8, 8, 3)), keras.layers.ReLU()]), "weights"),
    (lambda keras: small(keras, end="sigmoid", units=3), "3 sigmoid unit"),
    (lambda keras: small(keras, units=1), "1 softmax unit"),
    (lambda keras: keras.Sequential([keras.layers.Dense(2)]), "no shapes"),
]


@pytest.mark.parametrize(("build", "expected"), NOT_CLASSIFIERS)
@pytest.mark.filterwarnings("ignore:You are saving a model that has not yet been built:UserWarning")
def test_no_classifier_of_images(keras, tmp_path, build, expected):
    build(keras).save(tmp_path / "model.keras")
    message = message_of(tmp_path / "model.keras")
    assert expected in message


KERAS_2 = {
    "class_name": "Functional",
    "keras_version": "2.4.0",
    "backend": "tensorflow",
    "config": {
        "name": "model",
        "input_layers": [["input_1", 0, 0]],
        "output_layers": [["dense", 0, 0]],
        "layers": [
            {
                "class_name": "InputLayer",
                "name": "input_1",
                "inbound_nodes": [],
                "config": {
                    "batch_input_shape": [None, 8, 8, 3],
                    "dtype": "float32",
                    "sparse": False,
                    "ragged": False,
                    "name": "input_1",
                },
            },
            {
                "class_name": "Conv2D",
                "name": "conv",
                "inbound_nodes": [[["input_1", 0, 0, {}]]],
                "config": {
                    "name": "conv",
                    "trainable": True,
                    "dtype": "float32",
                    "filters": 2,
                    "kernel_size": [3, 3],
                    "kernel_initializer": {"class_name": "GlorotUniform", "config": {"seed": None}},
                    "bias_initializer": {"class_name": "Zeros", "config": {}},
                    "groups": 1,
                },
            },
            {
                "class_name": "GlobalAveragePooling2D",
                "name": "pool",
                "inbound_nodes": [[["conv", 0, 0, {}]]],
                "config": {"name": "pool", "dtype": "float32", "data_format": "channels_last"},
            },
            {
                "class_name": "Dense",
                "name": "dense",
                "inbound_nodes": [[["pool", 0, 0, {}]]],
                "config": {
                    "name": "dense",
                    "units": 2,
                    "activation": "softmax",
                    "kernel_initializer": {"class_name": "GlorotUniform", "config": {"seed": None}},
                },
            },
        ],
    },
}


def test_config_as_tensorflow_2_3_wrote_it(files, tmp_path):
    path = tmp_path / "old.h5"
    shutil.copy(files / "model.h5", path)
    with h5py.File(path, "r+") as file:
        file.attrs["model_config"] = json.dumps(KERAS_2).encode()
    old, new = importer.import_keras(path), importer.import_keras(files / "model.h5")
    assert old.layers == new.layers
    images = np.random.default_rng(0).uniform(0, 1, (2, 8, 8, 3)).astype(np.float32)
    np.testing.assert_array_equal(old.reference(images), new.reference(images))
    arguments = (old.raw_apply, old.params, old.reference, images)
    assert parity.check_parity("model", "old.h5", *arguments) < parity.PARITY


def test_keras_is_imported_only_where_it_is_needed():
    code = "import sys, research.models.keras.importer; sys.exit('keras' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
