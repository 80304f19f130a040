import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm
from scipy.spatial.distance import cdist
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import poly_mmd

from raydistill.metrics.fidelity import all_metrics, frechet_distance, kernel_distance, prdc

RNG = np.random.default_rng(0)
REAL, OTHER = RNG.normal(size=(120, 6)), RNG.normal(size=(90, 6)) * 0.7 + 0.3


def brute_prdc(real, synthetic, k):
    """The definitions of Kynkäänniemi et al. and Naeem et al., one image at a time."""
    around_real, around_synthetic = (np.sort(cdist(x, x), axis=1)[:, k] for x in (real, synthetic))
    distances = cdist(real, synthetic)
    held = distances <= around_real[:, None]
    return {
        "precision": held.any(axis=0).mean(),
        "recall": (distances <= around_synthetic).any(axis=1).mean(),
        "density": held.sum() / (k * len(synthetic)),
        "coverage": held.any(axis=1).mean(),
    }


def brute_mmd(x, y):
    def kernel(a, b):
        return (a @ b / len(a) + 1) ** 3

    within = [np.mean([kernel(a, b) for i, a in enumerate(z) for j, b in enumerate(z) if i != j]) for z in (x, y)]
    return sum(within) - 2 * np.mean([kernel(a, b) for a in x for b in y])


def test_frechet_is_the_formula():
    means = REAL.mean(axis=0) - OTHER.mean(axis=0)
    a, b = np.cov(REAL.T), np.cov(OTHER.T)
    expected = means @ means + np.trace(a + b - 2 * sqrtm(a @ b).real)
    assert frechet_distance(REAL, OTHER).value == pytest.approx(expected)


def test_both_distances_are_torchmetrics_own():
    features = torch.nn.Flatten()
    features.num_features = REAL.shape[1]
    theirs = FrechetInceptionDistance(feature=features, normalize=False, input_img_size=(REAL.shape[1], 1, 1))
    theirs.set_dtype(torch.float64)
    for rows, is_real in ((REAL, True), (OTHER, False)):
        theirs.update(torch.tensor(rows)[:, :, None, None], real=is_real)
    assert frechet_distance(REAL, OTHER).value == pytest.approx(theirs.compute().item())
    # Of sets of one size, as torchmetrics' kernel distance wants them.
    expected = poly_mmd(torch.tensor(REAL[:90]), torch.tensor(OTHER)).item()
    assert kernel_distance(REAL[:90], OTHER).value == pytest.approx(expected)


def test_frechet_between_known_gaussians():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(50_000, 2)), rng.normal(size=(50_000, 2)) * 3 + [2, 0]
    assert frechet_distance(x, y).value == pytest.approx(4 + 2 * (1 + 9 - 2 * 3), rel=0.02)


@given(st.integers(3, 40), st.integers(1, 12), st.floats(-5, 5))
@settings(max_examples=40)
def test_frechet_properties(n, dimensions, shift):
    rng = np.random.default_rng(n)
    x, y = rng.normal(size=(n, dimensions)), rng.normal(size=(n + 2, dimensions))
    assert frechet_distance(x, x).value == pytest.approx(0.0, abs=1e-9)
    assert frechet_distance(x, x + shift).value == pytest.approx(dimensions * shift**2, abs=1e-8)
    assert frechet_distance(x, y).value == pytest.approx(frechet_distance(y, x).value)
    turn = np.linalg.qr(rng.normal(size=(dimensions, dimensions)))[0]
    assert frechet_distance(x @ turn, y @ turn).value == pytest.approx(frechet_distance(x, y).value)


def test_frechet_says_when_it_is_biased():
    assert "biased upwards" in frechet_distance(REAL[:20], OTHER[:20]).note
    assert "biased" not in frechet_distance(REAL, OTHER).note
    assert frechet_distance(REAL[:1], OTHER).value is None


def test_kernel_distance_is_the_formula_and_unbiased():
    assert kernel_distance(REAL[:15], OTHER[:12]).value == pytest.approx(brute_mmd(REAL[:15], OTHER[:12]))
    rng = np.random.default_rng(2)
    same = [kernel_distance(rng.normal(size=(50, 4)), rng.normal(size=(60, 4))) for _ in range(200)]
    values = np.array([result.value for result in same])
    assert abs(values.mean()) < 3 * values.std() / np.sqrt(200)
    assert np.mean([result.interval[0] <= 0 <= result.interval[1] for result in same]) >= 0.93


def test_kernel_distance_finds_a_shift_and_names_a_small_sample():
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(400, 4)) + 1, rng.normal(size=(400, 4))
    result = kernel_distance(x, y)
    assert result.interval[0] > 0
    assert result == kernel_distance(x, y)
    assert result.interval != kernel_distance(x, y, seed=1).interval
    small = kernel_distance(REAL[:30], OTHER)
    assert small.interval is None
    assert "too few" in small.note


@pytest.mark.parametrize("k", [1, 3, 10])
def test_prdc_is_brute_force(k):
    results = prdc(REAL, OTHER, k)
    assert {name: result.value for name, result in results.items()} == pytest.approx(brute_prdc(REAL, OTHER, k))
    for result in results.values():
        assert result.interval[0] <= result.value <= result.interval[1]


def test_prdc_of_the_same_far_and_collapsed_sets():
    assert {name: result.value for name, result in prdc(REAL, REAL, 5).items() if name != "density"} == {
        "precision": 1.0,
        "recall": 1.0,
        "coverage": 1.0,
    }
    assert all(result.value == 0.0 for result in prdc(REAL, REAL + 100, 5).values())
    collapsed = prdc(REAL, REAL[:1] + 1e-3 * RNG.normal(size=(90, 6)), 5)
    assert collapsed["precision"].value == 1.0
    assert collapsed["coverage"].value < 0.3


def test_prdc_needs_more_images_than_neighbours_and_counts_patients():
    assert all(result.value is None for result in prdc(REAL[:5], OTHER, 5).values())
    by_image, by_patient = prdc(REAL, OTHER, 5), prdc(REAL, OTHER, 5, patients=np.arange(120) // 6)
    assert by_patient["coverage"].value == by_image["coverage"].value
    assert np.diff(by_patient["coverage"].interval) > np.diff(by_image["coverage"].interval)


def test_the_kernel_distance_keeps_a_patient_in_one_block():
    rng = np.random.default_rng(2)
    people, alone = rng.normal(size=(30, 4)), rng.normal(size=(200, 4))
    real = np.repeat(people, 8, axis=0) + 0.1 * rng.normal(size=(240, 4))
    by_image = kernel_distance(alone, real)
    by_patient = kernel_distance(alone, real, clusters=(None, np.repeat(np.arange(30), 8)))
    assert by_patient.value == by_image.value
    assert np.diff(by_patient.interval) > np.diff(by_image.interval)
    assert kernel_distance(alone, real, clusters=(None, np.repeat(np.arange(8), 30))).interval is None


def test_patients_widen_what_they_are_the_units_of():
    rng = np.random.default_rng(3)
    real, judged, floor = (rng.normal(size=(size, 4)) for size in (240, 200, 200))
    by_image = all_metrics(real, judged, floor)
    by_patient = all_metrics(real, judged, floor, patients=np.arange(240) // 8)
    assert {name: m.value for name, m in by_patient.items()} == {name: m.value for name, m in by_image.items()}
    assert "(30 clusters" in by_patient["recall"].estimator
    assert "(30 clusters" in by_patient["coverage"].estimator
    assert "(200 clusters" in by_patient["precision"].estimator
    real_judged = all_metrics(real, judged, floor, judged_patients=np.arange(200) // 5)
    assert "(40 clusters" in real_judged["precision"].estimator


def test_everything_comes_with_its_floor():
    rng = np.random.default_rng(5)
    results = all_metrics(rng.normal(size=(200, 4)), rng.normal(size=(150, 4)) * 2, rng.normal(size=(300, 4)))
    assert set(results) == {"frechet_distance", "kernel_distance", "precision", "recall", "density", "coverage"}
    assert all(result.control is not None and result.reference for result in results.values())
    assert results["frechet_distance"].value > 5 * results["frechet_distance"].control
    assert results["precision"].value < results["precision"].control


def test_judged_set_and_floor_are_compared_at_one_size():
    rng = np.random.default_rng(6)
    real, judged, floor = (rng.normal(size=(n, 8)) for n in (200, 400, 60))
    results = all_metrics(real, judged, floor)
    assert results["frechet_distance"].n == 60
    assert results["frechet_distance"].value == pytest.approx(results["frechet_distance"].control, rel=0.5)


def test_bad_features_are_refused():
    with pytest.raises(ValueError, match="finite"):
        frechet_distance(np.full((5, 2), np.nan), REAL)
