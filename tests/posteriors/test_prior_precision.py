"""The evidence against a determinant, its maximum against MacKay's fixed point."""

import jax.numpy as jnp
import numpy as np

from research.posteriors.curvature import Diag
from research.posteriors.prior_precision import LOG10_TAU, log_occam_factor, maximise_evidence


def test_the_occam_factor_is_the_prior_times_the_volume_of_the_posterior():
    generator = np.random.default_rng(0)
    root, weights, tau = generator.normal(size=(6, 4)), generator.normal(size=6), 0.7
    hessian = root @ root.T  # rank 4 of 6, as a GGN's
    log_prior = np.sum(-0.5 * tau * weights**2 + 0.5 * np.log(tau / (2 * np.pi)))
    _, log_determinant = np.linalg.slogdet(hessian + tau * np.eye(6))
    wanted = log_prior + 3 * np.log(2 * np.pi) - 0.5 * log_determinant
    spectrum = np.maximum(np.linalg.eigvalsh(hessian), 0.0)
    found = log_occam_factor([spectrum[:2], spectrum[2:]], np.sum(weights**2), tau)
    np.testing.assert_allclose(found, wanted, rtol=1e-10)


def _evidence_tau(scale, eigenvalues):
    params = {"a": {"kernel": jnp.full((3, 2), scale)}}
    return maximise_evidence(params, {"a": Diag(jnp.asarray(eigenvalues).reshape(3, 2))})


def test_the_evidence_is_highest_where_the_weights_match_the_prior():
    """MacKay 1992: tau |w|^2 equals the number of well-determined weights."""
    eigenvalues = np.array([0.01, 1.0, 3.0, 10.0, 50.0, 200.0], np.float32)
    tau = _evidence_tau(0.5, eigenvalues)
    np.testing.assert_allclose(np.sum(eigenvalues / (eigenvalues + tau)), tau * 6 * 0.25, rtol=1e-5)


def test_an_optimum_outside_the_search_is_its_end():
    assert _evidence_tau(1e-6, np.full(6, 1e3, np.float32)) == 10.0 ** LOG10_TAU[1]
