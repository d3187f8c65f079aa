"""Keras' own file of VGG16's ImageNet weights, without waiting for a network that is not there."""

import hashlib
import os
import shutil
import threading
import urllib.request
from pathlib import Path

from tqdm import tqdm

from research.models.keras.file import first_line
from research.runtime.errors import UserError

URL = (
    "https://storage.googleapis.com/tensorflow/keras-applications/vgg16/"
    "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"
)
MD5 = "6d6bbae143d832006294945121d1f1fc"  # as in keras.applications.vgg16
_SECONDS = 8.0


def _connect(url: str, seconds: float):
    """An open response, within `seconds`, whatever the network or the name server does."""
    result = []

    def connect():
        try:
            result.append(urllib.request.urlopen(url, timeout=seconds))
        except OSError as error:
            result.append(error)

    # A name server that does not answer ignores every timeout of the socket; a thread does not.
    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(seconds)
    outcome = result[0] if result else TimeoutError(f"no answer in {seconds:.0f} seconds")
    if isinstance(outcome, OSError):
        raise outcome
    return outcome


def download(url: str = URL, md5: str = MD5, seconds: float = _SECONDS) -> Path:
    """Keras' own VGG16 file without top, kept where Keras keeps it.

    Raises:
        UserError: no network (within `seconds`), or not the file that was expected.
    """
    home = Path(os.environ.get("KERAS_HOME", Path.home() / ".keras"))
    target = home / "models" / url.rsplit("/", 1)[1]
    if target.exists():
        return target
    part = target.with_suffix(".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _connect(url, seconds) as response, part.open("wb") as file:
            size = int(response.headers.get("Content-Length", 0)) or None
            with tqdm.wrapattr(file, "write", total=size, desc=target.name) as sink:
                shutil.copyfileobj(response, sink)
        with part.open("rb") as file:
            if hashlib.file_digest(file, "md5").hexdigest() != md5:
                raise OSError("the file came damaged")
        part.replace(target)
    except OSError as error:
        raise UserError(
            "weights",
            f"cannot download {url} ({first_line(error)})",
            "download it on another machine and give it with `weights` FILE.h5",
            value="imagenet",
        ) from error
    return target
