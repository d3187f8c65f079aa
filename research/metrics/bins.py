"""Which bin a probability falls in.

Equal-width bins are ((m-1)/M, m/M], closed on the right (Guo et al. 2017, section 2), with p = 0 in
the first. Equal-mass bins hold the same number of examples each (Nguyen & O'Connor 2015), but tied
values never part: where most confidences are exactly 1.0 they share one bin, and none is lost.
"""

import numpy as np
from scipy.stats import rankdata

NUM_BINS = 15
# Log-probabilities come as float32: a probability meant to lie on an edge (0.6 = 9/15) lands up to
# about 1e-7 beside it. So near an edge is on it, and belongs to the bin below.
EDGE = 1e-6


def equal_width_bins(probs: np.ndarray, num_bins: int = NUM_BINS) -> np.ndarray:
    """Bin numbers 0..num_bins-1, of the shape of `probs`."""
    edges = np.arange(1, num_bins) / num_bins
    return np.searchsorted(edges + EDGE, probs, side="left")


def equal_mass_bins(probs: np.ndarray, num_bins: int = NUM_BINS) -> np.ndarray:
    """Bin numbers 0..num_bins-1 [N] of `probs` [N]; tied values go where the middle one would.

    In a bootstrap the bins stay those of the original sample.
    """
    ranks = rankdata(probs) - 0.5  # tied values share their mean rank
    return (ranks * num_bins / len(probs)).astype(np.int64)
