"""Against what others measured on the stored predictions of a public Keras VGG16 on CIFAR-10."""

import numpy as np
import pytest
from scipy.special import log_softmax

from research.metrics.calibration import perfectly_calibrated_ece
from research.metrics.evaluate import TABLE
from research.metrics.scores import Scores, scores


@pytest.fixture(scope="module")
def stored(shared_data) -> tuple[np.ndarray, np.ndarray]:
    with np.load(shared_data / "vgg16_cifar10_test_probs.npz", allow_pickle=False) as file:
        return np.log(file["probs"])[None], file["labels"]


@pytest.fixture(scope="module")
def vgg(stored) -> Scores:
    return scores(*stored)


@pytest.mark.parametrize(
    ("name", "printed"),
    [
        ("accuracy", "0.9359"),
        ("nll", "0.2571"),
        ("brier", "0.1054"),
        ("ece", "0.0398"),
        ("mean_confidence", "0.9756"),
        ("aurc", "0.00666"),
        ("e_aurc", "0.00456"),
        ("ks_error", "0.0397"),
        ("class_wise_ece", "0.0088"),
    ],
)
def test_published_numbers(vgg, name, printed):
    digits = len(printed) - 2
    assert f"{TABLE[name].function(vgg, None):.{digits}f}" == printed


def test_the_decomposition_adds_up(vgg):
    value = {n: TABLE[n].function(vgg, None) for n in TABLE if n.startswith("brier")}
    parts = value["brier_reliability"] - value["brier_resolution"] + value["brier_uncertainty"]
    assert abs(parts - value["brier"]) < 1e-12


@pytest.mark.parametrize(
    ("num_examples", "mean", "low", "high"),
    [(10_000, 0.0049, 0.0032, 0.0071), (1_000, 0.0152, 0.0098, 0.0212)],
)
def test_the_noise_of_a_calibrated_vgg(stored, num_examples, mean, low, high):
    # Found for "VGG-like confidences": these predictions at the temperature that suits
    # them, 1.69. Its range is of 90 %, so ours, of 95 %, lies a little outside it.
    confidence = np.exp(log_softmax(stored[0][0] / 1.69, axis=1)).max(axis=1)
    parts = confidence.reshape(-1, num_examples)
    estimates = [perfectly_calibrated_ece(part, replicates=400) for part in parts]
    ours = np.mean([e[:3] for e in estimates], axis=0)
    assert ours[0] == pytest.approx(mean, rel=0.03)
    assert 0.8 * low < ours[1] < low
    assert high < ours[2] < 1.2 * high
