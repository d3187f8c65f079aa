"""A Gaussian over every weight, trained by gradients: Bayes by Backprop.

Blundell et al. 2015, Weight Uncertainty in Neural Networks: find the mean-field Gaussian q(w) that
minimises KL(q || p) - E_q[log p(data | w)], by drawing weights as μ + σ ε and differentiating
through the draw. Here per training example: mean NLL + β · KL / N (`posteriors/objective.py`).

The file composes the parts in `posteriors/`: which weights are stochastic, a prior, and an
estimator of the gradient. Weight decay acts on the deterministic weights only, because stochastic
ones have a prior. Dropout is off: the weights' own noise takes its place.

The defaults are for training that starts from a trained network: the prior is centred on it, and so
narrow that the network still works where the posterior falls back onto the prior. From scratch,
such a prior pulls towards random weights and slows training down; `prior_sigma=1` then learns as
fast as `point`. Where weights far outnumber images, a prior around 0 at β = 1 can outweigh the
data, and the network predicts the same for every image: a lower `beta` or `bayes=head` helps.
"""

from typing import Annotated, Literal, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax

from research.method import Method, Model, Training, no_finish
from research.methods._options import Count, NonNegative, Positive, checked, number
from research.posteriors import mean_field, priors
from research.posteriors.estimators import ESTIMATORS
from research.posteriors.mean_field import MeanField
from research.posteriors.objective import minibatch_weight, negative_elbo, warmup
from research.posteriors.parameters import Leaves, join, split
from research.posteriors.priors import Prior

TRAINING = Training(start="point")
InnerShare = Annotated[float, number(lambda v: 0 < v < 1, "a share above 0 and below 1")]
PartOfTraining = Annotated[float, number(lambda v: 0 <= v <= 1, "a share of the training, 0 to 1")]
SUMMARY_WEIGHTS = 2**16  # medians over more weights than these are of a regular sample


class BayesByBackpropState(NamedTuple):
    """The posterior, the other weights and the optimiser's state."""

    posterior: MeanField
    deterministic: Leaves  # the weights without a posterior
    centre: Leaves  # the mean of the centred prior, where training started; else empty
    opt_state: optax.OptState
    step: jax.Array  # int32


def _with_loss(metrics: dict, posterior: MeanField, num_train: int, weight) -> tuple:
    """The loss, and the metrics with it; `kl` is replaced by the KL per example and per weight."""
    kl = metrics.pop("kl")
    loss = negative_elbo(metrics["nll"], kl, num_train, weight)
    count = sum(leaf.size for leaf in posterior.mean.values())
    kls = {"kl_per_example": kl / num_train, "kl_per_weight": kl / count}
    return loss, metrics | kls | {"loss": loss}


def _medians(state: BayesByBackpropState) -> dict[str, jax.Array]:
    """The medians of σ and of σ/|μ|, over at most `SUMMARY_WEIGHTS` weights."""
    posterior = state.posterior
    leaves = jax.tree.leaves(posterior.mean)
    stride = -(-sum(leaf.size for leaf in leaves) // SUMMARY_WEIGHTS)

    def some(tree):
        return jnp.concatenate([leaf.reshape(-1)[::stride] for leaf in jax.tree.leaves(tree)])

    mean, deviation = some(posterior.mean), jax.nn.softplus(some(posterior.rho))
    ratio = deviation / jnp.maximum(jnp.abs(mean), jnp.finfo(mean.dtype).tiny)
    return {"sigma": jnp.median(deviation), "sigma_over_mu": jnp.median(ratio)}


def _prior(kind: str, scale: Leaves, centre: Leaves, mixture: tuple) -> Prior:
    """The prior by its name: deviations by path, the centred one's mean, the mixture's numbers."""
    match kind:
        case "gaussian":
            return priors.gaussian(scale)
        case "centred":
            return priors.gaussian(scale, centre)
        case "laplace":
            return priors.laplace(jax.tree.map(lambda s: s * 0.5**0.5, scale))
        case "mixture":
            return priors.mixture(*mixture)
        case _:  # "hierarchical"
            return priors.hierarchical()


@checked
def bayes_by_backprop(
    model: Model,
    tx: optax.GradientTransformation,
    num_train: int,
    steps_per_epoch: int,
    num_steps: int,
    estimator: Literal["shared", "local", "flipout"] = "flipout",
    prior: Literal["gaussian", "mixture", "laplace", "centred", "hierarchical"] = "centred",
    prior_sigma: Positive = 0.2,
    prior_relative_to: Literal["fan_in", "none"] = "fan_in",
    mixture_pi: InnerShare = 0.5,
    mixture_sigma_1: Positive = 1.0,
    mixture_sigma_2: Positive = 0.0025,
    bayes: Literal["all", "last", "head"] = "all",
    bias_prior: bool = True,
    initial_sigma: Positive = 0.1,
    sigma_relative_to: Literal["fan_in", "weight", "none"] = "fan_in",
    beta: NonNegative = 1.0,
    minibatch_kl: Literal["uniform", "blundell"] = "uniform",
    kl_warmup: PartOfTraining = 0.0,
    train_samples: Count = 1,
    num_samples: Count = 10,
) -> Method:
    """Bayes by Backprop.

    Args:
        model: the network; any Flax module.
        tx: the optimiser of means and ρ alike.
        num_train: N.
        steps_per_epoch: M, for Blundell's minibatch weights.
        num_steps: the length of the whole training, for the warm-up.
        estimator: "shared" (weight sampling), "local" (local reparameterisation) or "flipout"; see
            `posteriors/estimators.py`.
        prior: "gaussian"; "mixture" (Blundell's); "laplace"; "centred", a Gaussian around the
            weights that training starts from; "hierarchical", a Gaussian whose variance follows
            each tensor (`posteriors/priors.py`).
        prior_sigma: standard deviation of the Gaussian, centred and Laplace priors.
        prior_relative_to: the unit of `prior_sigma`: "fan_in", 1/sqrt(fan-in) of each layer, or
            "none", 1.
        mixture_pi: share of the wide component of the mixture.
        mixture_sigma_1: standard deviation of the wide component.
        mixture_sigma_2: standard deviation of the narrow component.
        bayes: which weights are stochastic: "all", "last" layer, or "head" after the convolutions.
        bias_prior: True: biases of these layers are stochastic and have the prior too; False: they
            are numbers without a prior.
        initial_sigma: σ₀, the first standard deviations in units of `sigma_relative_to`.
        sigma_relative_to: "fan_in", 1/sqrt(fan-in); "weight", |w|; "none", 1.
        beta: β, the weight of the KL; 1 gives the posterior, below 1 a colder one.
        minibatch_kl: "uniform", or "blundell" (geometric within the epoch).
        kl_warmup: the share of training over which the KL's weight rises from 0.
        train_samples: the number of noisy forward passes in a step.
        num_samples: S, the number of draws that predict.

    Raises:
        UserError: an option has no such value.
    """
    mixture = mixture_pi, mixture_sigma_1, mixture_sigma_2

    def init(key, images, start=None):
        params = model.initial(key, images, start)
        stochastic, deterministic = split(params, model, bayes, with_biases=bias_prior)
        posterior = mean_field.around(stochastic, initial_sigma, sigma_relative_to)
        centre = jax.tree.map(jnp.array, stochastic) if prior == "centred" else {}
        opt_state = tx.init((posterior, deterministic))
        return BayesByBackpropState(posterior, deterministic, centre, opt_state, jnp.int32(0))

    def pass_once(key, posterior, deterministic, centre, batch):
        pass_key, draw_key = jax.random.split(key)
        estimate = ESTIMATORS[estimator]
        logits, draw = estimate(model.apply, posterior, deterministic, batch.images, pass_key)
        units = mean_field.units(posterior.mean, prior_relative_to)
        scale = {path: prior_sigma * unit for path, unit in units.items()}
        p = _prior(prior, scale, centre, mixture)
        if p.needs_draw and draw is None:
            draw = mean_field.sample(draw_key, posterior)
        return model.likelihood.metrics(logits, batch.labels) | {"kl": p.kl(posterior, draw)}

    def step(key, state, batch):
        weight = beta * minibatch_weight(minibatch_kl, state.step, steps_per_epoch)
        weight = weight * warmup(state.step, kl_warmup * num_steps)

        def objective(trained):
            keys = jax.random.split(key, train_samples)
            passes = [pass_once(k, trained[0], trained[1], state.centre, batch) for k in keys]
            metrics = jax.tree.map(lambda *values: sum(values) / train_samples, *passes)
            return _with_loss(metrics, trained[0], num_train, weight)

        trained = state.posterior, state.deterministic
        gradients, metrics = jax.grad(objective, has_aux=True)(trained)
        # Weight decay is a prior, and stochastic weights have one: for the decay they are 0.
        decayed = jax.tree.map(jnp.zeros_like, state.posterior), state.deterministic
        updates, opt_state = tx.update(gradients, state.opt_state, decayed)
        posterior, deterministic = cast(tuple, optax.apply_updates(trained, updates))
        step = state.step + 1
        return (
            BayesByBackpropState(posterior, deterministic, state.centre, opt_state, step),
            metrics,
        )

    def draw(key, state, index):
        weights = mean_field.sample(jax.random.fold_in(key, index), state.posterior)
        return join(weights, state.deterministic)

    apply, vectorised = model.predictive, bayes != "all"
    return Method(init, step, draw, apply, no_finish, _medians, num_samples, vectorised)
