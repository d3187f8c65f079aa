"""Dropout left on when predicting: S random sub-networks of one trained network.

Gal & Ghahramani 2016, Dropout as a Bayesian Approximation: training with dropout is variational
inference with Bernoulli weights, and S stochastic passes are draws from that posterior. Trained
exactly as `point`, so a network that was trained with dropout gets it for nothing.
"""

import jax
import optax

from research.method import Method, Model
from research.methods.point import point


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

    def predict(key, state, images):
        def one_network(key):
            def one_example(image):
                # The key is not mapped over, so every example meets the same mask.
                return model.apply(state.params, image[None], key)[0]

            return jax.nn.log_softmax(jax.vmap(one_example)(images))  # [B, K]

        return jax.vmap(one_network)(jax.random.split(key, num_samples))  # [S, B, K]

    return Method(base.init, base.step, predict)
