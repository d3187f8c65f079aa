import numpy as np

from research.calibrators.temperature import fit_temperature, temperature


def test_it_is_the_fit_of_the_method_and_keeps_every_answer(distorted):
    log_probs, labels = distorted(0, 500, 0.5, np.zeros(4))
    calibrator, fit = temperature(log_probs, labels), fit_temperature(log_probs, labels)
    assert calibrator.fitted["temperature"] == fit.temperature
    assert calibrator.fitted["low"] < 2 < calibrator.fitted["high"]
    mapped = calibrator.apply(log_probs)
    np.testing.assert_array_equal(mapped.argmax(axis=-1), log_probs.argmax(axis=-1))
    gaps, before = (x[0, :, :1] - x[0, :, 1:] for x in (mapped, log_probs))
    np.testing.assert_allclose(gaps * fit.temperature, before, rtol=1e-9, atol=1e-12)


def test_an_interval_without_end_is_null():
    labels = np.arange(30) % 3
    log_probs = np.log(np.full((1, 30, 3), 0.2) + 0.4 * np.eye(3)[(labels + 1) % 3])
    assert temperature(log_probs, labels).fitted["high"] is None
