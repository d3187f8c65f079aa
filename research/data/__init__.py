"""`load(spec)` turns what a person names into three splits of images with labels.

A kind of source is one file in `sources/`; `load` finds it by looking through that package.
"""

from research.data.dataset import Dataset, Images, Split
from research.data.load import load

__all__ = ["Dataset", "Images", "Split", "load"]
