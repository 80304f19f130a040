import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from raydistill.metrics.intervals import (
    Rate,
    clustered_rate,
    exact_rate,
    excess_risk,
    fractional_interval,
    korn_graubard,
    paired_difference,
)

REPEATS = 400


def draw(rng, p, correlation, num_clusters, mean_size):
    """Beta-binomial clusters of random size with mean `p` and the given correlation within a cluster."""
    sizes = rng.poisson(mean_size - 1, num_clusters) + 1 if mean_size > 1 else np.ones(num_clusters, dtype=int)
    scale = (1 - correlation) / correlation if correlation else None
    own = rng.beta(p * scale, (1 - p) * scale, num_clusters) if scale else np.full(num_clusters, p)
    clusters = np.repeat(np.arange(num_clusters), sizes)
    return rng.random(len(clusters)) < own[clusters], clusters


@pytest.mark.parametrize(("hits", "n"), [(0, 30), (3, 30), (15, 30), (30, 30), (1, 2000)])
def test_exact_interval_is_scipys_and_the_fractional_one_agrees(hits, n):
    rate = exact_rate(hits, n)
    reference = stats.binomtest(hits, n).proportion_ci(0.95, "exact")
    assert (rate.low, rate.high) == pytest.approx((reference.low, reference.high))
    assert fractional_interval(hits / n, n, 0.95, exact=True) == pytest.approx((rate.low, rate.high))


@pytest.mark.parametrize(("hits", "n"), [(0, 30), (3, 30), (15, 30), (30, 30), (1, 2000)])
def test_the_fractional_interval_is_the_mid_p_one(hits, n):
    """What was seen counts half: by the probabilities of whole numbers."""
    low, high = fractional_interval(hits / n, n, 0.95)
    seen = [stats.binom.pmf(hits, n, p) / 2 for p in (low, high)]
    if hits:
        assert stats.binom.sf(hits, n, low) + seen[0] == pytest.approx(0.025, rel=1e-6)
    if hits < n:
        assert stats.binom.cdf(hits - 1, n, high) + seen[1] == pytest.approx(0.025, rel=1e-6)
    exact = exact_rate(hits, n)
    assert exact.low <= low <= hits / n <= high <= exact.high


def test_without_a_hit_the_bound_is_the_rule_of_three():
    assert fractional_interval(0.0, 300, 0.95) == (0.0, pytest.approx(3 / 300, rel=0.01))


def test_single_record_clusters_are_independent_trials():
    rate = korn_graubard(np.arange(50) < 7, np.arange(50))
    assert rate.n_eff == pytest.approx(50)
    assert (rate.low, rate.high) == fractional_interval(7 / 50, 50, 0.95)
    certain = korn_graubard(np.arange(50) < 7, np.arange(50), exact=True)
    assert (certain.low, certain.high) == pytest.approx((exact_rate(7, 50).low, exact_rate(7, 50).high))


def test_effective_size_falls_from_records_to_clusters_as_clusters_agree():
    clusters = np.repeat(np.arange(40), 10)
    rng = np.random.default_rng(0)
    independent, identical = rng.random(400) < 0.4, np.repeat(rng.random(40) < 0.4, 10)
    assert korn_graubard(independent, clusters).n_eff > 250
    assert korn_graubard(identical, clusters).n_eff < 45


@pytest.mark.parametrize("size", [1, 4, 20])
def test_without_hits_only_clusters_count(size):
    rate = korn_graubard(np.zeros(60 * size, bool), np.repeat(np.arange(60), size))
    assert rate.low == 0.0
    assert rate.high == pytest.approx(3 / 60, rel=0.1)
    assert "rule of three" in rate.zero_note


def test_one_more_hit_never_lowers_the_upper_bound():
    clusters = np.repeat(np.arange(100), 5)
    bounds = [korn_graubard(np.arange(500) % 5 + 5 * np.arange(500) < 0, clusters).high]
    order = np.random.default_rng(1).permutation(500)
    for hits in range(1, 40):
        flagged = np.zeros(500, bool)
        flagged[order[:hits]] = True
        bounds.append(korn_graubard(flagged, clusters).high)
    assert (np.diff(bounds) > -2e-3).all()


def test_a_single_cluster_says_nothing():
    result = clustered_rate(np.ones(100, bool), np.zeros(100))
    assert result.interval == (0.0, 1.0)
    assert "single cluster" in result.note


def test_no_record_is_insufficient_and_nonsense_is_refused():
    assert clustered_rate([], []).value is None
    with pytest.raises(ValueError, match="cluster"):
        korn_graubard([True], [])
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        korn_graubard([2.0, 0.0], [0, 1])


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 8)), min_size=1, max_size=60))
@settings(max_examples=100)
def test_interval_holds_the_value_and_mirrors(rows):
    hits, clusters = (np.array(column) for column in zip(*rows, strict=True))
    rate, mirror = korn_graubard(hits, clusters), korn_graubard(~hits, clusters)
    assert 0.0 <= rate.low <= rate.value <= rate.high <= 1.0
    assert 1.0 <= rate.n_eff <= rate.n
    assert (mirror.low, mirror.high) == pytest.approx((1 - rate.high, 1 - rate.low), abs=1e-9)


@given(st.permutations(range(20)))
@settings(max_examples=20)
def test_order_does_not_matter(order):
    hits, clusters = np.arange(20) % 3 == 0, np.arange(20) // 4
    assert korn_graubard(hits[order], clusters[order]).high == pytest.approx(korn_graubard(hits, clusters).high)


@pytest.mark.parametrize(
    ("p", "n"), [(0.5, 100), (0.02, 200), (0.02, 1000), (0.005, 1000), (0.003, 1000), (0.98, 400), (0.995, 2000)]
)
def test_rate_intervals_of_independent_records_cover_as_often_as_they_say(p, n):
    """Without sampling, over rates about p: counts are whole numbers, so at a single rate no interval can hit 95 %."""
    outcomes, near = np.arange(n + 1), np.linspace(0.8, 1.25, 41)
    rates = p * near if p <= 0.5 else 1 - (1 - p) * near
    likely = outcomes[stats.binom.pmf(outcomes[:, None], n, rates).max(axis=1) > 1e-7]
    low, high = np.array([fractional_interval(hits / n, n, 0.95) for hits in likely]).T
    held = [stats.binom.pmf(likely, n, rate)[(low <= rate) & (rate <= high)].sum() for rate in rates]
    assert 0.93 <= np.mean(held) <= 0.97
    assert min(held) > 0.915


@pytest.mark.parametrize(
    ("p", "correlation", "num_clusters", "mean_size"),
    [
        (0.5, 0.3, 60, 5),
        (0.5, 0.9, 60, 5),
        (0.02, 0.3, 300, 4),
        (0.02, 0.3, 100, 5),
        (0.98, 0.9, 100, 5),
        (0.1, 0.3, 30, 10),
    ],
)
def test_rate_intervals_of_clustered_records_cover_as_often_as_they_say(p, correlation, num_clusters, mean_size):
    """Where few clusters are hit the design effect can hardly be known: there they hold the truth oftener."""
    rng = np.random.default_rng(7)
    rates = [korn_graubard(*draw(rng, p, correlation, num_clusters, mean_size)) for _ in range(REPEATS)]
    hit = min(p, 1 - p) * num_clusters
    assert 0.93 <= np.mean([rate.low <= p <= rate.high for rate in rates]) <= (0.97 if hit > 5 else 0.99)


def test_ignoring_clusters_would_not_cover():
    rng = np.random.default_rng(7)
    drawn = [draw(rng, 0.5, 0.9, 60, 5) for _ in range(200)]
    naive = [exact_rate(int(hits.sum()), len(hits)) for hits, _ in drawn]
    assert np.mean([rate.low <= 0.5 <= rate.high for rate in naive]) < 0.8


@pytest.mark.parametrize(("p", "c"), [(0.3, 0.05), (0.5, 0.5), (0.05, 0.05), (0.9, 0.05)])
def test_excess_risk_covers(p, c):
    rng, truth = np.random.default_rng(3), (p - c) / (1 - c)
    covered = []
    for _ in range(REPEATS):
        bounds = excess_risk(korn_graubard(*draw(rng, p, 0.3, 80, 4)), korn_graubard(*draw(rng, c, 0.3, 60, 2)))
        assert bounds[1] <= bounds[0] <= bounds[2]
        covered.append(bounds[1] <= truth <= bounds[2])
    assert 0.93 <= np.mean(covered) <= (0.97 if p > 0.1 else 0.99)


def test_excess_risk_at_the_edges():
    none, every, some = exact_rate(0, 50), exact_rate(50, 50), exact_rate(10, 50)
    assert excess_risk(some, every) is None
    assert excess_risk(every, none)[0] == 1.0
    assert excess_risk(every, none)[2] == 1.0
    value, low, high = excess_risk(none, none)
    assert value == 0.0
    assert low < 0.0 < high
    assert excess_risk(none, some)[0] == pytest.approx(-0.25)


def test_excess_risk_with_a_certain_control_is_the_rates_own_interval():
    rate, control = exact_rate(20, 100), Rate(0.1, 0.1, 0.1, 100, 100, 100, 0.95)
    value, low, high = excess_risk(rate, control)
    assert value == pytest.approx(0.1 / 0.9)
    assert (low, high) == pytest.approx(((rate.low - 0.1) / 0.9, (rate.high - 0.1) / 0.9))


@pytest.mark.parametrize(("p", "q"), [(0.3, 0.25), (0.5, 0.1), (0.02, 0.01)])
def test_paired_difference_covers(p, q):
    rng, covered = np.random.default_rng(5), []
    for _ in range(REPEATS):
        clusters = np.repeat(np.arange(100), rng.poisson(3, 100) + 1)
        shared = 0.6 * rng.normal(size=100)[clusters] + 0.8 * rng.normal(size=len(clusters))
        first, second = ((shared + 0.5 * rng.normal(size=len(clusters))) / np.sqrt(1.25) for _ in range(2))
        _, low, high = paired_difference(first < stats.norm.ppf(p), second < stats.norm.ppf(q), clusters)
        covered.append(low <= p - q <= high)
    assert 0.93 <= np.mean(covered) <= (0.97 if p > 0.1 else 1.0)


def test_paired_difference_of_a_thing_with_itself_and_with_nothing():
    hits, clusters = np.arange(90) % 4 == 0, np.arange(90) // 3
    assert paired_difference(hits, hits, clusters) == pytest.approx((0.0, 0.0, 0.0), abs=0.02)
    value, low, high = paired_difference(np.zeros(90, bool), np.zeros(90, bool), clusters)
    assert value == 0.0
    assert low < 0.0 < high
