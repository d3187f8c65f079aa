"""The classifiers that `experiments.exam` examines: a head on a base of fixed random filters.

On the features of the base the asker's head is trained: 256 units, dropout, a softmax. The
diagnosis gets its `Evidence` and nothing else.
"""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import log_softmax

from experiments.exam.cases import RIGHT_FORM, Material
from research.diagnosis.evidence import Evidence, EvidenceSplit, NewImages
from research.diagnosis.probe import Head, head_model, train_head
from research.models.preprocess import PREPROCESS

ASK_BATCH = 400


@partial(jax.jit, static_argnums=1)
def _base(images, form):
    """Fixed random filters: [B, SIDE, SIDE, 3] uint8 -> [B, 512]."""
    x = PREPROCESS[form](images)
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


def _in_batches(images: np.ndarray, form: str) -> np.ndarray:
    starts = range(0, len(images), ASK_BATCH)
    filled = [np.resize(images[s : s + ASK_BATCH], (ASK_BATCH, *images.shape[1:])) for s in starts]
    return np.concatenate([np.asarray(_base(each, form)) for each in filled])[: len(images)]


def _train(m: Material, features: dict[str, np.ndarray], seed: int) -> Head:
    splits = ("train", *m.also_trained_on)
    x = np.concatenate([features[split] for split in splits])
    labels = np.concatenate([m.labels[split] for split in splits])
    valid = features["valid"], m.labels["valid"]
    k = len(m.classes)
    return train_head(features, (x, labels), valid, k, seed, m.head, constant=m.constant_rate)


def examine(m: Material, seed: int) -> Evidence:
    """Trains the head on a case and gives what the diagnosis may look at."""
    features = {split: _in_batches(each, RIGHT_FORM) for split, each in m.images.items()}
    mean, deviation = features["train"].mean(axis=0), features["train"].std(axis=0) + 1e-3

    def scaled(x):
        return (x - mean) / deviation

    head = _train(m, {split: scaled(x) for split, x in features.items()}, seed)
    params = head.params[1] if m.keeps_last else head.params[0]
    answer = m.answer or (lambda log_probs: log_probs)

    def predict_as(form, images):
        return answer(_say(m, params, scaled(_in_batches(images, form))))

    def prepared(form: str) -> Evidence:
        splits = {}
        for split, images in m.images.items():
            x = scaled(_in_batches(images, form))
            splits[split] = EvidenceSplit(answer(_say(m, params, x)), m.labels[split], x, images)
        new = None
        if m.new is not None:
            x = scaled(_in_batches(m.new, form))
            new = NewImages(answer(_say(m, params, x)), x, m.new, np.arange(len(x)).astype(str))
        return Evidence(
            classes=m.classes,
            splits=splits,
            history=head.history,
            predict=partial(predict_as, form),
            knows_training=m.knows_training,
            seed=seed,
            new=new,
        )

    others = {form: partial(predict_as, form) for form in PREPROCESS if form != m.form}
    return replace(prepared(m.form), predict_as=others, with_preprocess=prepared)


def _say(m: Material, params: dict, x: np.ndarray) -> np.ndarray:
    """Log-probabilities [N, K], float64."""
    model = head_model(m.head.hidden, m.head.dropout, len(m.classes))
    logits = jax.jit(model.apply)(params, jnp.asarray(x, jnp.float32))
    return log_softmax(np.asarray(logits, np.float64), axis=1)
