"""Strict JAX for every test: eight CPU devices, and no silent rank promotion."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

# Tests compile the same programs many times, in two workers and in processes of their own: what one
# has compiled the others read. The first to come makes the folder, and takes it away at its end.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="candor-tests-")
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "0"

import jax  # reads these when it is imported
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
