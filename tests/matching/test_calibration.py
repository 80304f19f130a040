import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta, norm

from raydistill.core.errors import InputError
from raydistill.matching.calibration import calibrate

scores_lists = st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=60)


@given(scores_lists, st.floats(0.01, 0.9))
def test_the_threshold_is_the_smallest_that_keeps_the_target(values, target):
    scores = np.array(values, np.float32)
    point = calibrate(scores, list(range(len(scores))), target, 0.95)
    asked = max(target, point.supported_fpir) * (len(scores) + 1)
    assert np.mean(scores >= point.threshold) == point.fpir
    assert (scores >= point.threshold).sum() + 1 <= asked + 1e-6
    lower = np.nextafter(np.float32(point.threshold), np.float32(-np.inf))
    assert (scores >= lower).sum() + 1 > asked - 1e-6


@given(scores_lists, st.floats(0.01, 0.9))
def test_single_and_double_precision_agree(values, target):
    scores = np.array(values, np.float32)
    threshold = calibrate(scores, list(range(len(scores))), target, 0.95).threshold
    assert ((scores >= threshold) == (scores.astype(np.float64) >= threshold)).all()


@given(scores_lists, st.floats(0.01, 0.9), st.floats(0.01, 0.9))
def test_a_smaller_target_never_lowers_the_threshold(values, first, second):
    patients = list(range(len(values)))
    strict, loose = (calibrate(np.array(values), patients, t, 0.95).threshold for t in sorted((first, second)))
    assert strict >= loose


def test_counts_are_right_on_a_plain_case():
    scores = np.arange(100) / 100
    point = calibrate(scores, [f"p{i}" for i in range(100)], 0.05, 0.95)
    # The next one is among the five largest of 101 with a probability of 4.95 %.
    assert (scores >= point.threshold).sum() == 4
    assert (point.fpir, point.num_images, point.num_patients, point.note) == (0.04, 100, 100, "")
    np.testing.assert_allclose(point.fpir_interval, [beta.ppf(0.025, 4, 97), beta.ppf(0.975, 5, 96)])


def test_what_the_patients_cannot_support_is_not_extrapolated():
    scores, patients = np.linspace(-1, 1, 400), np.repeat(np.arange(40), 10)
    point = calibrate(scores, patients, 0.001, 0.95)
    assert point.supported_fpir == pytest.approx(1 / 41)
    assert point.fpir == 0
    assert "can't support an FPIR of 0.001" in point.note
    assert "400 images of 40 patients" in point.note


@pytest.mark.parametrize(
    ("people", "target"), [(59, 0.05), (60, 0.05), (53, 0.05), (100, 0.01), (120, 0.01), (200, 0.005)]
)
def test_a_threshold_holds_for_the_next_stranger(people, target):
    """Of uniform scores the threshold's distance to 1 is the share of fresh strangers above it."""
    rng = np.random.default_rng(0)
    above = [1 - calibrate(rng.uniform(size=people), list(range(people)), target, 0.95).threshold for _ in range(3000)]
    error = 3 * np.std(above) / np.sqrt(len(above))
    asked = max(target, 1 / (people + 1))
    assert np.mean(above) <= asked + error
    assert np.mean(above) > asked - 1 / (people + 1) - error


@pytest.mark.parametrize("alike", [0.0, 0.5, 0.9])
@pytest.mark.parametrize(("people", "target"), [(53, 0.05), (53, 0.02), (100, 0.02)])
def test_a_threshold_holds_for_the_next_stranger_however_alike_images_of_one_person_are(people, target, alike):
    """Scores of one person share a part; some people have sixty images, most one."""
    rng, shares = np.random.default_rng(1), []
    for _ in range(600):
        images = np.minimum(1 + rng.geometric(0.25, people) ** 2, 60)
        scores, patients = _clustered(rng, images, alike)
        threshold = calibrate(scores, patients, target, 0.95).threshold
        # The share of a further person's images above it is known: both parts are normal.
        shares.append(1 - norm.cdf(threshold))
    error = 3 * np.std(shares) / np.sqrt(len(shares))
    assert np.mean(shares) <= target + error
    assert np.mean(shares) > target - 2 / (people + 1) - error


def _clustered(rng, images, alike):
    whose = np.repeat(np.arange(len(images)), images)
    own, shared = rng.normal(size=len(whose)), rng.normal(size=len(images))
    return np.sqrt(alike) * shared[whose] + np.sqrt(1 - alike) * own, whose


def test_refuses_what_cannot_be_measured():
    with pytest.raises(InputError, match="no image"):
        calibrate(np.array([]), [], 0.1, 0.95)
    with pytest.raises(InputError, match="finite"):
        calibrate(np.array([0.1, np.nan]), ["a", "b"], 0.1, 0.95)
    with pytest.raises(InputError, match="patient ids"):
        calibrate(np.array([0.1, 0.2]), ["a"], 0.1, 0.95)
