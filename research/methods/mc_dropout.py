"""Dropout left on when predicting: S random sub-networks of one trained network.

Gal & Ghahramani 2016, Dropout as a Bayesian Approximation: training with dropout is variational
inference with Bernoulli weights, and S stochastic passes are draws from that posterior. Trained
exactly as `point`, so a network that was trained with dropout gets it for nothing.
"""

import jax
import optax

from research.method import Method, Model, Training
from research.methods.point import point

TRAINING = Training(start="point", epochs=0)


def mc_dropout(model: Model, tx: optax.GradientTransformation, num_samples: int = 30) -> Method:
    """Monte Carlo dropout.

    One draw is one mask for all examples of all batches, so that a draw is a function: predictions
    do not depend on how a split is cut into batches. Layers before the first dropout run once, not
    S times.

    Args:
        model: a network with dropout.
        tx: the optimiser.
        num_samples: S, the number of masks.
    """
    base = point(model, tx)

    def draw(key, state, index):
        return state.params, jax.random.fold_in(key, index)

    def apply(network, images):
        params, key = network

        def one_example(image):
            # The key is not mapped over, so every example meets the same mask.
            return model.apply(params, image[None], key)[0]

        return model.likelihood.predictive(jax.vmap(one_example)(images))  # [B, K]

    return Method(base.init, base.step, draw, apply, num_draws=num_samples, vectorised=True)
