"""Optimisers and learning-rate schedules by name, put together from optax."""

import jax
import optax

from research.runtime.errors import UserError

SCHEDULES = ("constant", "cosine", "step", "linear")


def learning_rate_schedule(
    kind: str, learning_rate: float, num_steps: int, warmup_steps: int = 0
) -> optax.Schedule:
    """Linear warm-up from 0, then a constant, cosine, step or linear schedule.

    Args:
        kind: "constant"; "cosine" (to 0 at `num_steps`); "step" (a tenth after half of the steps, a
            hundredth after three quarters); "linear" (constant for half of the steps, then linear
            to a hundredth at nine tenths; Maddox et al. 2019, appendix).
        learning_rate: the peak.
        num_steps: length of training.
        warmup_steps: length of the warm-up, part of `num_steps`.

    Raises:
        UserError: there is no such schedule.
    """
    main: optax.Schedule
    rest = max(1, num_steps - warmup_steps)
    match kind:
        case "constant":
            main = optax.constant_schedule(learning_rate)
        case "cosine":
            main = optax.cosine_decay_schedule(learning_rate, rest)
        case "step":
            drops = {int(rest * 0.5): 0.1, int(rest * 0.75): 0.1}
            main = optax.piecewise_constant_schedule(learning_rate, drops)
        case "linear":
            falling = optax.linear_schedule(1.0, 0.01, max(1, int(rest * 0.4)), int(rest * 0.5))

            def linear(step):
                return learning_rate * falling(step)

            main = linear

        case _:
            raise UserError("schedule", "unknown", f"choose {', '.join(SCHEDULES)}", value=kind)
    if warmup_steps == 0:
        return main
    warmup = optax.linear_schedule(0.0, learning_rate, warmup_steps)
    return optax.join_schedules([warmup, main], [warmup_steps])


def _not_biases(params):
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


def make_optimizer(
    name: str,
    learning_rate: float | optax.Schedule,
    weight_decay: float = 0.0,
    momentum: float = 0.9,
) -> optax.GradientTransformation:
    """SGD with momentum, or Adam; weight decay on kernels only, never on biases.

    Args:
        name: "sgd" (decay is added to the gradient: L2) or "adam" (decay is decoupled: AdamW,
            Loshchilov & Hutter 2019).
        learning_rate: a number or a schedule.
        weight_decay: coefficient; 0 for none.
        momentum: coefficient of SGD's momentum.

    Raises:
        UserError: there is no such optimiser.
    """
    match name:
        case "sgd":
            return optax.chain(
                optax.add_decayed_weights(weight_decay, mask=_not_biases),
                optax.sgd(learning_rate, momentum=momentum),
            )
        case "adam":
            return optax.adamw(learning_rate, weight_decay=weight_decay, mask=_not_biases)
        case _:
            raise UserError("optimizer", "unknown", "choose sgd or adam", value=name)
