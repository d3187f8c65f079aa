"""One method on one seed: trained, asked about everything, and what it said kept in one file.

The file is written whole or not at all, so a method that has one is never trained or asked again.
"""

from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from scipy.special import log_softmax

from research.data.corruptions import CORRUPTIONS, NUM_LEVELS, corrupt_all
from research.data.dataset import Dataset, Images
from research.files import write_whole
from research.fit import Fitted, Options, fit, folder_name
from research.method import Batch, Method, Model, predict
from research.methods.temperature import fit_temperature
from research.metrics.predictive import predictive
from research.predict import predictor
from research.recipe import Recipe, starting_point

PREDICT_BATCH = 256


class Bench(NamedTuple):
    """What all methods of a seed share."""

    seed: int
    dataset: Dataset
    outside: Images | None  # images of another kind
    model: Model
    options: Options
    test_index: np.ndarray  # the images of the test split that are asked about
    worse_index: np.ndarray  # those that are corrupted
    directory: Path  # of the seed
    mesh: Mesh


def predictions_file(directory: Path, recipe: Recipe) -> Path:
    """Where a seed's folder has what a method said."""
    return directory / folder_name(recipe) / "predictions.npz"


def _plain_and_tempered(log_probs: np.ndarray, temperature: float) -> np.ndarray:
    """Draws [S, N, K] as two predictive distributions [2, N, K] float32: at T = 1 and at T."""
    tempered = log_softmax(np.asarray(log_probs, np.float64) / temperature, axis=-1)
    both = [predictive(each).log_probs for each in (log_probs, tempered)]
    return np.stack(both).astype(np.float32)


def _ask(fitted: Fitted, bench: Bench, key: jax.Array) -> dict[str, np.ndarray]:
    """What a method says: of the test split, images of another kind, and corrupted ones.

    Returns:
        `test` [2, N, K], `outside` [2, M, K], `worse` [2, C, L, n, K]: log-probabilities before and
        after temperature scaling; their labels; the `temperature`.
    """
    batch_size = -(-PREDICT_BATCH // bench.mesh.size) * bench.mesh.size
    draw_key, worse_key = jax.random.split(key)
    ask = predictor(fitted.method, draw_key, batch_size, bench.mesh)
    valid, test = bench.dataset.valid, bench.dataset.test
    temperature = fit_temperature(ask(fitted.state, valid.images), valid.labels).temperature

    def said_of(images):
        return _plain_and_tempered(ask(fitted.state, images), temperature)

    arrays = {
        "temperature": np.float64(temperature),
        "test": said_of(test.images[bench.test_index]),
        "labels": test.labels[bench.test_index],
        "worse_labels": test.labels[bench.worse_index],
    }
    if bench.outside is not None:
        arrays["outside"] = said_of(bench.outside)
    originals = test.images[bench.worse_index]
    cells = [
        [
            said_of(corrupt_all(jax.random.fold_in(worse_key, number), originals, name, level))
            for level in range(1, NUM_LEVELS + 1)
        ]
        for number, name in enumerate(CORRUPTIONS)
    ]
    arrays["worse"] = np.moveaxis(np.array(cells), 2, 0)
    return arrays


def _bytes(program: jax.stages.Compiled) -> int:
    """The most memory of a program: what it is given, what it gives back, and what lies between."""
    memory = program.memory_analysis()
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
        if method.together:
            log_probs = predict(method, key, state, images)
        else:
            log_probs = method.apply(method.draw(key, state, number), images)
        # Used whether the method is random or not: then the program keeps it as an argument.
        return log_probs + number

    number = jax.ShapeDtypeStruct((), jnp.int32)
    lowered = jax.jit(once).lower(form, number, images)
    program = lowered.compile()
    params = jax.eval_shape(model.init, key, images)
    plain = jax.jit(model.apply).lower(params, images).cost_analysis()["flops"]
    passes = 1 if method.together else method.num_draws
    # The state's unused parts (of the optimiser) are no arguments of the compiled program.
    others = number.dtype.itemsize + images.size * images.dtype.itemsize
    costs = {
        "parameters": (program.memory_analysis().argument_size_in_bytes - others) // 4,
        "draws": method.num_draws,
        "forward_passes": passes * lowered.cost_analysis()["flops"] / plain,
        "predict_megabytes": _bytes(program) / 1e6,
        "step_megabytes": None,
    }
    if is_trained:
        size = method.members * batch_size
        batch = Batch(
            jax.ShapeDtypeStruct((size, *image), jnp.uint8),
            jax.ShapeDtypeStruct((size,), jnp.int32),
        )
        first = jax.ShapeDtypeStruct((1, *image), jnp.uint8)
        begun = jax.eval_shape(method.init, key, first)
        step = jax.jit(method.step, donate_argnums=1).lower(key, begun, batch).compile()
        costs["step_megabytes"] = _bytes(step) / 1e6
    return costs


def fit_point(bench: Bench) -> Fitted:
    """The point network of a seed, which the others start from and are compared with."""
    return _fit(Recipe("point"), bench, None)


def _fit(recipe: Recipe, bench: Bench, params) -> Fitted:
    key = jax.random.key(bench.seed)
    where = bench.directory, bench.mesh
    return fit(recipe, bench.model, bench.dataset, bench.options, key, *where, params)


def run(recipe: Recipe, bench: Bench, point: Fitted) -> Fitted:
    """Fits a method, asks it, and writes its predictions with the seconds of its training.

    The seconds hold those of what it starts from: a trained network is not free.

    Args:
        recipe: of the method.
        bench: what all methods of the seed share.
        point: the seed's point network.

    Raises:
        UserError: training diverged, or the method refuses its options.
    """
    is_point = recipe == Recipe("point")
    fitted = point if is_point else _fit(recipe, bench, point.state.params)
    start, seconds = starting_point(recipe), fitted.seconds
    if start is not None:
        is_plain = start == Recipe("point")
        seconds += point.seconds if is_plain else _fit(start, bench, None).seconds
    arrays = _ask(fitted, bench, jax.random.fold_in(jax.random.key(bench.seed), 1))
    arrays |= {"seconds": np.float64(seconds), "point_seconds": np.float64(point.seconds)}
    path = predictions_file(bench.directory, recipe)
    write_whole(path, lambda part: np.savez(part, **arrays))
    return fitted
