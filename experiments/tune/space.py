"""What `experiments.tune` varies, and how a choice becomes a network, a method and a command.

What is searched follows from what is trained: dropout where the trained part has some, the head's
width where its hidden layers start from random weights, a method's options where it has them. Only
what `experiments.diagnose` takes is searched, so that the best is of use there.
"""

import shlex
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import numpy as np
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution

from experiments import cli, diagnose
from research.method import Model
from research.models import chain
from research.models.classifier import Classifier
from research.models.keras.importer import import_keras
from research.models.layers import Dense, Dropout, Layer, cut, reshape
from research.models.preprocess import PREPROCESS
from research.models.vgg import BLOCKS, VGG16
from research.training.fit import TrainingOptions
from research.training.recipe import POINT, Recipe, options_of, with_options

DIAGNOSE = cli.options_of(diagnose.Config())  # the options of the command, with its defaults
FIGURES = 3  # of a number that is tried: a command is to be short enough to type
METHODS = {"prior_sigma": (0.02, 2.0), "initial_sigma": (0.01, 1.0), "temperature": (0.01, 1.0)}
# Of the default. Without Adam's scaling, steps of the same length need a far higher rate.
LEARNING_RATES = {"adam": (0.1, 10.0), "sgd": (0.1, 1000.0)}


class Search(NamedTuple):
    """The space, and where it is entered."""

    space: dict[str, BaseDistribution]
    defaults: dict[str, float | int]  # what is used when nothing is chosen


def layers_of(
    config: diagnose.Config, classifier: Classifier, image_size: int
) -> tuple[Layer, ...]:
    """The trained layers: the head alone where the base is frozen.

    Args:
        config: resolved.
        classifier: what is trained.
        image_size: of the images, before any frozen base.
    """
    if config.network.model:
        layers = import_keras(config.network.model).layers or ()
    else:
        image = classifier.inputs.train.example
        shapes = jax.eval_shape(classifier.model.init, jax.random.key(0), image)
        first = shapes.get("block1_conv1")  # tells the width of a weights file
        width = first["bias"].size / BLOCKS[0][1] if first else 1.0
        name = config.network.resolved_head(image_size)
        layers = VGG16(len(classifier.inputs.classes), name, width).layers
    return cut(layers)[1] if config.network.trainable == "head" else layers


def _has_fresh_head(classifier: Classifier) -> bool:
    """Whether hidden layers of the head start from random weights, other ones for another key."""
    model, image = classifier.model, classifier.inputs.train.example
    one, other = (jax.jit(model.init)(jax.random.key(i), image) for i in range(2))
    hidden = model.head[:-1]
    return bool(hidden) and all(np.any(one[n]["kernel"] != other[n]["kernel"]) for n in hidden)


def search_of(
    config: diagnose.Config,
    recipe: Recipe,
    classifier: Classifier,
    layers: tuple[Layer, ...],
) -> Search:
    """What there is to vary.

    Args:
        config: resolved; its values are the defaults.
        recipe: the method.
        classifier: what is trained.
        layers: of `layers_of`.
    """
    rate = config.training.learning_rate
    assert rate is not None  # the options are resolved
    low, high = (factor * rate for factor in LEARNING_RATES[config.training.optimizer])
    space: dict[str, BaseDistribution] = {
        "learning_rate": FloatDistribution(low, high, log=True),
        "weight_decay": FloatDistribution(1e-6, 1e-1, log=True),
    }
    defaults = {"learning_rate": rate, "weight_decay": config.training.weight_decay}
    head = cut(layers)[1]
    rates = [layer.rate for layer in head if isinstance(layer, Dropout)]
    if rates and "dropout" in DIAGNOSE:
        space["dropout"] = FloatDistribution(0.0, 0.8)
        defaults["dropout"] = rates[0]
    units = [layer.features for layer in head if isinstance(layer, Dense)][:-1]
    if units and "head_width" in DIAGNOSE and _has_fresh_head(classifier):
        space["head_width"] = IntDistribution(max(1, units[0] // 16), 2 * units[0], log=True)
        defaults["head_width"] = units[0]
    method = recipe.base
    known, given = options_of(method.name), dict(method.options)
    has_no_width = given.get("prior") in ("mixture", "hierarchical")
    for name in METHODS.keys() & known.keys() - given.keys():
        if not (name == "prior_sigma" and has_no_width):
            space[name] = FloatDistribution(*METHODS[name], log=True)
            defaults[name] = known[name]
    return Search(space, defaults)


def rounded(params: dict[str, Any]) -> dict[str, float | int]:
    """What is tried: a few figures of what was drawn."""
    return {
        name: value if isinstance(value, int) else float(f"{value:.{FIGURES}g}")
        for name, value in params.items()
    }


def with_choice(
    training: TrainingOptions, recipe: Recipe, chosen: dict[str, Any]
) -> tuple[TrainingOptions, Recipe]:
    """The options of the training and the method with what was chosen; by default they stay."""
    of_training = {name: value for name, value in chosen.items() if hasattr(training, name)}
    of_method = {name: value for name, value in chosen.items() if not hasattr(training, name)}
    return replace(training, **of_training), with_options(recipe, **of_method)


def network_of(
    classifier: Classifier, layers: tuple[Layer, ...], chosen: dict[str, Any], is_head: bool
) -> Model:
    """The network with what was chosen; layers that keep their shape start as they did.

    Args:
        classifier: what is trained.
        layers: of `layers_of`.
        chosen: by name.
        is_head: whether the head alone is trained.
    """
    shape = {name: chosen[name] for name in ("dropout", "head_width") if name in chosen}
    if not shape:
        return classifier.model
    module = chain.Chain(reshape(layers, **shape))
    preprocess = PREPROCESS[classifier.preprocess]
    model = chain.as_model(module) if is_head else chain.as_model(module, preprocess)

    def init(key, images):
        fresh, started = model.init(key, images), classifier.model.init(key, images)

        def same(name):
            return jax.tree.map(np.shape, fresh[name]) == jax.tree.map(np.shape, started[name])

        return {name: (started if same(name) else fresh)[name] for name in fresh}

    return model._replace(init=init)


def command(config: diagnose.Config, recipe: Recipe, chosen: dict[str, Any]) -> str:
    """The command of `experiments.diagnose` that uses what was chosen.

    Args:
        config: the options, not resolved, without the method.
        recipe: the method.
        chosen: the values that were chosen, by name.
    """
    training, recipe = with_choice(config.training, recipe, chosen)
    line = ["launch/run.sh", "experiments.diagnose"]
    for name, value in cli.options_of(replace(config, training=training)).items():
        if value != DIAGNOSE[name]:
            line += [f"--{name}"] if value is True else [f"--{name}", str(value)]
    if recipe != POINT:  # which is trained anyway
        line += ["--methods", str(recipe)]
    return shlex.join(line)
