"""When a training must end, and what is remembered of it. No Ray."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raydistill.core.training import GuardConfig, OptimizerConfig
from raydistill.distributed.history import POINTS, History


def options(steps=40, **more):
    return OptimizerConfig(steps=steps, batch_size=8, lr=0.1, **more)


def test_a_point_is_the_mean_of_the_steps_since_the_point_before():
    history = History(options(steps=4 * POINTS))
    history.add(3, [1.0, 2.0, 3.0])
    assert history.summary()["loss"] == [[3, 2.0]]
    history = History(options(steps=4 * POINTS))
    history.add(6, [1.0, 1.0, 1.0, 5.0, 2.0, 2.0])
    assert history.loss == [[4, 2.0]]
    assert history.state()["recent"] == [2.0, 2.0]


@given(st.lists(st.floats(0.1, 10), min_size=12, max_size=12), st.integers(1, 11))
def test_a_resumed_history_is_the_unbroken_one(losses, cut):
    whole, first = History(options(steps=3 * POINTS)), History(options(steps=3 * POINTS))
    whole.add(12, losses)
    first.add(cut, losses[:cut])
    resumed = History(options(steps=3 * POINTS), **first.state())
    resumed.add(12, losses[cut:])
    assert resumed.summary()["loss"] == whole.summary()["loss"]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_is_named_with_its_step(bad):
    history = History(options())
    history.add(10, [1.0] * 10)
    history.add(20, [1.0] * 3 + [bad] + [1.0] * 6)
    assert history.has_diverged
    assert history.stopped.startswith(f"the loss was {bad} at step 14: lower the learning rate")


def test_an_explosion_is_measured_against_the_median_and_lies_above_the_first():
    history = History(options(steps=100, max_loss_ratio=5.0))
    for step, loss in ((10, 2.0), (20, 9.9), (30, 0.1), (40, 0.3), (50, 0.3), (60, 0.01), (70, 1.9)):
        history.add(step, [loss] * 10)
        assert not history.stopped
    again = History(options(steps=100, max_loss_ratio=5.0), **history.state())
    again.add(80, [2.1] * 10)
    assert again.has_diverged
    assert "exploded to 2.1 at step 80, over 5 times its median and above its first" in again.stopped


@given(st.lists(st.floats(1e-9, 1.0), min_size=1, max_size=80))
def test_a_loss_below_the_first_is_no_explosion_however_small_another_was(losses):
    history = History(options(steps=1000))
    for step, loss in enumerate([1.0, *losses], start=1):
        history.add(step, [loss])
    assert not history.stopped


def test_weights_that_are_not_finite_are_not_saved():
    history = History(options())
    history.check_weights(10, are_finite=True)
    assert not history.stopped
    history.check_weights(20, are_finite=False)
    assert history.has_diverged
    assert history.stopped.startswith("the weights weren't finite after step 20")


def test_the_gap_stops_when_it_stays_too_large_and_that_is_no_divergence():
    history, guard = History(options()), GuardConfig(max_gap=0.1, patience=2)
    gaps = [history.add_gap(step, 1.0, other, guard) for step, other in ((10, 1.2), (20, 1.05), (30, 1.3))]
    assert gaps == pytest.approx([0.2, 0.05, 0.3])
    assert not history.stopped
    history.add_gap(40, 1.0, 1.2, guard)
    assert not history.stopped, "the last step has nothing left to stop"
    history = History(options(steps=60), gap=history.gap)
    history.add_gap(50, 1.0, 1.2, guard)
    assert history.stopped.startswith("step 50: images of others have a loss 20 % above")
    assert not history.has_diverged
    assert History(options(steps=60), **history.state()).stopped == history.stopped
    assert history.measured == 50


def test_without_a_limit_the_gap_is_only_reported():
    history = History(options())
    for step in range(10, 60, 10):
        history.add_gap(step, 1.0, 3.0, GuardConfig(max_gap=None))
    assert not history.stopped
    assert len(history.summary()["gap"]) == 5
