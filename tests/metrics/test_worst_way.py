"""The worst of several ways of asking: judged by all of them, and by what nothing is known of."""

import numpy as np
import pytest

from raydistill.metrics.identification import rates
from raydistill.metrics.result import Check, MetricResult, insufficient
from raydistill.metrics.worst_way import worst_way


def way(value, *interval):
    if value is None:
        return insufficient("outsiders may be hit always", n=7, unit="share")
    return MetricResult(value=value, interval=interval, n=40, unit="share", estimator="by hand", note="threshold 0.5")


PROVEN, WIDE, CLEAR, NONE = way(0.1, 0.06, 0.14), way(0.05, -0.2, 0.3), way(0.0, -0.02, 0.04), way(None)


@pytest.mark.parametrize(
    ("ways", "outcome"),
    [
        ((PROVEN, WIDE), "fail"),  # the wider one has the larger upper end, and proves nothing
        ((WIDE, PROVEN, CLEAR), "fail"),
        ((WIDE, CLEAR), "insufficient_evidence"),
        ((CLEAR, CLEAR), "pass"),
        ((CLEAR, NONE), "insufficient_evidence"),
        ((PROVEN, NONE), "fail"),
        ((way(0.03, 0.02, 0.04), NONE), "insufficient_evidence"),
        ((NONE, NONE), "insufficient_evidence"),
        ((), "insufficient_evidence"),
    ],
)
def test_any_way_fails_all_must_pass_and_of_none_may_nothing_be_known(ways, outcome):
    worst = worst_way({f"way_{i}": result for i, result in enumerate(ways)})
    assert Check.of("student.attacked_worst_excess_risk", worst, 0.05, "max").outcome == outcome


def test_it_says_which_way_and_of_which_nothing_can_be_said():
    worst = worst_way({"guidance_1": CLEAR, "guidance_8": PROVEN, "steps_5": NONE})
    assert (worst.value, worst.interval, worst.n) == (0.1, (0.06, 1.0), 40)
    assert worst.note.startswith("threshold 0.5; guidance_8, the largest of 3 ways")
    assert worst.note.endswith("of steps_5 nothing can be said")
    assert "asked for by steps_5 nothing can be said" in worst_way({"guidance_1": CLEAR, "steps_5": NONE}).note


WAYS, ASKED, STRANGERS, CONTROL, ROUNDS = 8, 300, 400, 0.05, 300
SPREAD = np.linspace(0.0, 0.06, WAYS)


def looked_at(rng, excess, confidence):
    """Ask in every way, each as often; the strangers beside them are the same people all the time."""
    strangers, people = (rng.random(STRANGERS) < CONTROL).astype(float), np.arange(STRANGERS)
    shares = CONTROL + (1 - CONTROL) * np.broadcast_to(excess, WAYS)
    made = [(rng.random(ASKED) < share).astype(float) for share in shares]
    each = np.arange(ASKED)
    return worst_way(
        {str(i): rates(m, each, strangers, people, 0.5, confidence)["excess_risk"] for i, m in enumerate(made)}
    )


@pytest.mark.parametrize("excess", [0.0, 0.05, SPREAD], ids=["none", "all", "spread"])
def test_all_ways_together_are_wrong_as_seldom_as_one(excess):
    rng, largest = np.random.default_rng(0), np.max(excess)
    ends = np.array([looked_at(rng, excess, 1 - 0.05 / WAYS).interval for _ in range(ROUNDS)])
    assert np.mean(ends[:, 0] > largest) <= 0.025
    assert np.mean(ends[:, 1] < largest) <= 0.025


def test_uncorrected_they_would_accuse_too_often():
    rng = np.random.default_rng(0)
    lows = np.array([looked_at(rng, 0.05, 0.95).interval[0] for _ in range(ROUNDS)])
    assert np.mean(lows > 0.05) > 0.05
