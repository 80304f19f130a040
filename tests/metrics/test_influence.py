"""How much each patient moves an area: what adds up is the error that resampled patients have."""

import numpy as np
import pytest

from raydistill.metrics.bootstrap import resample
from raydistill.metrics.influence import influence, standard_error
from raydistill.metrics.utility import mean_area


def looked(seed, patients=150, findings=2):
    """What images show, and scores of two classifiers that see much the same in them; whose they are."""
    rng = np.random.default_rng(seed)
    whose = np.repeat(np.arange(patients), 1 + rng.poisson(1.0, patients))
    alike = rng.normal(size=(patients, findings))[whose]
    truth = alike + 0.5 * rng.normal(size=alike.shape) > 0.7
    seen = truth + alike + rng.normal(size=alike.shape)
    return truth, [seen + share * rng.normal(size=alike.shape) for share in (0.3, 0.6)], whose


@pytest.mark.parametrize("seed", range(3))
def test_the_error_is_that_of_resampled_patients(seed):
    truth, (one, other), patients = looked(seed)
    first, second = (influence(truth, scores, patients) for scores in (one, other))
    areas = [mean_area(truth, scores) for scores in (one, other)]
    alone = resample(areas[0], patients, repetitions=2000).values.std()
    assert standard_error(first) == pytest.approx(alone, rel=0.08)
    gap = resample(lambda weights: areas[0](weights) - areas[1](weights), patients, repetitions=2000).values.std()
    paired = standard_error(first - second)
    assert paired == pytest.approx(gap, rel=0.08)
    # On the same patients they are told apart better than two areas are.
    assert paired < standard_error(first) < np.hypot(standard_error(first), standard_error(second))


def test_several_classifiers_are_averaged_and_rare_findings_left_out():
    truth, scores, patients = looked(4)
    each = [influence(truth, own, patients) for own in scores]
    assert influence(truth, np.stack(scores), patients) == pytest.approx(np.mean(each, axis=0))
    assert each[0].sum() == pytest.approx(0)
    rare = np.column_stack([truth, np.arange(len(truth)) < 2])
    wider = np.column_stack([scores[0], np.random.default_rng(0).normal(size=len(truth))])
    assert influence(rare, wider, patients) == pytest.approx(each[0])
    assert not influence(rare[:, 2:], wider[:, 2:], patients).any()


def test_perfect_classifiers_are_moved_by_nobody_and_of_one_patient_nothing_is_known():
    truth = np.arange(40)[:, None] % 2 == 0
    assert not influence(truth, truth.astype(float), np.arange(40)).any()
    assert standard_error(np.zeros(1)) == float("inf")
