"""An over-confident classifier, as a folder of image files and a Keras model file.

    launch/run.sh experiments.example --data tfds:cifar10 --classes cat,dog
    launch/run.sh experiments.diagnose --data runs/example/photos --model runs/example/model.keras

With it a person can see a diagnosis before bringing a model of their own. The network is trained as
in most tutorials: Adam, a fixed number of epochs, dropout before the last layer, one sigmoid, no
early stopping. On 2 CPU cores it takes about three minutes.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from experiments import cli
from research.data.dataset import Dataset
from research.data.load import DataOptions, load
from research.models.keras.file import import_keras_on_jax
from research.runtime.errors import UserError

BLOCKS = (32, 64, 128)  # channels: two convolutions and a pool in each
HIDDEN, DROPOUT, BATCH = 256, 0.5, 32


@dataclass(frozen=True)
class Config:
    """Writes image files and trains a Keras model on them."""

    data: str = "tfds:cifar10"
    """what experiments.diagnose takes as --data"""
    classes: str = "cat,dog"
    """two of its classes"""
    limit: int = 1500
    """images in each split, at most"""
    epochs: int = 25
    """of training; those after the lowest validation loss make it over-confident"""
    data_dir: str | None = None
    """where TFDS sets lie; default: TFDS_DATA_DIR"""
    seed: int = 0
    """of the splits and the initial weights"""
    out: Path = Path("runs/example")
    """gets photos/ and model.keras"""


def write_photos(dataset: Dataset, folder: Path) -> None:
    """Writes every image as `folder`/SPLIT/CLASS/NUMBER.png."""
    for name, split in dataset.splits.items():
        for number, label in enumerate(split.labels):
            path = folder / name / dataset.classes[label].replace("/", "-") / f"{number:05}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(split.images[np.arange(number, number + 1)][0]).save(path)


def train_model(dataset: Dataset, epochs: int, seed: int):
    """A small VGG with one sigmoid, trained by Keras on pixels from 0 to 1."""
    keras = import_keras_on_jax()
    keras.utils.set_random_seed(seed)
    layers = keras.layers
    size = dataset.train.images.shape[1]
    network = [keras.Input((size, size, 3)), layers.Rescaling(1 / 255)]
    for channels in BLOCKS:
        for _ in range(2):
            network.append(layers.Conv2D(channels, 3, padding="same", activation="relu"))
        network.append(layers.MaxPooling2D())
    network += [layers.Flatten(), layers.Dense(HIDDEN, activation="relu")]
    network += [layers.Dropout(DROPOUT), layers.Dense(1, activation="sigmoid")]
    model = keras.Sequential(network)
    model.compile(keras.optimizers.Adam(1e-3), "binary_crossentropy", metrics=["accuracy"])
    parts = [
        (split.images[np.arange(len(split.labels))].astype(np.float32), split.labels)
        for split in (dataset.train, dataset.valid)
    ]
    # Keras documents a number here; pyright takes the type from the default, "auto".
    model.fit(*parts[0], BATCH, epochs, validation_data=parts[1], verbose=2)  # pyright: ignore[reportArgumentType]
    return model


def main(config: Config) -> None:
    """Writes the photographs and the model.

    Raises:
        UserError: an option is out of range, the data cannot be read, or the folder exists.
    """
    images = DataOptions(
        config.data, classes=config.classes, limit=config.limit, data_dir=config.data_dir
    )
    if len(images.class_names) != 2:
        raise UserError("classes", "give two classes, such as cat,dog", value=config.classes)
    if config.epochs < 1:
        raise UserError("epochs", "give a whole number, 1 or more", value=config.epochs)
    if config.out.exists():
        raise UserError("out", "is there already", "give another folder", value=config.out)
    dataset = load(images, seed=config.seed)
    part = config.out.with_name(config.out.name + ".part")
    write_photos(dataset, part / "photos")
    train_model(dataset, config.epochs, config.seed).save(part / "model.keras")
    os.replace(part, config.out)
    print(
        f"Written to {config.out}. Next: launch/run.sh experiments.diagnose --data "
        f"{config.out}/photos --model {config.out}/model.keras"
    )


if __name__ == "__main__":
    cli.run(main, Config)
