"""How long does a step of VGG16 take here, and what do the patches of tiny maps save?

    launch/run.sh experiments.speed

Prints milliseconds and GFLOP/s of a forward pass and of a training step, with XLA's convolution
everywhere and with patches on maps of 3x3 and less (`models/convolution.py`), taken in turn so that
the ratio holds on a busy machine. On 2 CPU cores: a minute or two; a training step is some 4 times
faster.
"""

import statistics
import time
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments import cli
from research.method import Batch
from research.methods.point import PointState, point
from research.models import chain, convolution
from research.models.preprocess import PREPROCESS
from research.models.vgg import VGG16


@dataclass(frozen=True)
class Config:
    """How long does a step of VGG16 take here?"""

    width: float = 1.0
    """scales VGG16's channels"""
    image_size: int = 32
    """side in pixels"""
    batch_size: int = 32
    """images a step"""
    repeats: int = 5
    """timed runs of each; the median is printed"""


def compile_both(config: Config, largest_patch_map: int) -> dict:
    """Forward pass and training step, compiled, as functions of nothing."""
    convolution.LARGEST_PATCH_MAP = largest_patch_map  # read while tracing
    model = chain.as_model(VGG16(10, "cifar", config.width), PREPROCESS["torch"])
    images = jnp.zeros((config.batch_size, config.image_size, config.image_size, 3), jnp.uint8)
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)
    params = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 0.01, leaf.dtype), shapes)
    tx = optax.adam(1e-3)
    state = PointState(params, tx.init(params))
    batch = Batch(images, jnp.zeros(config.batch_size, jnp.int32))
    step = jax.jit(point(model, tx).step).lower(jax.random.key(0), state, batch).compile()
    forward = jax.jit(model.apply).lower(params, images).compile()
    return {
        "forward": lambda: forward(params, images),
        "training step": lambda: step(jax.random.key(0), state, batch),
    }


def flops_per_image(config: Config) -> float:
    """Multiplications and additions of a forward pass, convolutions only."""
    side, channels, total = config.image_size, 3, 0
    for layer in VGG16(None, width=config.width).layers:
        if isinstance(layer, chain.Conv):
            total += 2 * 9 * channels * layer.features * side**2
            channels = layer.features
        else:
            side //= 2
    return total


def main(config: Config) -> None:
    """Measures and prints."""
    ways = {"XLA": compile_both(config, 0), "patches": compile_both(config, 3)}
    print(f"{jax.devices()[0].device_kind}, VGG16 x {config.width:g}, {config}")
    for what, passes in (("forward", 1), ("training step", 3)):
        seconds = {name: [] for name in ways}
        for _ in range(config.repeats + 1):
            for name, functions in ways.items():
                started = time.perf_counter()
                jax.block_until_ready(functions[what]())
                seconds[name].append(time.perf_counter() - started)
        pairs = np.divide(seconds["XLA"][1:], seconds["patches"][1:])  # the first run warms up
        work = passes * config.batch_size * flops_per_image(config)
        for name, taken in seconds.items():
            median = statistics.median(taken[1:])
            print(f"{what:14} {name:8} {1e3 * median:8.1f} ms  {work / median / 1e9:7.1f} GFLOP/s")
        print(f"{what:14} XLA takes {np.median(pairs):.1f} times as long as patches")


if __name__ == "__main__":
    cli.run(main, Config)
