import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from raydistill.metrics import bootstrap
from raydistill.metrics.bootstrap import Resamples, evaluate, resample, weighted_auc, weighted_mean


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5), st.integers(0, 3)), min_size=4, max_size=40))
@settings(max_examples=100)
def test_weighted_auc_is_sklearns(rows):
    positive, scores, weights = (np.array(column) for column in zip(*rows, strict=True))
    area = weighted_auc(positive, scores)(weights[None].astype(float))[0]
    if not (weights[positive].sum() and weights[~positive].sum()):
        assert np.isnan(area)
    else:
        assert area == pytest.approx(roc_auc_score(positive, scores, sample_weight=weights))


def test_weights_mean_repeating_records():
    rng = np.random.default_rng(0)
    values, positive, weights = rng.normal(size=30), np.arange(30) < 12, rng.integers(0, 4, 30)
    repeated = np.repeat(np.arange(30), weights)
    row = weights[None].astype(float)
    assert weighted_mean(values)(row)[0] == pytest.approx(values[repeated].mean())
    assert weighted_auc(positive, values)(row)[0] == pytest.approx(roc_auc_score(positive[repeated], values[repeated]))


def test_resamples_depend_on_the_seed_and_not_on_memory(monkeypatch):
    values, clusters = np.random.default_rng(0).normal(size=200), np.arange(200) // 4
    first = resample(weighted_mean(values), clusters, seed=3).values
    monkeypatch.setattr(bootstrap, "MAX_WEIGHTS", 1000)
    np.testing.assert_allclose(resample(weighted_mean(values), clusters, seed=3).values, first)
    assert not np.allclose(resample(weighted_mean(values), clusters, seed=4).values, first)


def test_whole_patients_are_drawn():
    seen = []
    resample(lambda weights: seen.append(weights) or weights[:, 0], np.repeat([5, 1, 9], [3, 1, 2]), repetitions=50)
    weights = np.concatenate(seen)
    assert (weights[:, :3] == weights[:, :1]).all()
    assert (weights[:, 0] + weights[:, 3] + weights[:, 4] == 3).all()


def test_standard_error_of_a_mean():
    rng = np.random.default_rng(0)
    values = rng.normal(size=400)
    spread = np.std(resample(weighted_mean(values), np.arange(400), repetitions=2000).values)
    assert spread == pytest.approx(values.std() / 20, rel=0.06)


def test_one_patient_or_no_resample_has_no_interval():
    assert resample(weighted_mean([1.0, 2.0]), [0, 0]).percentile(0.95) is None
    assert Resamples(np.full(10, np.nan), 5).logit(0.5, 5, 0.95) is None


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_an_area_at_the_edge_keeps_an_honest_interval(value):
    positive = np.arange(40) < 20
    scores = np.where(positive, 1.0, 0.0) if value else np.where(positive, 0.0, 1.0)
    area = weighted_auc(positive, scores)
    low, high = resample(area, np.arange(40)).logit(evaluate(area, 40), 20, 0.95)
    assert (high if value else 1 - low) == 1.0
    assert high - low == pytest.approx(1 - 0.025 ** (1 / 20))


@pytest.mark.parametrize(("area", "num_patients"), [(0.5, 40), (0.8, 60), (0.97, 40)])
def test_area_intervals_cover(area, num_patients):
    rng, covered = np.random.default_rng(2), []
    for repeat in range(200):
        clusters = np.repeat(np.arange(2 * num_patients), rng.poisson(1, 2 * num_patients) + 1)
        positive = clusters < num_patients
        own = 0.7 * rng.normal(size=2 * num_patients)[clusters] + np.sqrt(0.51) * rng.normal(size=len(clusters))
        statistic = weighted_auc(positive, own + norm.ppf(area) * np.sqrt(2) * positive)
        samples = resample(statistic, clusters, repetitions=200, seed=repeat)
        low, high = samples.logit(evaluate(statistic, len(clusters)), num_patients, 0.95)
        covered.append(low <= area <= high)
    assert 0.93 <= np.mean(covered) <= 0.97


def test_mean_intervals_cover():
    rng, covered = np.random.default_rng(4), []
    for repeat in range(300):
        clusters = np.repeat(np.arange(30), rng.poisson(2, 30) + 1)
        values = rng.normal(size=30)[clusters] + rng.normal(size=len(clusters))
        low, high = resample(weighted_mean(values), clusters, repetitions=300, seed=repeat).percentile(0.95)
        covered.append(low <= 0.0 <= high)
    assert 0.93 <= np.mean(covered) <= 0.97
