#!/usr/bin/env bash
# Makes or refreshes .venv, then runs `python -m MODULE ARGS` in it:
#   launch/run.sh experiments.diagnose --data photos/
#   launch/run.sh pytest
# JAX for an NVIDIA GPU or a TPU is installed where there is one; CANDOR_JAX=cpu|cuda13|tpu overrides.
set -euo pipefail

[ $# -ge 1 ] || { echo "usage: launch/run.sh MODULE [ARGS...], for example: launch/run.sh experiments.diagnose" >&2; exit 2; }
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=$root/.venv
python=${PYTHON:-python3}

if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "error: $python is missing or older than 3.11; install Python 3.11 or newer, or set PYTHON=/path/to/python3.11" >&2
    exit 2
fi

accelerator() {
    if command -v nvidia-smi >/dev/null && nvidia-smi -L 2>/dev/null | grep -q GPU; then
        echo cuda13
    elif grep -qs 0x1ae0 /sys/bus/pci/devices/*/vendor && grep -qsE '0x00(27|56|5e|62|63|6f|76)' /sys/bus/pci/devices/*/device; then
        echo tpu # Google's PCI vendor and its TPU devices, as JAX itself looks for them
    else
        echo cpu
    fi
}
jax=${CANDOR_JAX:-$(accelerator)}

install=(-r "$root/requirements.txt")
[ "$jax" = cpu ] || install+=("jax[$jax]")
stamp=$venv/.installed
[ "$1" != pytest ] || { install+=(-r "$root/tests/requirements.txt"); stamp=$venv/.installed-tests; }

# The stamp names everything that decides what is installed; a .venv whose stamp differs is refreshed.
wanted=$("$python" --version; echo "$jax"; cat "$root/requirements.txt"; [ "$1" != pytest ] || cat "$root/tests/requirements.txt")
if [ ! -x "$venv/bin/python" ] || [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
    echo "installing into .venv (once; about a minute) ..." >&2
    if [ "$("$venv/bin/python" --version 2>/dev/null)" != "$("$python" --version)" ]; then
        "$python" -m venv --clear "$venv"
    fi
    rm -f "$venv"/.installed*
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "${install[@]}" >&2
    printf '%s\n' "$wanted" >"$stamp"
    [ "$1" != pytest ] || { "$python" --version; echo "$jax"; cat "$root/requirements.txt"; } >"$venv/.installed"
fi

if [ "$1" = pytest ]; then cd "$root"; fi # pytest reads pyproject.toml there; experiments keep your paths
# XLA takes its buffers afresh from malloc at every step. In huge pages that costs a CPU far fewer page
# faults: a Bayes-by-Backprop step of a 784-1200-1200-10 network fell from 4.2 to 3.0 plain steps.
export GLIBC_TUNABLES=${GLIBC_TUNABLES:-glibc.malloc.hugetlb=1}
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}
exec "$venv/bin/python" -m "$@"
