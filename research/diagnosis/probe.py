"""The same head, trained anew with one thing changed: what would it say without that cause?

A head of one hidden layer on the principal components of cached features, with early stopping,
dropout and weight decay: a head as it should have been trained. It stands in for the classifier's
own, which may be any; causes in the data are told by probe against probe. All of them share one
compiled program, as a change is an array: the weight of each training example (0 removes it).
"""

from functools import cache, cached_property, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from research.data.epochs import scan_epochs, shuffled_batches
from research.method import Model
from research.models import chain

COMPONENTS = 128
MOST_EXAMPLES = 4_000  # of the training split
LEAST_EPOCH = 1_024  # examples
FOLDS = 5
CURVES = ("loss", "valid_nll", "learning_rate")


class HeadOptions(NamedTuple):
    """How a head is trained."""

    hidden: int = 128
    epochs: int = 40
    learning_rate: float = 3e-3  # of Adam; falls to 0 by half a cosine
    weight_decay: float = 1e-2  # decoupled
    dropout: float = 0.5  # of the hidden units
    batch_size: int = 64


CAREFUL = HeadOptions()


class Head(NamedTuple):
    """A trained head's answers, and its loss curve."""

    best: dict[str, np.ndarray]  # by split: log_probs [N, K] at the lowest validation NLL
    last: dict[str, np.ndarray]  # after the last epoch
    history: tuple[dict, ...]  # rows with epoch, loss, valid_nll, learning_rate
    params: tuple[dict, dict]  # best and last


@cache
def head_model(hidden: int, dropout: float, classes: int) -> Model:
    """One hidden layer of rectified linear units with dropout, and the logits."""
    layers = (
        chain.Dense("fc1", hidden, "relu"),
        chain.Dropout(dropout),
        chain.Dense("predictions", classes),
    )
    return chain.as_model(chain.Chain(layers))


def _nll(log_probs, labels, weights):
    picked = jnp.take_along_axis(log_probs, labels[:, None], axis=-1)[:, 0]
    return -jnp.sum(weights * picked) / jnp.sum(weights)


@partial(jax.jit, static_argnames=("model", "epochs", "batch_size", "constant"))
def _train(key, train, valid, asked, rate, decay, *, model, epochs, batch_size, constant):
    def say(params, x, key=None):
        return jax.nn.log_softmax(model.apply(params, x, key))

    x, labels, weights = train
    steps = len(x) // batch_size
    schedule = optax.cosine_decay_schedule(1.0, epochs * steps)
    tx = optax.chain(optax.scale_by_adam(), optax.add_decayed_weights(decay))
    params = model.init(jax.random.fold_in(key, 0), x[:1])

    def loss(params, key, index):
        log_probs = say(params, x[index], key)
        picked = jnp.take_along_axis(log_probs, labels[index][:, None], axis=-1)[:, 0]
        return -jnp.mean(weights[index] * picked)

    def step(key, state, index):
        params, opt_state, count = state
        value, gradient = jax.value_and_grad(loss)(params, key, index)
        updates, opt_state = tx.update(gradient, opt_state, params)
        now = rate if constant else rate * schedule(count)
        params = jax.tree.map(lambda p, u: p - now * u, params, updates)
        return (params, opt_state, count + 1), value

    def plan(number):
        order_key, noise_key = jax.random.split(jax.random.fold_in(key, number + 1))
        return jax.random.split(noise_key, steps), shuffled_batches(order_key, len(x), batch_size)

    def evaluate(state):
        params, _, count = state
        now = rate if constant else rate * schedule(count - 1)
        return {"valid_nll": _nll(say(params, valid[0]), *valid[1:]), "learning_rate": now}

    begin = params, tx.init(params), jnp.int32(0)
    scanned = scan_epochs(step, begin, plan, epochs, evaluate, "valid_nll")
    best, last = scanned.best[0], scanned.last[0]
    said = [{name: say(p, each) for name, each in asked.items()} for p in (best, last)]
    return said, scanned.history, (best, last)


def train_head(
    inputs: dict[str, np.ndarray],
    train: tuple[np.ndarray, np.ndarray],
    valid: tuple[np.ndarray, np.ndarray],
    classes: int,
    seed: int,
    options: HeadOptions = CAREFUL,
    *,
    weights: np.ndarray | None = None,
    valid_weights: np.ndarray | None = None,
    constant: bool = False,
) -> Head:
    """Trains one head.

    Args:
        inputs: by split: [N, D], what is asked about in the end.
        train: inputs [N, D] and labels [N] to learn from.
        valid: likewise, to choose the epoch by.
        classes: K.
        seed: of the initial weights and the order.
        options: how; the numbers that are floats change nothing that is compiled.
        weights: of the training examples [N]; brought to a mean of 1.
        valid_weights: of the validation examples.
        constant: whether the learning rate stays as it is.
    """
    x, labels = train
    n, size = len(labels), options.batch_size
    weights = np.ones(n) if weights is None else np.asarray(weights, np.float64)
    weights = weights * n / max(weights.sum(), 1e-12)
    # A short split is repeated: an epoch of few steps is none, and one length compiles once.
    index = np.arange(max(n, LEAST_EPOCH)) % n
    valid_weights = np.ones(len(valid[1])) if valid_weights is None else valid_weights
    said, curves, params = _train(
        jax.random.key(seed),
        (
            jnp.asarray(x[index], jnp.float32),
            jnp.asarray(labels[index], jnp.int32),
            jnp.asarray(weights[index], jnp.float32),
        ),
        (
            jnp.asarray(valid[0], jnp.float32),
            jnp.asarray(valid[1], jnp.int32),
            jnp.asarray(valid_weights, jnp.float32),
        ),
        {name: jnp.asarray(each, jnp.float32) for name, each in inputs.items()},
        jnp.float32(options.learning_rate),
        jnp.float32(options.weight_decay),
        model=head_model(options.hidden, options.dropout, classes),
        epochs=options.epochs,
        batch_size=size,
        constant=constant,
    )
    best, last = ({name: np.asarray(x, np.float64) for name, x in each.items()} for each in said)
    curves = {name: np.asarray(curves[name], np.float64) for name in CURVES}
    history = tuple(
        {"epoch": number + 1} | {name: curve[number] for name, curve in curves.items()}
        for number in range(options.epochs)
    )
    return Head(best, last, history, params)


class Refit(NamedTuple):
    """What a refitted head says, at its best epoch on the validation split."""

    log_probs: dict[str, np.ndarray]  # by split: [N, K], normalised

    def nll(self, split: str, labels: np.ndarray) -> np.ndarray:
        """Of each example [N], in nats."""
        return -self.log_probs[split][np.arange(len(labels)), labels]


class Probe:
    """Heads refitted on the features of one classifier."""

    def __init__(
        self,
        features: dict[str, np.ndarray],
        labels: dict[str, np.ndarray],
        classes: int,
        seed: int,
    ):
        """Projects the features on their principal components.

        Args:
            features: by split: [N, ...].
            labels: by split: [N] int.
            classes: K.
            seed: of the initial weights and the order.
        """
        self.kept = np.random.default_rng(seed).permutation(len(labels["train"]))[:MOST_EXAMPLES]
        flat = {name: each.reshape(len(each), -1) for name, each in features.items()}
        train = flat["train"][self.kept].astype(np.float64)
        mean, deviation = train.mean(axis=0), train.std(axis=0)
        self.is_alive = deviation > 1e-6 * max(deviation.max(), 1e-12)
        scale = np.where(self.is_alive, deviation, np.inf)  # what never varies tells nothing
        _, values, axes = np.linalg.svd((train - mean) / scale, full_matrices=False)
        count = max(1, int(np.sum(values[:COMPONENTS] > 1e-3 * max(values[0], 1e-12))))
        spread = np.maximum(values[:count] / len(train) ** 0.5, 1e-12)
        # Half way to whitening: small directions count, but noise is not blown up.
        turn = axes[:count].T / np.sqrt(spread * spread[0])

        self._mean, self._scale, self._turn = mean, scale, turn
        self.inputs = {name: self.project(each) for name, each in flat.items()}
        self.labels = {name: np.asarray(each, np.int32) for name, each in labels.items()}
        self.classes, self.seed = classes, seed

    def project(self, features: np.ndarray) -> np.ndarray:
        """Features [N, ...] as a head's inputs [N, D]; far outside training they are drawn in."""
        flat = features.reshape(len(features), -1)
        return np.clip((flat - self._mean) / self._scale @ self._turn, -20, 20).astype(np.float32)

    @property
    def train_labels(self) -> np.ndarray:
        """Of the training examples that probe use: [N]."""
        return self.labels["train"][self.kept]

    def fit(
        self, weights: np.ndarray | None = None, valid_weights: np.ndarray | None = None
    ) -> Refit:
        """One head.

        Args:
            weights: of the training examples that probe use [N]; 0 removes one.
            valid_weights: of the validation examples.
        """
        head = train_head(
            self.inputs,
            (self.inputs["train"][self.kept], self.train_labels),
            (self.inputs["valid"], self.labels["valid"]),
            self.classes,
            self.seed,
            weights=weights,
            valid_weights=valid_weights,
        )
        return Refit(head.best)

    @cached_property
    def reference(self) -> Refit:
        """Nothing changed: the head as it should have been trained."""
        return self.fit()

    @cached_property
    def learns_by_heart(self) -> float:
        """How often an unbridled head is right on its training examples, their labels shuffled.

        Near 1 it can learn anything by heart (Zhang, Bengio, Hardt, Recht & Vinyals 2017).
        """
        x = self.inputs["train"][self.kept]
        shuffled = np.random.default_rng(self.seed + 2).permutation(self.train_labels)
        unbridled = CAREFUL._replace(dropout=0.0, weight_decay=0.0)
        valid = self.inputs["valid"], self.labels["valid"]
        asked = {"train": x}
        head = train_head(asked, (x, shuffled), valid, self.classes, self.seed, unbridled)
        return float(np.mean(head.last["train"].argmax(axis=1) == shuffled))

    def say_out_of_fold(self, removed: np.ndarray | None = None) -> np.ndarray:
        """What heads that have not seen a training example say of it.

        Args:
            removed: [N] bool, examples that none of them may see; default: none.

        Returns:
            log_probs [N, K].
        """
        kept = np.ones(len(self.kept)) if removed is None else 1.0 - removed
        fold = np.random.default_rng(self.seed + 1).permutation(len(self.kept)) % FOLDS
        said = np.zeros((len(self.kept), self.classes))
        for number in range(FOLDS):
            refit = self.fit(weights=(fold != number) * kept)
            said[fold == number] = refit.log_probs["train"][self.kept][fold == number]
        return said

    @cached_property
    def out_of_fold(self) -> np.ndarray:
        """`say_out_of_fold` with all examples: log_probs [N, K]."""
        return self.say_out_of_fold()
