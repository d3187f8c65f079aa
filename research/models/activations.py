"""Activation functions by Keras' names, and as Keras defines them.

Flax's own differ in gelu (Keras': exact) and leaky_relu (Keras': slope 0.2).
"""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax.numpy as jnp

ACTIVATIONS: dict[str, Callable] = {
    "linear": lambda x: x,
    "relu": nn.relu,
    "relu6": nn.relu6,
    "leaky_relu": partial(nn.leaky_relu, negative_slope=0.2),
    "elu": nn.elu,
    "selu": nn.selu,
    "gelu": partial(nn.gelu, approximate=False),
    "silu": nn.silu,
    "swish": nn.silu,
    "softplus": nn.softplus,
    "softsign": nn.soft_sign,
    "tanh": nn.tanh,
    "sigmoid": nn.sigmoid,
    "exponential": jnp.exp,
}
