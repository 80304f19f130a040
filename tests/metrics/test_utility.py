import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from raydistill.metrics.utility import macro_auroc, paired_difference, worth


def predictions(seed, n=300, signal=1.0, findings=3, per_patient=3):
    rng = np.random.default_rng(seed)
    labels = rng.random((n, findings)) < 0.3
    return labels, rng.normal(size=(n, findings)) + signal * labels, np.arange(n) // per_patient


def test_macro_is_the_mean_of_sklearns():
    labels, scores, patients = predictions(0)
    result = macro_auroc(labels, scores, patients)
    assert result.value == pytest.approx(roc_auc_score(labels, scores, average="macro"))
    assert result.interval[0] < result.value < result.interval[1]
    assert "500 resamples of 100 patients" in result.estimator


def test_rare_findings_are_left_out_and_counted_not_named():
    labels, scores, patients = predictions(1)
    labels[:, 1] = np.arange(300) < 4
    result = macro_auroc(labels, scores, patients)
    assert result.value == pytest.approx(roc_auc_score(labels[:, [0, 2]], scores[:, [0, 2]], average="macro"))
    assert result.note == "fewer than 5 patients with it or without it in 1 of 3 findings"
    nothing = macro_auroc(np.zeros((300, 3)), scores, patients)
    assert nothing.value is None
    assert nothing.note.endswith("3 of 3 findings")


def test_interval_widens_when_images_share_patients():
    rng = np.random.default_rng(2)
    sick = np.repeat(rng.random(50) < 0.5, 8)
    score = np.repeat(rng.normal(size=50), 8) + sick + 0.1 * rng.normal(size=400)
    clustered = macro_auroc(sick[:, None], score[:, None], np.arange(400) // 8).interval
    naive = macro_auroc(sick[:, None], score[:, None], np.arange(400)).interval
    assert np.diff(clustered) > 2 * np.diff(naive)


def test_many_images_of_few_people_say_nothing():
    """Twelve images of four people with a finding are four observations."""
    labels, scores, patients = predictions(3)
    labels[:, 0] = patients < 4
    scores[:, 0] += labels[:, 0]
    alone = labels[:, [0]], scores[:, [0]]
    assert macro_auroc(*alone, np.arange(300)).value is not None
    for result in (macro_auroc(*alone, patients), paired_difference(*alone, alone[1] + 1, patients)):
        assert result.value is None
        assert "fewer than 5 patients" in result.note
    assert macro_auroc(labels, scores, np.zeros(300)).value is None


def test_a_mean_is_worth_little_more_than_its_rarest_finding():
    people = np.arange(100)
    labels = np.stack([people < few for few in (5, 5, 40)], axis=1)
    assert worth(labels[:, :1], people) == worth(labels[:, :2], people) == pytest.approx(5)
    assert worth(labels[:, 1:], people) == pytest.approx((1 / 5 + 1 / 40) / (1 / 25 + 1 / 1600))


def test_perfect_classifiers_may_differ_in_others():
    labels, _, patients = predictions(7, findings=1)
    labels[:] = (patients < 6)[:, None]
    one, other = labels.astype(float), 2.0 * labels
    low, high = paired_difference(labels, one, other, patients).interval
    assert low == -high < -0.3
    assert paired_difference(labels, one, one, patients).interval == (0.0, 0.0)


def test_paired_difference_is_tighter_than_its_parts():
    labels, scores, patients = predictions(5)
    worse = scores + 0.5 * np.random.default_rng(6).normal(size=scores.shape)
    gap = paired_difference(labels, scores, worse, patients)
    alone = [macro_auroc(labels, values, patients) for values in (scores, worse)]
    assert gap.value == pytest.approx(alone[0].value - alone[1].value)
    assert np.diff(gap.interval) < min(np.diff(result.interval) for result in alone)
    mirror = paired_difference(labels, worse, scores, patients)
    assert mirror.interval == pytest.approx((-gap.interval[1], -gap.interval[0]))
    assert paired_difference(labels, scores, scores, patients).interval == (0.0, 0.0)
    assert paired_difference(np.zeros((300, 3)), scores, worse, patients).value is None


def test_paired_difference_covers():
    covered = []
    for seed in range(200):
        labels, scores, patients = predictions(seed, n=150, findings=2)
        other = np.random.default_rng(1000 + seed).normal(size=scores.shape) + labels
        low, high = paired_difference(labels, scores, other, patients, bootstrap=200, seed=seed).interval
        covered.append(low <= 0.0 <= high)
    assert 0.93 <= np.mean(covered) <= 0.97


def cohort(rng, positive, areas, people=80, alike=0.8):
    """Labels of one finding a column, so many people having each, and two classifiers' scores of known areas.

    A person's images are alike: that share of the scores' variance is theirs, half of it common to both classifiers.
    """
    patients = np.repeat(np.arange(people), rng.integers(1, 8, people))
    sick = np.stack([rng.permutation(people) < few for few in positive], axis=1)
    truth, common = sick[patients], rng.normal(size=sick.shape)
    scores = []
    for area in areas:
        person = np.sqrt(alike / 2) * (common + rng.normal(size=sick.shape))
        image = np.sqrt(1 - alike) * rng.normal(size=truth.shape)
        scores.append(person[patients] + image + np.sqrt(2) * stats.norm.ppf(area) * truth)
    return truth, scores, patients


@pytest.mark.parametrize(("positive", "widest"), [([5], 0.8), ([10], 0.5), ([20], 0.35), ([5, 5, 40], 0.4)])
def test_intervals_hold_the_truth_where_few_people_have_a_finding(positive, widest):
    """And are no wider than such people leave open: with ten a single area moves by a fifth either way."""
    tried, held, widths, areas = 300, np.zeros(2), [], (0.75, 0.7)
    for seed in range(tried):
        truth, (first, second), patients = cohort(np.random.default_rng(seed), positive, areas)
        options = {"bootstrap": 150, "seed": seed}
        found = [
            macro_auroc(truth, first, patients, **options),
            paired_difference(truth, first, second, patients, **options),
        ]
        ends = np.array([result.interval for result in found])
        held += (ends[:, 0] <= (areas[0], areas[0] - areas[1])) & (ends[:, 1] >= (areas[0], areas[0] - areas[1]))
        widths.append(np.diff(ends).ravel())
    assert min(held / tried) >= 0.93
    assert max(np.median(widths, axis=0)) < widest
