"""Proves that a network of ours computes what the library it comes from computes."""

from collections.abc import Callable

import jax
import numpy as np

from research.models.keras.file import WAY_OUT
from research.runtime.errors import UserError

PARITY = 1e-4  # largest difference from Keras that is still rounding, relative to the largest logit


def check_parity(option: str, path, apply: Callable, params, reference: Callable, images) -> float:
    """Proves that our network computes what the other library computes.

    Args:
        option: the option that gave the file, for the message.
        path: the file.
        apply: (params, images) -> logits or features.
        params: parameters of `apply`.
        reference: images -> the same, as the other library gives it.
        images: real images [B, H, W, 3] float32, preprocessed.

    Returns:
        max|ours - theirs| / max|theirs|.

    Raises:
        UserError: it is more than 1e-4, or not a number.
    """
    with jax.default_matmul_precision("highest"):
        ours = np.asarray(jax.jit(apply)(params, images), np.float64)
        theirs = np.asarray(reference(images), np.float64)
    difference = float(np.max(np.abs(ours - theirs)) / np.max(np.abs(theirs)))
    if not difference <= PARITY:
        how_far = f"{difference:.1e} of its largest output (limit {PARITY:.0e})"
        what = f"the imported network differs from Keras' own by {how_far}"
        raise UserError(option, what, f"please report this model, {WAY_OUT}", value=path)
    return difference
