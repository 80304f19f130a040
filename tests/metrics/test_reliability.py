import numpy as np
import pytest

from raydistill.metrics.reliability import BINS, calibration_error


def drawn(rng, n=2000, findings=3, sharpen=1.0):
    """Probabilities, and labels that follow them, or what they would be were they less sure of themselves."""
    right = rng.uniform(0.05, 0.95, size=(n, findings))
    odds = (right / (1 - right)) ** (1 / sharpen)
    return rng.uniform(size=right.shape) < odds / (1 + odds), right


def test_the_error_is_that_of_ten_bins_by_hand():
    truth, scores = drawn(np.random.default_rng(0), n=203, findings=2)
    errors = []
    for labels, column in zip(truth.T, scores.T, strict=True):
        order = np.argsort(column, kind="stable")
        bins = np.split(order, np.linspace(0, 203, BINS, endpoint=False).astype(int)[1:])
        errors.append(sum(len(rows) / 203 * abs(labels[rows].mean() - column[rows].mean()) for rows in bins))
    assert calibration_error(truth, scores, np.arange(203)).value == pytest.approx(np.mean(errors))


def test_right_probabilities_err_as_much_as_chance_does_and_overconfident_ones_more():
    rng = np.random.default_rng(1)
    right = calibration_error(*drawn(rng), np.arange(2000) // 2)
    sure = calibration_error(*drawn(rng, sharpen=3.0), np.arange(2000) // 2)
    assert right.value == pytest.approx(right.control, abs=0.01)
    assert sure.interval[0] > sure.control + 0.05
    assert sure.value == pytest.approx(0.15, abs=0.05)


def test_too_few_cases_say_nothing():
    truth, scores = drawn(np.random.default_rng(2), n=30)
    assert calibration_error(truth[:4], scores[:4], np.arange(4)).value is None
