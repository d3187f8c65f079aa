"""The generalised Gauss-Newton matrix (GGN) of the negative log-likelihood, in three shapes.

    GGN = sum_n J_n^T H_n J_n,    H_n = diag(p_n) - p_n p_n^T,    J_n = d logits_n / d weights

J is the network linearised, H the exact Hessian of softmax cross-entropy in the logits: the
expectation over the classes, not the empirical Fisher of the labels (Schraudolph 2002; Kunstner et
al. 2019). H = sum_k l_k l_k^T with l_k = sqrt(p_k) (e_k - p), so one backward pass for each class
gives it exactly.

A layer is a matrix W [D, F] of input features by units, the bias its last row (the input then ends
in a 1). It meets an example at T positions: one for a dense layer, each pixel of the map for a
convolution, whose inputs are patches. With inputs a_t and gradients g_kt at its output,
J^T l_k = sum_t a_t g_kt^T.

- full: every pair of weights, exact.
- Kronecker (K-FAC; Martens & Grosse 2015; Grosse & Martens 2016 for convolutions): A (x) G with
  A = sum_n sum_t a a^T and G = sum_n sum_t sum_k g g^T / (N T). Positions are taken as independent
  ("expand" in Eschenhagen et al. 2023). Exact where all a are equal and only one position matters.
- diagonal: sum_n sum_k (sum_t a_t g_kt^T)^2, exact.
"""

import math
from typing import cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from research.method import Model


def to_matrix(layer: dict) -> jax.Array:
    """A layer's {"kernel", "bias"} as one matrix [D, F]; the bias is the last row."""
    kernel = layer["kernel"].reshape(-1, layer["kernel"].shape[-1])
    return jnp.concatenate([kernel, layer["bias"][None]]) if "bias" in layer else kernel


def from_matrix(matrix: jax.Array, layer: dict) -> dict:
    """The reverse of `to_matrix`, in the shapes of `layer`."""
    rows = math.prod(layer["kernel"].shape[:-1])
    parts = {"kernel": matrix[:rows].reshape(layer["kernel"].shape)}
    return parts | ({"bias": matrix[rows]} if "bias" in layer else {})


def _patches(module: nn.Conv, images: jax.Array) -> jax.Array:
    """What each position of a convolution sees: [B, H, W, kh*kw*C], in the order of its kernel."""
    size = images.shape[1:3]
    (kh, kw), (sh, sw) = cast(tuple, module.kernel_size), cast(tuple, module.strides)
    assert isinstance(module.padding, str)  # "SAME" or "VALID"
    pads = jax.lax.padtype_to_pads(size, (kh, kw), (sh, sw), module.padding)
    images = jnp.pad(images, ((0, 0), *pads, (0, 0)))
    height, width = ((images.shape[1 + i] - (kh, kw)[i]) // (sh, sw)[i] + 1 for i in (0, 1))
    shifted = [
        images[:, i : i + sh * (height - 1) + 1 : sh, j : j + sw * (width - 1) + 1 : sw]
        for i in range(kh)
        for j in range(kw)
    ]
    return jnp.concatenate(shifted, axis=-1)


def _inputs(module: nn.Dense | nn.Conv, x: jax.Array) -> jax.Array:
    """What multiplies a layer's matrix: [B, T, D] float32."""
    x = (_patches(module, x) if isinstance(module, nn.Conv) else x).astype(jnp.float32)
    x = x.reshape(x.shape[0], -1, x.shape[-1])
    return jnp.concatenate([x, jnp.ones_like(x[..., :1])], axis=-1) if module.use_bias else x


def _run(model: Model, params, images, layers, offsets=None):
    """A forward pass that adds `offsets` to the layers' outputs and records their inputs."""
    inputs, shapes = {}, {}

    def interceptor(call, args, kwargs, context):
        out, module = call(*args, **kwargs), context.module
        if module.name not in layers or not isinstance(module, nn.Dense | nn.Conv):
            return out
        inputs[module.name] = _inputs(module, args[0])
        shapes[module.name] = jnp.zeros(out.shape)
        return out if offsets is None else out + offsets[module.name].astype(out.dtype)

    with nn.intercept_methods(interceptor):
        logits = model.apply(params, images)
    return logits, inputs, shapes


def features(model: Model, params: dict, images: jax.Array, layer: str) -> jax.Array:
    """What a dense layer sees of each image: [B, D], with a last 1 where it has a bias."""
    return _run(model, params, images, (layer,))[1][layer][:, 0]


def factors(
    model: Model, params: dict, images: jax.Array, present: jax.Array, layers: tuple[str, ...]
) -> dict[str, tuple[jax.Array, jax.Array]]:
    """Each layer's part of the Jacobian factors, dropout off.

    Args:
        model: the network.
        params: where it is linearised.
        images: [B, ...].
        present: [B], 0 for an example that is only there to fill the batch, else 1.
        layers: names of dense and convolutional layers.

    Returns:
        By layer: inputs a [B, T, D], and gradients g [K, B, T, F] of the logits, weighted by l_k.
    """
    offsets = jax.eval_shape(lambda: _run(model, params, images, layers)[2])
    offsets = jax.tree.map(lambda x: jnp.zeros(x.shape), offsets)

    def forward(offsets):
        return _run(model, params, images, layers, offsets)[:2]

    logits, backward, inputs = jax.vjp(forward, offsets, has_aux=True)
    probs = jax.nn.softmax(logits)  # [B, K]

    def of_class(k):
        at_k = probs[:, k, None]
        (gradients,) = backward(jnp.sqrt(at_k) * (jax.nn.one_hot(k, probs.shape[-1])[None] - probs))
        return {n: g.reshape(len(g), -1, g.shape[-1]) for n, g in gradients.items()}

    gradients = jax.vmap(of_class)(jnp.arange(probs.shape[-1]))
    present = present[:, None, None]
    return {name: (present * inputs[name], present[None] * gradients[name]) for name in layers}


def zeros(kind: str, inputs: int, units: int):
    """The sums of one layer, D inputs by F units, before any example."""
    if kind == "kron":
        return jnp.zeros((inputs, inputs)), jnp.zeros((units, units))
    return jnp.zeros((inputs * units,) * 2 if kind == "full" else (inputs, units))


def add_full(total: jax.Array, a: jax.Array, g: jax.Array) -> jax.Array:
    """Adds a batch to the exact GGN [D*F, D*F] of one dense layer (T = 1).

    The weights are in the order of the flattened matrix [D, F].
    """
    a = a[:, 0]
    hessians = jnp.einsum("kbf,kbh->bfh", g[:, :, 0], g[:, :, 0])  # [B, F, F]
    return total + jnp.einsum("bi,bj,bfh->ifjh", a, a, hessians).reshape(total.shape)


def add_kron(total: tuple, a: jax.Array, g: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Adds a batch to the factors A [D, D] and N G [F, F] of one layer."""
    left = jnp.einsum("bti,btj->ij", a, a)
    right = jnp.einsum("kbtf,kbth->fh", g, g) / a.shape[1]
    return total[0] + left, total[1] + right


def add_diag(total: jax.Array, a: jax.Array, g: jax.Array) -> jax.Array:
    """Adds a batch to the exact diagonal [D, F] of one layer."""
    if a.shape[1] == 1:
        return total + jnp.einsum("bi,kbf->if", a[:, 0] ** 2, g[:, :, 0] ** 2)

    def example(total, factor):  # one after another: each has a gradient of its own, K [D, F]
        a, g = factor
        return total + jnp.sum(jnp.einsum("ti,ktf->kif", a, g) ** 2, axis=0), None

    return jax.lax.scan(example, total, (a, jnp.moveaxis(g, 1, 0)))[0]


ADD = {"full": add_full, "kron": add_kron, "diag": add_diag}
