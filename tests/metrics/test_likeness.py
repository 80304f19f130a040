import numpy as np
import pytest

from raydistill.metrics.intervals import exact_rate, fractional_interval, korn_graubard, mover_ratio, trials_worth
from raydistill.metrics.leak import leak_rate
from raydistill.metrics.likeness import Likeness

FALSE, UNSEEN_FALSE, TPIR = 0.05, 0.03, 0.9
PEOPLE, IMAGES, SAMPLES, ROUNDS = 600, 2, 2000, 400


def rate(hits, n):
    return exact_rate(hits, n)


def strangers(rng, share):
    """Some people look like somebody in all of their images, most in none."""
    prone = rng.beta(share * 4, (1 - share) * 4, PEOPLE)
    return (rng.random((PEOPLE, IMAGES)) < prone[:, None]).ravel()


def measured(rng, leak, thinner):
    """Audit samples of which a share shows somebody; the others are hit so much less often than people."""
    shows = rng.random(SAMPLES) < leak
    hit = np.where(shows, rng.random(SAMPLES) < TPIR, rng.random(SAMPLES) < FALSE * thinner)
    unseen = rng.random(SAMPLES) < UNSEEN_FALSE * thinner
    whose, each = np.repeat(np.arange(PEOPLE), IMAGES), np.arange(SAMPLES)
    alike = Likeness(korn_graubard(unseen, each), korn_graubard(strangers(rng, UNSEEN_FALSE), whose))
    flagged, outsiders = korn_graubard(hit, each), korn_graubard(strangers(rng, FALSE), whose)
    control, said = alike.control(outsiders)
    known = exact_rate(round(TPIR * 300), 300)
    return leak_rate(flagged, control, known, said), leak_rate(flagged, outsiders, known)


@pytest.mark.parametrize("thinner", [0.2, 0.4, 0.6, 0.8, 1.0])
def test_a_leak_is_not_hidden_by_pictures_that_resemble_fewer_people_than_people_do(thinner):
    rng = np.random.default_rng(0)
    fair, plain = zip(*(measured(rng, 0.07, thinner) for _ in range(ROUNDS)), strict=True)
    held = np.mean([low <= 0.07 <= high for low, high in (result.interval for result in fair)])
    assert held >= 0.93
    assert np.mean([result.interval[1] < 0.07 for result in fair]) <= 0.04
    assert np.mean([result.interval[1] <= 0.05 for result in fair]) <= 0.025
    assert thinner > 0.5 or np.mean([result.interval[1] <= 0.05 for result in plain]) > 0.02
    assert abs(np.mean([result.value for result in fair]) - 0.07) < 0.006


def test_an_honest_generator_of_average_pictures_is_cleared_and_not_accused():
    rng = np.random.default_rng(1)
    fair = [measured(rng, 0.0, 0.2)[0] for _ in range(ROUNDS)]
    assert np.mean([result.interval[0] > 0 for result in fair]) <= 0.025
    assert np.mean([result.interval[1] <= 0.05 for result in fair]) > 0.95
    assert np.mean([result.interval[1] < 0 for result in fair]) < 0.01


def test_of_pictures_like_strangers_nothing_is_made_up():
    rng = np.random.default_rng(2)
    for leak in (0.0, 0.02):
        fair = [measured(rng, leak, 1.0)[0] for _ in range(ROUNDS)]
        assert np.mean([low <= leak <= high for low, high in (result.interval for result in fair)]) >= 0.93
        # The ratio is 1 at most, so where it is 1 the control is a little low: the error is on the safe side.
        assert np.mean([result.interval[0] > leak for result in fair]) <= 0.06
        assert np.mean([result.interval[1] < leak for result in fair]) <= 0.03


def test_says_what_was_done_to_the_control():
    alike = Likeness(rate(2, 1000), rate(30, 1000))
    control, said = alike.control(rate(50, 1000))
    assert control.value == pytest.approx(0.05 * 2 / 30)
    assert control.low <= control.value <= control.high < 0.05
    assert "0.05 times 0.067" in said
    assert fractional_interval(control.value, control.n_eff, 0.95)[1] == pytest.approx(control.high, rel=0.01)


def test_a_ratio_of_which_nothing_is_known_may_be_anything_up_to_one():
    outsiders = rate(50, 1000)
    control, _ = Likeness(rate(0, 1000), rate(0, 1000)).control(outsiders)
    assert (control.value, control.low, control.high) == (outsiders.value, 0.0, outsiders.high)


def test_pictures_that_resemble_more_people_than_people_do_have_no_larger_control():
    control, _ = Likeness(rate(200, 1000), rate(30, 1000)).control(rate(50, 1000))
    assert (control.value, control.high) == (rate(50, 1000).value, rate(50, 1000).high)


def test_a_ratio_of_rates_has_the_bounds_of_its_source():
    value, low, high = mover_ratio(rate(20, 100), rate(40, 100))
    assert value == 0.5
    assert 0.25 < low < 0.5 < high < 0.85
    assert mover_ratio(rate(5, 100), rate(1, 100))[2] > 20


@pytest.mark.parametrize(("value", "trials"), [(0.0, 50.0), (0.02, 400.0), (0.3, 77.0)])
def test_trials_are_found_from_the_upper_bound(value, trials):
    high = fractional_interval(value, trials, 0.95)[1]
    assert trials_worth(value, high, 0.95) == pytest.approx(trials, rel=1e-3)
