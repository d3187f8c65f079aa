"""Strict JAX for every test: eight CPU devices, and no silent rank promotion."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

import jax
import pytest

os.environ.setdefault("MPLBACKEND", "Agg")
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
# Tests compile many programs and run each briefly, so XLA leaves out the optimisations (and the
# emitters of fused loops) that only pay in programs that run for long.
jax.config.update("jax_disable_most_optimizations", True)
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_use_fusion_emitters=false"
# ... and much of it again and again: what one test has compiled, in either process, others load.
if "CANDOR_COMPILED" not in os.environ:  # the first process; its workers inherit the name
    os.environ["CANDOR_COMPILED"] = tempfile.mkdtemp(prefix="candor-")
    atexit.register(shutil.rmtree, os.environ["CANDOR_COMPILED"], ignore_errors=True)
jax.config.update("jax_compilation_cache_dir", os.environ["CANDOR_COMPILED"])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the checkout; where there is none the test skips."""
    if not SHARED.is_dir():
        pytest.skip("needs the real data sets in shared/data beside the checkout")
    return SHARED
