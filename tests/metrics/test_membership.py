import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score, roc_curve

from raydistill.metrics.membership import membership_attack, membership_scores, weighted_tpr

TPR = "membership_tpr_at_fpr_0.01"


def losses(rng, members=200, others=200, gap=0.0, levels=4, difficulty=0.0):
    hard = difficulty * rng.normal(size=(members + others, 1))
    noise = rng.normal(size=(members + others, levels))
    noise[:members] -= gap
    everything = (noise + hard) * np.array([1.0, 5.0, 0.1, 2.0])[:levels]
    return everything[:members], everything[members:], hard * np.array([1.0, 5.0, 0.1, 2.0])[:levels]


def attack(member, other, **extra):
    people = [np.arange(len(rows)) // 2 for rows in (member, other)]
    return membership_attack(member, other, *people, bootstrap=200, **extra)


def test_nothing_to_find_is_a_half():
    results = attack(*losses(np.random.default_rng(0))[:2])
    low, high = results["membership_auc"].interval
    assert low <= 0.5 <= high
    assert results["membership_auc"].baseline == 0.5
    assert results[TPR].interval[0] <= 0.01 <= results[TPR].interval[1]


def test_a_gap_is_found_at_the_area_it_must_have():
    member, other, _ = losses(np.random.default_rng(1), 1000, 1000, gap=0.5)
    results = attack(member, other)
    low, high = results["membership_auc"].interval
    # Four independent levels, half a standard deviation apart each: the scores are one apart.
    assert low <= norm.cdf(1 / np.sqrt(2)) <= high
    assert results["membership_patient_auc"].value > results["membership_auc"].value
    assert results[TPR].value > 0.03


def test_area_is_sklearns_on_the_documented_score():
    member, other, _ = losses(np.random.default_rng(2), gap=0.3)
    scores = membership_scores(np.concatenate([member, other]))
    reference = roc_auc_score(np.arange(400) < 200, scores)
    assert attack(member, other)["membership_auc"].value == pytest.approx(reference)


def test_levels_weigh_equally_whatever_their_scale():
    member, other, _ = losses(np.random.default_rng(3), gap=0.3)
    scale = np.array([1.0, 100.0, 1e-3, 7.0])
    a, b = attack(member, other), attack(member * scale + 3, other * scale + 3)
    assert a["membership_auc"].value == pytest.approx(b["membership_auc"].value)


def test_calibration_removes_difficulty():
    member, other, hard = losses(np.random.default_rng(4), gap=0.5, difficulty=3.0)
    plain = attack(member, other)
    member, other, hard = (np.exp(values / 5) for values in (member, other, hard))
    calibrated = attack(member, other, member_reference=hard[:200], nonmember_reference=hard[200:])
    assert calibrated["membership_auc"].value > plain["membership_auc"].value + 0.1


def test_a_model_that_saw_nobody_has_nothing_to_tell_beside_a_reference():
    """However much harder one side is for both."""
    rng = np.random.default_rng(9)
    side = np.repeat([1.5, 1.0], 300)[:, None]
    model, reference = (side * np.exp(0.3 * rng.normal(size=(600, 4))) for _ in range(2))
    plain = attack(model[:300], model[300:])["membership_auc"]
    beside = attack(model[:300], model[300:], member_reference=reference[:300], nonmember_reference=reference[300:])
    assert plain.interval[1] < 0.3
    assert beside["membership_auc"].interval[0] <= 0.5 <= beside["membership_auc"].interval[1]
    with pytest.raises(ValueError, match="positive"):
        attack(model[:300], -model[300:], member_reference=reference[:300], nonmember_reference=reference[300:])


def test_control_arm_compares_members_with_members():
    results = attack(*losses(np.random.default_rng(5), gap=2.0)[:2])
    control = results["membership_control_auc"]
    assert results["membership_auc"].value > 0.95
    assert results["membership_auc"].control == control.value
    assert control.interval[0] <= 0.5 <= control.interval[1]
    assert control.n == 200


def test_rates_the_data_cannot_show_are_insufficient():
    results = attack(*losses(np.random.default_rng(6), others=99)[:2])
    assert results[TPR].value is None
    assert "50 patients among non-members" in results[TPR].note
    assert attack(*losses(np.random.default_rng(6), others=200)[:2])[TPR].value is not None
    assert results["membership_tpr_at_fpr_0.001"].value is None
    lonely = membership_attack(np.ones((5, 2)), np.zeros((5, 2)), ["a"] * 5, ["b"] * 5)
    assert lonely["membership_auc"].value is None


def test_tpr_is_the_roc_curves():
    rng = np.random.default_rng(7)
    positive, scores = np.arange(600) < 300, np.round(rng.normal(size=600) + (np.arange(600) < 300), 1)
    false, true, _ = roc_curve(positive, scores, drop_intermediate=False)
    for bound in (0.01, 0.05, 0.3):
        value = weighted_tpr(positive, scores, bound)(np.ones((1, 600)))[0]
        assert value == pytest.approx(true[false <= bound].max())


def test_same_seed_same_numbers_and_bad_losses_are_refused():
    member, other, _ = losses(np.random.default_rng(8))
    assert attack(member, other, seed=1) == attack(member, other, seed=1)
    with pytest.raises(ValueError, match="finite"):
        attack(np.full((4, 2), np.nan), other[:, :2])
    with pytest.raises(ValueError, match="patients"):
        membership_attack(member, other, [1], [2])


@pytest.mark.parametrize(("people", "images", "alike"), [(300, 1, 0.0), (100, 1, 0.0), (100, 3, 0.5)])
def test_the_interval_of_a_rate_at_few_false_alarms_covers_the_truth(people, images, alike):
    """Members' scores lie one deviation above strangers', who are told apart by a threshold that is estimated too."""
    rng, truth, covered = np.random.default_rng(9), norm.sf(norm.ppf(0.99) - 1), []

    def side(shift):
        whose = np.repeat(np.arange(people), images)
        own, shared = rng.normal(size=len(whose)), rng.normal(size=people)
        return -(shift + np.sqrt(alike) * shared[whose] + np.sqrt(1 - alike) * own)[:, None], whose

    for seed in range(120):
        (members, whose), (others, theirs) = side(1.0), side(0.0)
        low, high = membership_attack(members, others, whose, theirs, bootstrap=100, seed=seed)[TPR].interval
        covered.append(low <= truth <= high)
    assert np.mean(covered) >= 0.93
