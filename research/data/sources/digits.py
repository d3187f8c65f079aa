"""The embedded default: 1,797 real handwritten digits, 8x8 grey, that scikit-learn carries.

E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI (1998), its test part.
"""

from typing import Any, cast

import numpy as np
import sklearn

from research.data.images import from_array
from research.data.sources.source import Source


def matches(spec: str) -> bool:
    """Whether the person asked for the embedded digits."""
    return spec == "digits"


def open_source(spec: str, data_dir: str | None = None) -> Source:
    """Opens the digits. Their 17 grey levels are scaled to 0..255."""
    del data_dir
    from sklearn.datasets import load_digits  # a second of imports, for this source only

    bunch = cast(Any, load_digits())
    pixels = np.round(bunch.images * (255 / 16)).astype(np.uint8)  # [N, 8, 8]
    return Source(
        name=spec,
        classes=tuple(str(name) for name in bunch.target_names),
        labels=bunch.target,
        ids=np.arange(len(pixels)).astype(str),
        read=lambda i: from_array(pixels[i]),
        fingerprint=f"digits of scikit-learn {sklearn.__version__}",
        native_size=8,
    )
