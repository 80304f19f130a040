"""Generators of which the truth is known, judged by the audit and its part of the gate. `benchmarks/evidence.py` has 20 cohorts."""

import sys
from functools import cache
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

from worlds import TRUTHS, World, drawn, same_people

from raydistill.core.config import Budgets
from raydistill.core.errors import InputError
from raydistill.core.seeds import generator
from raydistill.report.judged import Standing
from raydistill.report.verdict import BANNERS, banner

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

PATIENTS, SAMPLES = 1000, 1200
FIRST_REASON = {
    "exact copier": "student.excess_risk",
    "copier with perturbations": "student.excess_risk",
    "1 % copier": "student.copied_excess",
    "perturbed 1 % copier": "student.copied_excess",
    "mirrored 5 % copier": "student.near_copy_excess",
    "moved 1 % copier": "student.identified_excess",
    "identity leaker": "student.excess_risk",
    "30 % identity leaker": "student.excess_risk",
    "10 % identity leaker": "student.",
    "average, 8 % identity leaker": "student.",
    "5 % identity leaker": "student.",
    "2 % identity leaker": "student.",
    "half average, 8 % identity leaker": "student.",
    "half average and honest": "student.",
    "average and honest": "student.",
    "honest": "student.",
    "honest, fewer people": "student.",
    "mode-collapsed": "student.",
    "too small to tell": "evaluation patients are too few",
}
SAID = {
    "fail": ("breaks the budget", "fails its test of proof"),
    "insufficient_evidence": ("too uncertain", "too few"),
    "pass": ("keeps the budget",),
}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Make a world of so many patients, once."""
    return cache(lambda patients: World(str(tmp_path_factory.mktemp("world")), 0, patients))


@pytest.mark.parametrize("name", TRUTHS)
def test_the_verdict_is_right_and_says_why(world, name):
    truth = TRUTHS[name]
    where = world(truth.patients or PATIENTS)
    metrics = where.audited(drawn(truth, where, truth.samples or SAMPLES, name), f"of_{list(TRUTHS).index(name)}")
    verdict, reasons = where.verdict(metrics, Budgets())
    assert verdict in (truth.right or BANNERS)
    assert FIRST_REASON[name] in reasons[0]
    assert any(said in reasons[0] for said in SAID[verdict])
    low, high = metrics["leak_rate"].interval
    assert low <= truth.leak <= high
    student = {group: result.model_dump(mode="json") for group, result in metrics.items()}
    shown = banner({"verdict": verdict, "metrics": {"student": student}}, Standing({}, reasons[:1], []))
    assert BANNERS[verdict].sentence in shown.sentence
    assert ("What may still be there: up to" in shown.sentence) == (verdict == "pass")
    if name == "identity leaker":
        # The same people, and hardly a copy of a picture: who only looks for copies finds next to nothing.
        assert metrics["excess_risk"].value > 0.8
        assert metrics["copied_excess"].value < 0.1


def test_who_leaves_a_patient_out_of_the_gallery_is_refused(tmp_path):
    world = World(str(tmp_path), 1, 60, left_out=True)
    with pytest.raises(InputError, match="who isn't in the gallery can't be found"):
        world.audited(same_people(world, 32, generator(1, "images")), "cheat")
