"""The classifiers that `experiments.exam` examines: a head on a base of fixed random filters.

On the features of the base a transfer head is trained: 256 units, dropout, a softmax. The diagnosis
gets its `Evidence` and nothing else.
"""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import log_softmax

from experiments.exam.cases import TRAINED_WITH, Case
from research.data.batches import map_batches
from research.diagnosis.evidence import Evidence, EvidenceSplit, NewImages
from research.diagnosis.head import Examples, Head, head_model, train_head
from research.models.preprocess import PREPROCESS

BATCH = 400


@partial(jax.jit, static_argnums=1)
def _filter(images, form):
    """Fixed random filters: [B, SIDE, SIDE, 3] uint8 -> [B, 512]."""
    x = jnp.asarray(PREPROCESS[form](images))
    for number, (inputs, outputs) in enumerate(((3, 16), (16, 32))):
        key = jax.random.fold_in(jax.random.key(0), number)
        kernel = jax.random.normal(key, (3, 3, inputs, outputs)) * (2 / (9 * inputs)) ** 0.5
        x = jax.nn.relu(
            jax.lax.conv_general_dilated(
                x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
        )
        x = x.reshape(x.shape[0], x.shape[1] // 2, 2, x.shape[2] // 2, 2, -1).mean(axis=(2, 4))
    x = x.reshape(x.shape[0], 4, 2, 4, 2, -1).mean(axis=(2, 4))
    return x.reshape(x.shape[0], -1)


class _Trained:
    """A classifier trained on a case."""

    def __init__(self, case: Case, seed: int):
        """Trains the head on the scaled features of the base."""
        self.case = case
        features = {s: self._base(images, TRAINED_WITH) for s, images in case.images.items()}
        self._mean = features["train"].mean(axis=0)
        self._deviation = features["train"].std(axis=0) + 1e-3
        head = self._train({split: self._scaled(x) for split, x in features.items()}, seed)
        self.history = head.history
        self._params = head.params[1] if case.keeps_last else head.params[0]

    def _base(self, images: np.ndarray, form: str) -> np.ndarray:
        return map_batches(lambda batch: _filter(batch, form), images, BATCH)

    def _scaled(self, features: np.ndarray) -> np.ndarray:
        return (features - self._mean) / self._deviation

    def _train(self, features: dict[str, np.ndarray], seed: int) -> Head:
        case, splits = self.case, ("train", *self.case.also_trained_on)
        x = np.concatenate([features[split] for split in splits])
        labels = np.concatenate([case.labels[split] for split in splits])
        valid = Examples(features["valid"], case.labels["valid"])
        return train_head(features, Examples(x, labels), valid, len(case.classes), seed, case.head)

    def features(self, form: str, images: np.ndarray) -> np.ndarray:
        """The head's inputs [N, 512] of images whose pixels are prepared by `form`."""
        return self._scaled(self._base(images, form))

    def log_probs(self, features: np.ndarray) -> np.ndarray:
        """Predictions [N, K] float64 of features."""
        model = head_model(self.case.head.hidden, self.case.head.dropout, len(self.case.classes))
        logits = jax.jit(model.apply)(self._params, jnp.asarray(features, jnp.float32))
        return self.case.change(log_softmax(np.asarray(logits, np.float64), axis=1))

    def predict(self, form: str, images: np.ndarray) -> np.ndarray:
        """Predictions [N, K] float64 of images."""
        return self.log_probs(self.features(form, images))


def _evidence(trained: _Trained, seed: int, form: str) -> Evidence:
    """The evidence where pixels are prepared by `form`."""
    case, splits, new = trained.case, {}, None
    for split, images in case.images.items():
        x = trained.features(form, images)
        splits[split] = EvidenceSplit(trained.log_probs(x), case.labels[split], x, images)
    if case.new is not None:
        x = trained.features(form, case.new)
        new = NewImages(trained.log_probs(x), x, case.new, np.arange(len(x)).astype(str))
    return Evidence(
        classes=case.classes,
        splits=splits,
        history=trained.history,
        predict=partial(trained.predict, form),
        knows_training=case.knows_training,
        seed=seed,
        new=new,
    )


def train(case: Case, seed: int) -> Evidence:
    """Trains the head on a case and gives the evidence for its diagnosis."""
    trained = _Trained(case, seed)
    others = {name: partial(trained.predict, name) for name in PREPROCESS if name != case.form}
    return replace(
        _evidence(trained, seed, case.form),
        predict_as=others,
        with_preprocess=partial(_evidence, trained, seed),
    )
