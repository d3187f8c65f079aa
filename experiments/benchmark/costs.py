"""What a method costs, read off its compiled programs: nothing is run, no clock is looked at."""

from typing import Any

import jax
import jax.numpy as jnp

from research.method import Batch, Method, Model, predict

PREDICT_BATCH = 256


def _memory(program: jax.stages.Compiled) -> Any:
    """The compiler's account of a program's memory, in bytes."""
    memory = program.memory_analysis()
    assert memory is not None  # XLA gives one on CPUs, GPUs and TPUs
    return memory


def _flops(program: jax.stages.Lowered) -> float:
    """The arithmetic of a program."""
    analysis = program.cost_analysis()
    assert analysis is not None  # as above
    return analysis["flops"]


def _bytes(program: jax.stages.Compiled) -> int:
    """The most memory of a program: what it is given, what it gives back, and what lies between."""
    memory = _memory(program)
    given_and_back = memory.argument_size_in_bytes + memory.output_size_in_bytes
    return given_and_back + memory.temp_size_in_bytes - memory.alias_size_in_bytes


def measure_costs(
    method: Method, state, model: Model, image: tuple[int, ...], batch_size: int, is_trained: bool
) -> dict[str, float | None]:
    """What a method costs, from its compiled programs; nothing is run.

    Args:
        method: to be measured.
        state: finished.
        model: the plain network, whose forward pass is the unit.
        image: (H, W, 3).
        batch_size: of a training step, for each member.
        is_trained: whether it has training steps of its own.

    Returns:
        `parameters`: numbers of 4 bytes in the state that a prediction reads; `draws`: S;
        `forward_passes`: arithmetic of a prediction, in forward passes of the plain network;
        `predict_megabytes` of a batch of `PREDICT_BATCH`; `step_megabytes` (None: no steps).
    """
    key = jax.random.key(0)
    images = jax.ShapeDtypeStruct((PREDICT_BATCH, *image), jnp.uint8)
    form = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), state)

    def once(state, number, images):
        key = jax.random.key(number)
        if method.vectorised:
            log_probs = predict(method, key, state, images)
        else:
            log_probs = method.apply(method.draw(key, state, number), images)
        # Used whether the method is random or not: then the program keeps it as an argument.
        return log_probs + number

    number = jax.ShapeDtypeStruct((), jnp.int32)
    lowered = jax.jit(once).lower(form, number, images)
    program = lowered.compile()
    params = jax.eval_shape(model.init, key, images)
    plain = _flops(jax.jit(model.apply).lower(params, images))
    passes = 1 if method.vectorised else method.num_draws
    # The state's unused parts (of the optimiser) are no arguments of the compiled program.
    others = number.dtype.itemsize + images.size * images.dtype.itemsize
    costs = {
        "parameters": (_memory(program).argument_size_in_bytes - others) // 4,
        "draws": method.num_draws,
        "forward_passes": passes * _flops(lowered) / plain,
        "predict_megabytes": _bytes(program) / 1e6,
        "step_megabytes": None,
    }
    if is_trained:
        size = method.members * batch_size
        labels = jax.ShapeDtypeStruct((size,), jnp.int32)
        batch = Batch(jax.ShapeDtypeStruct((size, *image), jnp.uint8), labels)
        first = jax.ShapeDtypeStruct((1, *image), jnp.uint8)
        begun = jax.eval_shape(method.init, key, first)
        step = jax.jit(method.step, donate_argnums=1).lower(key, begun, batch).compile()
        costs["step_megabytes"] = _bytes(step) / 1e6
    return costs
