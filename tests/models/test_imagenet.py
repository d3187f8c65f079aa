"""VGG16's weights in Keras' and torchvision's files, at a few channels."""

import hashlib
import time

import h5py
import jax
import numpy as np
import pytest
from safetensors.numpy import save_file
from scipy.signal import correlate2d

from research.models import chain, imagenet, vgg
from research.models.imagenet import CONVOLUTIONS, TOP, features, load_weights
from research.models.keras.file import import_keras_on_jax
from research.models.layers import Conv, Dense, Flatten
from research.models.parity import check_parity
from research.runtime.errors import UserError

CHANNELS = (2, 3, 2, 4, 3)
SIDE = 2  # of the map that fc1 sees; 7 in the published network


@pytest.fixture(scope="module")
def params():
    """A tiny VGG16 with top, in Keras' layout, whose ReLUs stay alive."""
    random, shapes, channels = np.random.default_rng(0), {}, 3
    for layer in vgg.convolutions():
        if isinstance(layer, Conv):
            features = CHANNELS[int(layer.name[5]) - 1]
            shapes[layer.name], channels = (3, 3, channels, features), features
    shapes |= {"fc1": (SIDE * SIDE * channels, 5), "fc2": (5, 6), "predictions": (6, 4)}
    return {
        name: {
            "kernel": random.normal(
                0.7 / np.prod(shape[:-1]), 1 / np.sqrt(np.prod(shape[:-1])), shape
            ).astype(np.float32),
            "bias": random.uniform(0, 0.3, shape[-1]).astype(np.float32),
        }
        for name, shape in shapes.items()
    }


def images(count=2, size=64):
    return np.random.default_rng(1).normal(0, 1, (count, size, size, 3)).astype(np.float32)


def assert_same(ours, theirs, names):
    assert tuple(ours) == tuple(names)
    for name in names:
        for part in ("kernel", "bias"):
            np.testing.assert_array_equal(ours[name][part], theirs[name][part])


def legacy_file(path, params, names):
    """As the published vgg16_weights_tf_dim_ordering_tf_kernels.h5 is laid out."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [name.encode() for name in names]
        for name in names:
            group = file.create_group(name)
            parts = [f"{name}_W_1:0", f"{name}_b_1:0"]
            group.attrs["weight_names"] = [part.encode() for part in parts]
            for part, value in zip(parts, params[name].values(), strict=True):
                group[part] = value
    return path


@pytest.mark.parametrize("with_top", [False, True])
@pytest.mark.parametrize("head_name", ["published", "asker"])
def test_legacy_keras_file(params, tmp_path, with_top, head_name):
    names = CONVOLUTIONS + (TOP if with_top else ())
    path = legacy_file(tmp_path / "weights.h5", params, names)
    ours, preprocess, _ = load_weights(str(path), head_name=head_name)
    assert preprocess == "caffe"
    assert_same(ours, params, names if head_name == "published" else CONVOLUTIONS)


def test_features_equal_keras(params, tmp_path):
    path = legacy_file(tmp_path / "weights.h5", params, CONVOLUTIONS)
    ours, _, reference = load_weights(str(path), head_name="asker")
    difference = check_parity("weights", path, features, ours, reference, images())
    assert difference < 1e-4
    assert np.asarray(reference(images())).std() > 0
    ours["block3_conv2"]["kernel"] = ours["block3_conv2"]["kernel"][..., ::-1]
    with pytest.raises(UserError, match="differs"):
        check_parity("weights", path, features, ours, reference, images())


@pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)
def test_keras_3_weights_file(params, tmp_path):
    """Written by Keras, of a model that holds VGG16 as a layer."""
    layers = import_keras_on_jax().layers
    network = import_keras_on_jax().Sequential([layers.Input((64, 64, 3))], name="vgg16")
    for name in CONVOLUTIONS:
        units = params[name]["bias"].size
        network.add(layers.Conv2D(units, 3, name=name, kernel_initializer="zeros"))
        network.layers[-1].set_weights(list(params[name].values()))
    model = import_keras_on_jax().Sequential([network, layers.Flatten(), layers.Dense(2)])
    model.save_weights(tmp_path / "model.weights.h5")
    ours, _, _ = load_weights(str(tmp_path / "model.weights.h5"), head_name="published")
    assert_same(ours, params, CONVOLUTIONS)


def torch_layout(params):
    """The same network as torchvision keeps it."""
    indices = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
    tensors = {}
    for i, name in zip(indices, CONVOLUTIONS, strict=True):
        kernel = params[name]["kernel"]  # [3, 3, I, O]
        tensors[f"features.{i}.weight"] = np.ascontiguousarray(kernel.transpose(3, 2, 0, 1))
        tensors[f"features.{i}.bias"] = params[name]["bias"]
    for i, name in zip((0, 3, 6), TOP, strict=True):
        tensors[f"classifier.{i}.weight"] = np.ascontiguousarray(params[name]["kernel"].T)
        tensors[f"classifier.{i}.bias"] = params[name]["bias"]
    return tensors


def torch_forward(tensors, image):
    """An independent forward pass of torchvision's layout on one image [3, H, W]: logits [K]."""
    x = image.astype(np.float64)
    pools = {4, 9, 16, 23, 30}
    for i in range(31):
        if f"features.{i}.weight" in tensors:
            kernel, bias = tensors[f"features.{i}.weight"], tensors[f"features.{i}.bias"]
            x = np.stack(
                [
                    sum(correlate2d(plane, k, "same") for plane, k in zip(x, ks, strict=True)) + b
                    for ks, b in zip(kernel, bias, strict=True)
                ]
            )
            x = np.maximum(x, 0)
        elif i in pools:
            c, h, w = x.shape
            x = x.reshape(c, h // 2, 2, w // 2, 2).max(axis=(2, 4))
    x = x.ravel()  # C, H, W
    for i in (0, 3, 6):
        x = tensors[f"classifier.{i}.weight"] @ x + tensors[f"classifier.{i}.bias"]
        x = np.maximum(x, 0) if i < 6 else x
    return x


def test_torchvision_file(params, tmp_path):
    """Logits equal those of a C, H, W forward pass, through fc1's permuted rows."""
    tensors = torch_layout(params)
    save_file(tensors, tmp_path / "vgg16.safetensors")
    ours, preprocess, reference = load_weights(
        str(tmp_path / "vgg16.safetensors"), head_name="published"
    )
    assert (preprocess, reference) == ("torch", None)
    assert tuple(ours) == CONVOLUTIONS + TOP
    maps = features(ours, images())  # [B, 2, 2, C]
    top = (
        Flatten(),
        Dense("fc1", 5, "relu"),
        Dense("fc2", 6, "relu"),
        Dense("predictions", 4),
    )
    logits = chain.Chain(top).apply({"params": chain.pick(ours, TOP)}, maps)
    expected = [torch_forward(tensors, image.transpose(2, 0, 1)) for image in images()]
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-6)
    assert np.ptp(expected, axis=0).max() > 0


def message_of(source):
    with pytest.raises(UserError) as caught:
        load_weights(str(source), head_name="published")
    message = str(caught.value)
    assert message.startswith(f"weights {source}: ")
    assert "\n" not in message
    return message


def test_bad_files(params, tmp_path):
    assert "no such file" in message_of(tmp_path / "absent.h5")
    assert "is a folder" in message_of(tmp_path)
    (tmp_path / "empty.h5").touch()
    assert "is empty" in message_of(tmp_path / "empty.h5")
    for name in ("text.h5", "text.pth"):
        (tmp_path / name).write_text("hello")
        assert "neither an HDF5 (.h5) nor a .safetensors file" in message_of(tmp_path / name)
    (tmp_path / "text.safetensors").write_text("hello, hello, hello")
    assert "cannot be read" in message_of(tmp_path / "text.safetensors")
    whole = legacy_file(tmp_path / "whole.h5", params, CONVOLUTIONS)
    (tmp_path / "short.h5").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    assert "cannot be read" in message_of(tmp_path / "short.h5")
    with h5py.File(whole, "r+") as file:
        file.attrs["model_config"] = "{}"
    assert "model" in message_of(whole)


def test_other_networks(params, tmp_path):
    path = legacy_file(tmp_path / "weights.h5", params, CONVOLUTIONS[:-1])
    assert "layer 'block5_conv3' of VGG16: no such layer" in message_of(path)
    wrong = params | {"block2_conv1": params["block2_conv2"]}
    path = legacy_file(tmp_path / "weights.h5", wrong, CONVOLUTIONS)
    assert "layer 'block2_conv1' of VGG16: shapes [(3, 3, 3, 3), (3,)]" in message_of(path)
    tensors = torch_layout(params)
    save_file({**tensors, "features.7.bias": np.zeros(9, np.float32)}, tmp_path / "a.safetensors")
    assert "layer 'block2_conv2'" in message_of(tmp_path / "a.safetensors")
    del tensors["features.10.weight"]
    save_file(tensors, tmp_path / "b.safetensors")
    assert "layer 'block3_conv1'" in message_of(tmp_path / "b.safetensors")
    tensors = torch_layout(params)
    tensors["classifier.0.weight"] = np.zeros((5, 7), np.float32)
    save_file(tensors, tmp_path / "c.safetensors")
    assert "cannot be read" in message_of(tmp_path / "c.safetensors")


def failed_download(**options):
    began = time.monotonic()
    with pytest.raises(UserError) as caught:
        imagenet.download(**options)
    message = str(caught.value)
    assert message.startswith("weights imagenet: cannot download ")
    assert "weights FILE.h5" in message
    assert "\n" not in message
    return time.monotonic() - began, message


def test_no_network(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    _, message = failed_download(url="http://nowhere.invalid/weights.h5")
    assert "<urlopen error" in message


def test_a_name_server_that_never_answers(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))

    def urlopen(*_, **__):
        time.sleep(5)
        raise OSError("too late")

    monkeypatch.setattr(imagenet.urllib.request, "urlopen", urlopen)
    seconds, message = failed_download(seconds=0.2)
    assert seconds < 2
    assert "no answer" in message


def test_download(params, tmp_path, monkeypatch):
    """From a file: URL: refused when damaged, kept under Keras' name, taken from there later."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    source = legacy_file(tmp_path / "weights.h5", params, CONVOLUTIONS)
    url, md5 = source.as_uri(), hashlib.md5(source.read_bytes()).hexdigest()
    _, message = failed_download(url=url, md5="0" * 32)
    assert "corrupted" in message
    kept = imagenet.download(url=url, md5=md5)
    assert kept == tmp_path / "home" / "models" / "weights.h5"
    source.unlink()
    assert imagenet.download(url=url, md5=md5) == kept
    ours, _, _ = load_weights(str(kept), head_name="asker")
    assert_same(ours, params, CONVOLUTIONS)
    assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(ours))
