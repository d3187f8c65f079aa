"""What was done to the pixels before the network saw them: it belongs to the weights.

Every function maps [B, H, W, 3] RGB, 0 to 255, to float32 and runs inside the compiled model.
"""

import jax
import jax.numpy as jnp

from research.method import Array

CAFFE_BGR_MEANS = (103.939, 116.779, 123.68)  # Keras' VGG16, ImageNet means in BGR order
TORCH_MEANS = (0.485, 0.456, 0.406)  # torchvision, RGB, of pixels in 0..1
TORCH_STDS = (0.229, 0.224, 0.225)


def _channels(values: tuple[float, ...]) -> jax.Array:
    return jnp.asarray(values, jnp.float32).reshape(1, 1, 1, 3)


def raw(images: Array) -> Array:
    """0..255 as they are: the network rescales by itself, or was trained on raw pixels."""
    return images.astype(jnp.float32)


def unit(images: Array) -> Array:
    """0..1: `ImageDataGenerator(rescale=1/255)`."""
    return images.astype(jnp.float32) / 255.0


def symmetric(images: Array) -> Array:
    """-1..1: `preprocess_input(mode="tf")`."""
    return images.astype(jnp.float32) / 127.5 - 1.0


def caffe(images: Array) -> Array:
    """BGR minus the ImageNet means: `keras.applications.vgg16.preprocess_input`."""
    return images.astype(jnp.float32)[..., ::-1] - _channels(CAFFE_BGR_MEANS)


def torch(images: Array) -> Array:
    """ImageNet mean and standard deviation of pixels in 0..1: torchvision."""
    return (unit(images) - _channels(TORCH_MEANS)) / _channels(TORCH_STDS)


PREPROCESS = {f.__name__: f for f in (caffe, unit, symmetric, torch, raw)}
