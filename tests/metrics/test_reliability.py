"""The calibration error leaves out what chance adds, and its interval holds the truth, patients being more than images."""

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import norm

from raydistill.metrics.reliability import BINS, bins_of, calibration_error

RARE, ALIKE = np.array([-2.6, -1.8, -1.2, -0.6]), 0.5
"""Log-odds of findings; how far what one picture of a patient shows is what another does."""


def cohort(seed, images, sharpen=1.0, luck=0.0, trainings=2):
    """Pictures, three a patient on average: what they show, probabilities of several classifiers, and whose they are.

    Right probabilities where `sharpen` is 1, above it too sure of themselves; a training differs from another by luck.
    """
    rng = np.random.default_rng(seed)
    patients = np.repeat(np.arange(images // 3), 1 + rng.poisson(2, images // 3))
    shape, people = (len(patients), len(RARE)), (images // 3, len(RARE))
    odds = RARE + 0.8 * rng.normal(size=people)[patients] + 0.6 * rng.normal(size=shape)
    drawn = np.sqrt(ALIKE) * rng.normal(size=people)[patients] + np.sqrt(1 - ALIKE) * rng.normal(size=shape)
    sure = sharpen * np.exp(luck * rng.normal(size=trainings))
    scores = [expit(RARE + own * (odds - RARE)) for own in sure]
    return norm.cdf(drawn) < expit(odds), np.stack(scores), patients


def test_the_error_is_that_of_ten_bins_by_hand_less_the_variance_of_each():
    truth, scores, _ = cohort(0, 609, sharpen=2.0)
    truth, scores = truth[:203], scores[:1, :203]
    squares = []
    for labels, column in zip(truth.T, scores[0].T, strict=True):
        order = np.argsort(column, kind="stable")
        for rows in np.split(order, np.ceil(np.arange(1, BINS) * 203 / BINS).astype(int)):
            gaps = labels[rows] - column[rows]
            squares.append(gaps.mean() ** 2 - gaps.var(ddof=1) / len(rows))
    assert calibration_error(truth, [scores], np.arange(203)).value == pytest.approx(np.sqrt(np.mean(squares)))


def test_pictures_of_one_patient_are_no_more_than_one():
    truth, scores, patients = cohort(1, 300, sharpen=2.0)
    once = calibration_error(truth, [scores], patients)
    again = calibration_error(np.repeat(truth, 3, axis=0), [np.repeat(scores, 3, axis=1)], np.repeat(patients, 3))
    assert again.value == pytest.approx(once.value, abs=0.01)
    assert again.interval == pytest.approx(once.interval, abs=0.01)


TRUTH = {1.0: 0.0, 2.0: 0.1335}
"""The error of each classifier in ten bins of very many pictures."""


@pytest.mark.parametrize("images", [150, 300, 1000])
@pytest.mark.parametrize("sharpen", TRUTH)
def test_the_interval_holds_the_truth(images, sharpen):
    """Two equal classifiers, so that there is no luck. Of right ones the truth is 0, and nothing lies below."""
    tried, within, values = 400, 0, []
    for seed in range(tried):
        truth, scores, patients = cohort(seed, images, sharpen)
        found = calibration_error(truth, [scores], patients)
        within += found.interval[0] <= TRUTH[sharpen] <= found.interval[1]
        values.append(found.value)
    assert within / tried >= 0.93
    if sharpen > 1:
        assert within / tried <= 0.97
        assert np.sqrt(np.mean(np.square(values))) == pytest.approx(TRUTH[sharpen], abs=0.01)
    else:
        assert np.mean([value == 0 for value in values]) > 0.4


def test_the_truth_is_what_very_many_pictures_show():
    truth, scores, _ = cohort(5, 600_000, sharpen=2.0, trainings=1)
    squares = []
    for labels, column in zip(truth.T, scores[0].T, strict=True):
        bins = np.array_split(np.argsort(column), BINS)
        squares += [np.mean(labels[rows] - column[rows]) ** 2 for rows in bins]
    assert np.sqrt(np.mean(squares)) == pytest.approx(TRUTH[2.0], abs=0.002)


def test_classifiers_of_other_seeds_are_averaged_and_their_luck_widens_the_interval():
    truth, scores, patients = cohort(3, 900, sharpen=2.0, luck=0.3, trainings=4)
    alone = [calibration_error(truth, [own[None].repeat(2, axis=0)], patients).value for own in scores]
    found = calibration_error(truth, [scores], patients)
    assert found.value == pytest.approx(np.sqrt(np.mean(np.square(alone))))
    assert "their luck by MOVER" in found.estimator
    narrow = calibration_error(truth, [scores, scores[:1].repeat(40, axis=0)], patients)
    assert narrow.value == found.value
    assert found.interval[0] < narrow.interval[0] < narrow.interval[1] < found.interval[1]
    assert calibration_error(truth, [scores[:1]], patients).interval == (0.0, 1.0)


def test_few_patients_have_fewer_bins_and_too_few_say_nothing():
    assert [bins_of(count) for count in (3, 10, 26, 500)] == [1, 2, 5, BINS]
    truth, scores, patients = cohort(2, 90)
    assert calibration_error(truth[:4], [scores[:, :4]], patients[:4]).value is None


def test_one_answer_to_everything_errs_by_how_far_it_is_from_the_share():
    truth = np.arange(400)[:, None] % 4 == 0
    right, wrong = (np.full((2, 400, 1), answer) for answer in (0.25, 0.65))
    assert calibration_error(truth, [right], np.arange(400)).value < 0.05
    assert calibration_error(truth, [wrong], np.arange(400)).value == pytest.approx(0.4, abs=0.01)
