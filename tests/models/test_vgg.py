"""VGG16: exact sizes, exact convolutions, clear errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from research.models import chain
from research.models.convolution import convolve, patches_convolution
from research.models.layers import Conv, Pool, cut
from research.models.preprocess import PREPROCESS
from research.models.vgg import VGG16
from research.runtime.errors import UserError


def _random_params(network, size):
    """Weights of a sensible scale, without waiting for XLA to compile the initialisation."""
    shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, size, size, 3)))
    generator = np.random.default_rng(0)

    def draw(leaf):
        scale = np.sqrt(2 / max(1, np.prod(leaf.shape[:-1])))
        return (scale * generator.normal(size=leaf.shape)).astype(np.float32)

    return jax.tree.map(draw, shapes["params"])


@pytest.mark.parametrize(
    ("network", "size", "expected"),
    [
        (VGG16(1000, "published"), 224, 138_357_544),
        (VGG16(None), 32, 14_714_688),
        (VGG16(10, "cifar"), 32, 15_245_130),
        (VGG16(2, "asker"), 128, 14_714_688 + 512 * 256 + 256 + 256 * 2 + 2),
    ],
)
def test_parameter_counts_are_the_published_ones(network, size, expected):
    shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, size, size, 3)))
    assert chain.count(shapes) == expected


def test_layer_names_are_keras_names():
    shapes = jax.eval_shape(
        VGG16(5, "published").init, jax.random.key(0), jnp.zeros((1, 32, 32, 3))
    )
    blocks = [
        f"block{b}_conv{i}" for b, n in enumerate((2, 2, 3, 3, 3), 1) for i in range(1, n + 1)
    ]
    assert set(shapes["params"]) == {*blocks, "fc1", "fc2", "predictions"}


@pytest.mark.parametrize(("head", "size"), [("cifar", 31), ("asker", 127)])
def test_an_image_too_small_for_the_pools_is_a_clear_error(head, size):
    network = VGG16(10, head, width=0.05)
    with pytest.raises(UserError, match="image_size"):
        jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, size, size, 3)))


@pytest.mark.parametrize("size", [33, 50])
def test_any_size_that_the_pools_allow(size):
    network = VGG16(3, "cifar", width=0.05)
    images = jnp.ones((2, size, size, 3))
    shape = jax.eval_shape(lambda key: network.init_with_output(key, images)[0], jax.random.key(0))
    assert shape.shape == (2, 3)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_patches_equal_the_convolution_to_float32_rounding(size):
    image_key, kernel_key = jax.random.split(jax.random.key(size))
    images = jax.random.normal(image_key, (4, size, size, 32))
    kernel = jax.random.normal(kernel_key, (3, 3, 32, 48))
    numbers = ("NHWC", "HWIO", "NHWC")
    expected = lax.conv_general_dilated(images, kernel, (1, 1), "SAME", dimension_numbers=numbers)
    # A sum of n products in another order differs by about sqrt(n) roundings of its terms.
    bound = 4 * np.sqrt(9 * 32) * np.finfo(np.float32).eps * np.abs(expected).max()
    np.testing.assert_allclose(patches_convolution(images, kernel), expected, atol=bound, rtol=0)


def test_other_convolutions_do_not_go_through_patches():
    images, numbers = jnp.ones((1, 3, 3, 2)), ("NHWC", "HWIO", "NHWC")
    for kernel, strides, padding in (
        (jnp.ones((1, 1, 2, 4)), (1, 1), "SAME"),
        (jnp.ones((3, 3, 2, 4)), (2, 2), "SAME"),
        (jnp.ones((3, 3, 2, 4)), (1, 1), "VALID"),
    ):
        options = {"dimension_numbers": numbers}
        expected = lax.conv_general_dilated(images, kernel, strides, padding, **options)
        np.testing.assert_array_equal(
            convolve(images, kernel, strides, padding, **options), expected
        )


def test_tiny_maps_use_patches_under_vmap_and_gradients_agree():
    images = jax.random.normal(jax.random.key(0), (2, 5, 2, 2, 3))
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 3, 4))
    options = {"dimension_numbers": ("NHWC", "HWIO", "NHWC")}

    def loss(run, kernel):
        return jnp.sum(
            jnp.sin(jax.vmap(lambda x: run(x, kernel, (1, 1), "SAME", **options))(images))
        )

    ours, theirs = (
        jax.grad(lambda k, run=run: loss(run, k))(kernel)
        for run in (convolve, lax.conv_general_dilated)
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    text = jax.jit(lambda x: convolve(x, kernel, (1, 1), "SAME", **options)).lower(images[0])
    assert "stablehlo.convolution" not in text.as_text()


def test_bfloat16_computes_low_and_keeps_parameters_and_logits_high():
    images = jax.random.uniform(jax.random.key(0), (4, 32, 32, 3))
    network = VGG16(10, "cifar", width=0.1, dtype=jnp.bfloat16)
    params = _random_params(network, 32)
    logits = jax.jit(network.apply)({"params": params}, images)
    exact = jax.jit(VGG16(10, "cifar", width=0.1).apply)({"params": params}, images)
    shapes = jax.eval_shape(network.init, jax.random.key(0), images)
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {jnp.dtype("float32")}
    assert logits.dtype == jnp.float32
    assert np.abs(logits - exact).max() > 0  # it did compute in bfloat16 ...
    # ... whose rounding is 2^-8; it grows with the 16 layers.
    np.testing.assert_allclose(logits, exact, atol=16 * 2**-8 * np.abs(exact).max())


def test_dropout_needs_a_key():
    images = jnp.ones((2, 32, 32, 3), jnp.uint8)
    network = VGG16(4, "cifar", width=0.1)
    model, params = chain.as_model(network, PREPROCESS["unit"]), _random_params(network, 32)
    quiet = model.apply(params, images)
    np.testing.assert_array_equal(quiet, model.apply(params, images))
    noisy = model.apply(params, images, jax.random.key(1))
    assert np.abs(noisy - quiet).max() > 0
    np.testing.assert_array_equal(noisy, model.apply(params, images, jax.random.key(1)))


def test_base_and_head_cut_apart_give_the_whole_network():
    network = VGG16(4, "asker", width=0.05)
    images = jax.random.uniform(jax.random.key(0), (2, 128, 128, 3))
    params = _random_params(network, 128)
    base, head = cut(network.layers)
    assert not any(isinstance(layer, Conv | Pool) for layer in head)
    base_model, head_model = chain.as_model(chain.Chain(base)), chain.as_model(chain.Chain(head))
    features = jax.jit(base_model.apply)(chain.pick(params, base_model.layers), images)
    logits = head_model.apply(chain.pick(params, head_model.layers), features)
    whole = jax.jit(chain.as_model(network).apply)(params, images)
    np.testing.assert_allclose(logits, whole, atol=1e-5)


def test_preprocessing_by_hand():
    pixel = np.array([[[[10, 20, 30]]]], np.uint8)  # RGB

    def of(name):
        return PREPROCESS[name](jnp.asarray(pixel))[0, 0, 0]

    np.testing.assert_allclose(of("caffe"), [30 - 103.939, 20 - 116.779, 10 - 123.68], rtol=1e-6)
    np.testing.assert_allclose(of("unit"), np.array([10, 20, 30]) / 255, rtol=1e-6)
    np.testing.assert_allclose(of("symmetric"), np.array([10, 20, 30]) / 127.5 - 1, rtol=1e-6)
    torch = (np.array([10, 20, 30]) / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(of("torch"), torch, rtol=1e-5)
    np.testing.assert_array_equal(of("raw"), [10, 20, 30])
