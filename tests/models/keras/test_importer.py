"""Keras models of many shapes, saved by Keras, read by Candor: the same numbers."""

import jax
import numpy as np
import pytest

from research.models import parity, vgg
from research.models.keras import importer
from research.models.keras.file import import_keras_on_jax
from research.models.layers import BinaryLogit, Dense
from research.models.preprocess import PREPROCESS
from research.runtime.errors import UserError

# Keras' own code: numpy 2 asks its variables for an argument that they do not take.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)
CHANNELS = (2, 3, 4, 5, 4)


@pytest.fixture(scope="module")
def keras():
    return import_keras_on_jax()


def conv(keras, *arguments, **options):
    """A convolution born as zeros: to draw numbers, Keras compiles anew for every shape."""
    return keras.layers.Conv2D(*arguments, kernel_initializer="zeros", **options)


def dense(keras, *arguments, **options):
    return keras.layers.Dense(*arguments, kernel_initializer="zeros", **options)


@pytest.fixture(autouse=True)
def _rank_promotion():
    """Keras builds and runs its models by promoting ranks; ours are traced under "raise" below."""
    with jax.numpy_rank_promotion("allow"):
        yield


def randomise(model, seed=0):
    """Weights that keep most ReLUs alive, and normalisation statistics far from 0 and 1."""
    random = np.random.default_rng(seed)
    for variable in model.weights:
        shape = tuple(variable.shape)
        if variable.path.endswith("kernel"):
            fan_in = np.prod(shape[:-1])
            variable.assign(random.normal(0.7 / fan_in, 1 / np.sqrt(fan_in), shape))
        elif variable.dtype == "float32":
            variable.assign(random.uniform(0.2, 1.5, shape))


def vgg_layers(keras):
    layers = []
    for block, (repeats, _) in enumerate(vgg.BLOCKS, start=1):
        for i in range(1, repeats + 1):
            name = f"block{block}_conv{i}"
            features = CHANNELS[block - 1]
            options = {"padding": "same", "activation": "relu", "name": name}
            layers.append(conv(keras, features, 3, **options))
        layers.append(keras.layers.MaxPooling2D(name=f"block{block}_pool"))
    return layers


def in_line(tensor, layers):
    for layer in layers:
        tensor = layer(tensor)
    return tensor


def base(keras, size=32):
    image = keras.Input((size, size, 3))
    return keras.Model(image, in_line(image, vgg_layers(keras)), name="vgg16")


def asker(keras):
    layers = keras.layers
    image = keras.Input((128, 128, 3))
    x = base(keras, 128)(image)
    x = layers.AveragePooling2D((4, 4))(x)
    x = layers.Flatten(name="flatten")(x)
    x = dense(keras, 256, activation="relu")(x)
    x = layers.Dropout(0.5)(x)
    return keras.Model(image, dense(keras, 2, activation="softmax")(x))


def flat_functional(keras):
    image = keras.Input((32, 32, 3))
    x = in_line(image, vgg_layers(keras))
    x = keras.layers.Reshape((-1,))(x)
    return keras.Model(image, dense(keras, 3, activation="softmax")(x))


def flat_sequential_sigmoid(keras):
    layers = [keras.Input((32, 32, 3)), *vgg_layers(keras), keras.layers.Flatten()]
    return keras.Sequential([*layers, dense(keras, 1, activation="sigmoid")])


def nested_sequential(keras):
    layers = keras.layers
    augmentation = keras.Sequential(
        [layers.RandomFlip("horizontal"), layers.RandomRotation(0.1), layers.RandomZoom(0.1)],
        name="augmentation",
    )
    head = keras.Sequential(
        [
            dense(keras, 6, name="dense"),
            layers.BatchNormalization(),  # folded
            layers.ReLU(),
            layers.BatchNormalization(),  # an Affine: a ReLU lies between
            layers.GaussianDropout(0.3),
        ],
        name="head",
    )
    return keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            augmentation,
            layers.Rescaling(1 / 127.5, offset=-1),
            base(keras),
            layers.GlobalAveragePooling2D(),
            layers.BatchNormalization(),  # an Affine: no weights before it
            head,
            layers.Dropout(0.2),
            dense(keras, 4, name="dense"),  # the name occurs in the head too
            layers.Softmax(),
        ]
    )


def batch_norm_convolutions(keras):
    layers = keras.layers
    image = keras.Input((16, 16, 3))
    x = layers.Normalization(mean=[110.0, 120.0, 130.0], variance=[9.0, 16.0, 25.0])(image)
    x = conv(keras, 4, 3, strides=2, padding="same", use_bias=False)(x)
    x = layers.BatchNormalization(scale=False)(x)
    x = layers.Activation("relu")(x)
    x = layers.SpatialDropout2D(0.1)(x)
    x = conv(keras, 3, (2, 3), padding="valid", activation="tanh")(x)
    x = layers.BatchNormalization(center=False)(x)
    x = layers.AveragePooling2D(3, strides=2, padding="same")(x)
    x = layers.GlobalMaxPooling2D(keepdims=True)(x)
    x = layers.Flatten()(x)
    x = dense(keras, 3)(x)
    x = layers.BatchNormalization()(x)
    return keras.Model(image, layers.Activation("softmax")(x))


def preprocess_inside(keras):
    image = keras.Input((32, 32, 3))
    x = keras.applications.vgg16.preprocess_input(keras.layers.RandomFlip()(image))
    x = keras.layers.GlobalMaxPooling2D()(base(keras)(x, training=False))
    return keras.Model(image, dense(keras, 2, activation="softmax")(x))


def mixed_precision(keras):
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            conv(keras, 4, 3, activation="relu", dtype="mixed_float16"),
            layers.GlobalAveragePooling2D(),
            dense(keras, 3, dtype="mixed_float16"),
            layers.Activation("softmax", dtype="float32"),
        ]
    )


def softmax_operation(keras):
    model = small(keras, keras.layers.LeakyReLU(0.2), dense(keras, 2))
    return keras.Model(model.inputs[0], keras.ops.softmax(model.outputs[0]))


CHAINS = {
    # builder: (classes, image size, preprocessing, description)
    asker: (2, 128, None, "VGG16 with a head of 5 layers"),
    flat_functional: (3, 32, None, "VGG16 with a head of 2 layers"),
    flat_sequential_sigmoid: (2, 32, None, "VGG16 with a head of 2 layers"),
    nested_sequential: (4, 32, "raw", "VGG16 with a head of 7 layers"),
    batch_norm_convolutions: (3, 16, "raw", "a network of 9 layers"),
    preprocess_inside: (2, 32, "raw", "VGG16 with a head of 2 layers"),
    mixed_precision: (3, 8, None, "a network of 3 layers"),
    softmax_operation: (2, 8, None, "a network of 4 layers"),
}


def images_for(model, count=3):
    height, width = (size or 32 for size in model.input_shape[1:3])
    return np.random.default_rng(1).uniform(0, 255, (count, height, width, 3)).astype(np.float32)


def probabilities(logits):
    return np.asarray(jax.nn.softmax(logits, axis=-1))


def expected(model, images):
    """What the original, never saved and never stripped, says: [B, K] probabilities."""
    outputs = np.asarray(model(images, training=False))
    return np.concatenate([1 - outputs, outputs], axis=1) if outputs.shape[1] == 1 else outputs


def save(model, path):
    model.save(path)
    return path


def check(imported, model):
    """Ours equal the original and, to the limit of parity, Keras' logits; the images tell apart."""
    images = images_for(model)
    with jax.default_matmul_precision("highest"):  # as in check_parity, to compile only once
        theirs = expected(model, images)
        with jax.numpy_rank_promotion("raise"):
            difference = parity.check_parity(
                "model", "x", imported.raw_apply, imported.params, imported.reference, images
            )
            logits = np.asarray(jax.jit(imported.raw_apply)(imported.params, images))
    assert logits.shape == (len(images), imported.classes)
    assert np.ptp(logits, axis=0).max() > 1e-3 * np.abs(logits).max()
    assert difference < parity.PARITY
    assert isinstance(imported.layers[-1], Dense | BinaryLogit)
    np.testing.assert_allclose(probabilities(logits), theirs, rtol=0, atol=1e-4)


# Keras cannot load operations from the legacy format.
CASES = [(build, "keras") for build in CHAINS]
CASES += [(build, "h5") for build in (asker, flat_sequential_sigmoid, nested_sequential)]


@pytest.mark.parametrize(("build", "suffix"), CASES)
def test_chain(keras, tmp_path, build, suffix):
    model = build(keras)
    randomise(model)
    imported = importer.import_keras(save(model, tmp_path / f"model.{suffix}"))
    classes, size, preprocess, description = CHAINS[build]
    assert imported.layers is not None, imported.description
    assert (imported.classes, imported.image_size) == (classes, size)
    assert (imported.preprocess, imported.saturated_output) == (preprocess, False)
    assert imported.description == f"{description}, from model.{suffix}"
    assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(imported.params))
    check(imported, model)


def small(keras, *end, image=(8, 8, 3)):
    """A few layers with the given end."""
    stem = [conv(keras, 4, 3, activation="relu"), keras.layers.GlobalAveragePooling2D()]
    return keras.Sequential([keras.Input(image), *stem, *end])


def import_saved(model, path):
    randomise(model)
    return importer.import_keras(save(model, path))


@pytest.mark.parametrize("units", [1, 3])
def test_linear_end_is_logits_already(keras, tmp_path, units):
    model = small(keras, dense(keras, units))
    imported = import_saved(model, tmp_path / "model.keras")
    images = images_for(model)
    theirs = np.asarray(model(images, training=False))
    theirs = np.concatenate([0 * theirs, theirs], axis=1) if units == 1 else theirs
    ours = np.asarray(imported.raw_apply(imported.params, images))
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)
    assert imported.classes == max(2, units)


def test_augmentation_layers_are_identities(keras, tmp_path):
    layers = keras.layers
    augmentation = [
        layers.RandomFlip(),
        layers.RandomTranslation(0.2, 0.2),
        layers.RandomContrast(0.3),
        layers.RandomBrightness(0.3),
        layers.GaussianNoise(0.5),
    ]
    end = dense(keras, 2, activation="softmax")
    stem = [conv(keras, 4, 3, activation="relu"), layers.GlobalAveragePooling2D()]
    model = keras.Sequential([keras.Input((8, 8, 3)), *augmentation, *stem, end])
    imported = import_saved(model, tmp_path / "model.keras")
    assert len(imported.layers) == 3
    check(imported, model)


def test_dropout_is_kept_and_drawn_by_key(keras, tmp_path):
    model = small(keras, keras.layers.Dropout(0.5), dense(keras, 2, activation="softmax"))
    imported = import_saved(model, tmp_path / "model.keras")
    images = images_for(model)
    plain, again, drawn = (
        np.asarray(imported.raw_apply(imported.params, images, key))
        for key in (None, None, jax.random.key(0))
    )
    assert np.array_equal(plain, again)
    assert not np.allclose(plain, drawn)


def residual(keras):
    image = keras.Input((8, 8, 3))
    x = conv(keras, 3, 3, padding="same", activation="relu")(image)
    x = keras.layers.Add()([x, image])
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, dense(keras, 3, activation="softmax")(x))


def unknown_layer_and_sigmoid(keras):
    return small(keras, keras.layers.LayerNormalization(), dense(keras, 1, activation="sigmoid"))


def used_twice(keras):
    image, twice = keras.Input((8, 8, 3)), conv(keras, 3, 3, padding="same")
    x = keras.layers.Flatten()(twice(twice(image)))
    return keras.Model(image, dense(keras, 2, activation="softmax")(x))


def unknown_activation(keras):
    return small(keras, dense(keras, 4, activation="mish"), dense(keras, 2, activation="softmax"))


def channels_first(keras):
    layers = keras.layers
    image = keras.Input((3, 8, 8))
    x = conv(keras, 4, 3, activation="relu", data_format="channels_first")(image)
    x = layers.GlobalAveragePooling2D(data_format="channels_first")(x)
    return keras.Model(image, dense(keras, 2, activation="softmax")(x))


BLACK_BOXES = {
    residual: "its layer 'add",
    unknown_layer_and_sigmoid: "(LayerNormalization)",
    used_twice: "used twice",
    unknown_activation: "(Dense)",
    channels_first: "channels_first",
}


@pytest.mark.parametrize("build", BLACK_BOXES)
def test_black_box(keras, tmp_path, build):
    model = build(keras)
    randomise(model)
    imported = importer.import_keras(save(model, tmp_path / "model.keras"))
    assert imported.layers is None
    assert BLACK_BOXES[build] in imported.description
    assert not imported.saturated_output
    images = np.random.default_rng(1).uniform(0, 1, (3, 8, 8, 3)).astype(np.float32)
    theirs = expected(model, np.moveaxis(images, -1, 1) if build is channels_first else images)
    logits = np.asarray(jax.jit(imported.raw_apply)(imported.params, images))
    np.testing.assert_allclose(probabilities(logits), theirs, rtol=0, atol=1e-5)
    assert np.ptp(theirs[:, 0]) > 0
    arguments = (imported.raw_apply, imported.params, imported.reference, images)
    with jax.numpy_rank_promotion("raise"):
        assert parity.check_parity("model", "x", *arguments) < parity.PARITY


def test_probabilities_without_logits_are_called_saturated(keras, tmp_path):
    """The mean of two softmaxes has no logits to give back."""
    image = keras.Input((8, 8, 3))
    x = keras.layers.Flatten()(image)
    halves = [dense(keras, 3, activation="softmax")(x) for _ in range(2)]
    model = keras.Model(image, keras.layers.Average()(halves))
    imported = import_saved(model, tmp_path / "model.keras")
    assert imported.saturated_output
    assert imported.layers is None
    images = images_for(model)
    logits = np.asarray(imported.raw_apply(imported.params, images))
    assert np.isfinite(logits).all()
    np.testing.assert_allclose(probabilities(logits), expected(model, images), atol=1e-6)


def test_parity_fails_with_other_weights(keras, tmp_path):
    model = small(keras, dense(keras, 2, activation="softmax"))
    imported = import_saved(model, tmp_path / "model.keras")
    name = imported.layers[-1].name
    params = imported.params | {name: {**imported.params[name], "bias": np.ones(2, np.float32) * 9}}
    arguments = (imported.raw_apply, params, imported.reference, images_for(model))
    with pytest.raises(
        UserError, match=r"model photo\.keras: .* differs .*e[-+]\d\d .*limit 1e-04"
    ):
        parity.check_parity("model", "photo.keras", *arguments)


@pytest.mark.parametrize("truth", ["caffe", "unit", "symmetric", "torch", "raw"])
def test_preprocessing_is_found_out(truth):
    """Labels drawn from what the model says after one of them: the others explain them less."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (1000, 4, 4, 3)).astype(np.uint8)
    prepared = np.asarray(PREPROCESS[truth](images))
    weights = random.normal(0, 1, (48, 3)).astype(np.float32) / prepared.std()

    def apply(params, x):
        return 0.5 * (x.reshape(len(x), -1) @ params - prepared.mean() * params.sum(0)[None])

    logits = np.asarray(apply(weights, prepared))
    labels = np.argmax(logits + random.gumbel(size=logits.shape), axis=-1)
    name, scores = importer.choose_preprocess(apply, weights, images, labels, batch_size=300)
    assert set(scores) == set(PREPROCESS)
    assert name == truth
    assert scores[truth][0] == np.mean(logits.argmax(-1) == labels)
    entropy = -np.mean(np.log(probabilities(logits))[np.arange(1000), labels])
    assert scores[truth][1] == pytest.approx(entropy, rel=1e-5)
