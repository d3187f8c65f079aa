"""A Gaussian posterior from curvature: the Laplace approximation of one layer.

    q(w) = N(w*, (GGN + tau I)^-1)

tau is the precision of the prior N(0, 1/tau) on each weight. The GGN is kept as eigenvectors and
eigenvalues lambda, and the prior is added to the eigenvalues, so that changing tau costs nothing
(MacKay 1992; Ritter et al. 2018 for Kronecker factors, where A (x) G has the eigenvalues a_i g_j).
tau = infinity stands for no uncertainty at all.

Three structures, each a NamedTuple; functions below take any of them. D inputs (with the bias) by F
units, P = D F; see `posteriors/ggn.py` for the sums that they come from.
"""

import math
from collections.abc import Iterable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from research.method import Model
from research.posteriors import ggn
from research.runtime.errors import UserError

LARGEST_MATRIX = 8192  # rows whose eigenvectors are still computed: 256 MiB, minutes on a CPU


class Full(NamedTuple):
    """Every pair of weights of a layer."""

    basis: jax.Array  # [P, P], columns are eigenvectors
    eigenvalues: jax.Array  # [P]


class Kron(NamedTuple):
    """A Kronecker product A (x) G."""

    left: jax.Array  # [D, D], eigenvectors of A
    right: jax.Array  # [F, F], of G
    left_eigenvalues: jax.Array  # [D]
    right_eigenvalues: jax.Array  # [F]


class Diag(NamedTuple):
    """Every weight for itself."""

    eigenvalues: jax.Array  # [D, F]


Curvature = Full | Kron | Diag


def zeros(kind: str, inputs: int, units: int) -> Curvature:
    """The curvature of no data at all, for a layer of D inputs by F units."""
    shapes = jax.eval_shape(lambda: decompose(kind, ggn.zeros(kind, inputs, units), 1))
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), shapes)


def _eigh(matrix: jax.Array) -> tuple[jax.Array, jax.Array]:
    values, vectors = jnp.linalg.eigh(matrix)
    return jnp.maximum(values, 0.0), vectors  # rounding makes small eigenvalues negative


def decompose(kind: str, sums, num_examples: int) -> Curvature:
    """Eigenvectors and eigenvalues of the sums over N examples that `ggn.ADD[kind]` made."""
    if kind == "full":
        values, basis = _eigh(sums)
        return Full(basis, values)
    if kind == "kron":
        (left_values, left), (right_values, right) = map(_eigh, sums)
        return Kron(left, right, left_values, right_values / num_examples)
    return Diag(sums)


def spectrum(curvature: Curvature) -> jax.Array:
    """The P eigenvalues of the GGN: [P], or [D, F]."""
    if isinstance(curvature, Kron):
        return curvature.left_eigenvalues[:, None] * curvature.right_eigenvalues[None]
    return curvature.eigenvalues


def sample(
    key: jax.Array, curvature: Curvature, tau: jax.Array, shape: tuple[int, ...]
) -> jax.Array:
    """One draw of w - w*, a matrix of `shape` = [D, F]; zeros where tau is infinite."""
    values = spectrum(curvature)
    noise = jax.random.normal(key, values.shape) / jnp.sqrt(values + tau)
    match curvature:
        case Full():
            return (curvature.basis @ noise).reshape(shape)
        case Kron():
            return curvature.left @ noise @ curvature.right.T
        case Diag():
            return noise


def output_covariance(curvature: Full | Kron, tau: jax.Array, a: jax.Array) -> jax.Array:
    """Covariance of a dense layer's outputs a W under the posterior.

    The Jacobians a (x) I [B, F, D F] are never built: of Kronecker factors, the inputs are turned
    into the eigenbasis instead; the full matrix meets one example after another.

    Args:
        curvature: of the layer.
        tau: prior precision.
        a: [B, D], the layer's inputs.

    Returns:
        [B, F, F].
    """
    variances = 1.0 / (spectrum(curvature) + tau)
    if isinstance(curvature, Kron):
        by_unit = jnp.square(a @ curvature.left) @ variances  # [B, F], in the basis of G
        return jnp.einsum("fj,bj,hj->bfh", curvature.right, by_unit, curvature.right)
    basis = curvature.basis.reshape(a.shape[1], -1, len(variances))  # [D, F, P]

    def example(a):
        turned = jnp.einsum("i,ifp->fp", a, basis)
        return (turned * variances[None]) @ turned.T

    return jax.lax.map(example, a)  # one after another: a batch of [F, P] can be large


def choose_layers(
    model: Model, params: Any, structure: str, classes: int
) -> dict[str, tuple[int, ...]]:
    """The layers that are uncertain, and their sizes D by F.

    Args:
        model: the network.
        params: of the model.
        structure: "last_full", "last_kron": the last layer; "kron", "diag": all.
        classes: K.

    Raises:
        UserError: the network has no such layers, or they are too large for the structure.
    """
    if not model.layers:
        raise UserError(
            None,
            "laplace: this network runs as a black box, whose layers cannot be reached",
            "use a method that needs none, such as temperature(point)",
        )
    last = model.layers[-1]
    layers = (last,) if structure.startswith("last") else model.layers
    # The scales of an `Affine` layer, which has no kernel, stay what they are.
    sizes = {name: ggn.to_matrix(params[name]).shape for name in layers if "kernel" in params[name]}
    units = (classes, 1) if classes == 2 else (classes,)  # 1: z of the logits (0, z)
    is_dense = last in sizes and params[last]["kernel"].ndim == 2 and sizes[last][1] in units
    if structure.startswith("last") and not is_dense:
        raise UserError(
            None,
            f"laplace(structure={structure}): the last layer, '{last}', is not a dense one that "
            "gives the logits",
            "use structure=kron or diag",
        )
    for name, size in sizes.items():
        rows = math.prod(size) if structure == "last_full" else max(size)
        if structure != "diag" and rows > LARGEST_MATRIX:
            way_out = "last_kron" if structure in ("last_full", "kron") else "diag"
            raise UserError(
                None,
                f"laplace(structure={structure}): layer '{name}', {size[0]} by {size[1]}, needs "
                f"the eigenvectors of a matrix of {rows} rows (limit {LARGEST_MATRIX})",
                f"use structure={way_out}",
            )
    return sizes


@partial(jax.jit, static_argnums=(0, 1), donate_argnums=2)
def _add_batch(model, kind, sums, params, images, present):
    with jax.default_matmul_precision("highest"):
        factors = ggn.factors(model, params, images, present, tuple(sums))
        return {name: ggn.ADD[kind](sums[name], *factors[name]) for name in sums}


def fit_curvature(
    model: Model, params: Any, layers: tuple[str, ...], kind: str, batches: Iterable
) -> dict[str, Curvature]:
    """One pass over the training data: the GGN of each layer, summed over exactly N examples.

    Args:
        model: the network.
        params: the maximum of its posterior.
        layers: which of them.
        kind: "full", "kron" or "diag".
        batches: (images [B, ...], present [B]: 1, or 0 for what only fills a batch up), all of
            one size.
    """
    sizes = {name: ggn.to_matrix(params[name]).shape for name in layers}
    sums = {name: ggn.zeros(kind, *sizes[name]) for name in layers}
    count = 0
    for images, present in batches:
        count += int(np.sum(present))
        sums = _add_batch(model, kind, sums, params, images, present)
    return {name: decompose(kind, sums[name], count) for name in layers}
