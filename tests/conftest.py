"""Strict JAX for every test: eight CPU devices, and no silent rank promotion."""

import os
from pathlib import Path

import jax
import pytest

os.environ.setdefault("MPLBACKEND", "Agg")
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
# Tests compile much and compute little.
jax.config.update("jax_disable_most_optimizations", True)

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the checkout; where there is none the test skips."""
    if not SHARED.is_dir():
        pytest.skip("needs the real data sets in shared/data beside the checkout")
    return SHARED
