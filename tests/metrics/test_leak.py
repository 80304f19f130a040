"""The corrected share of samples that show a patient: by hand, and its interval by simulation."""

import numpy as np
import pytest

from raydistill.metrics.identification import people_weights
from raydistill.metrics.intervals import exact_rate, korn_graubard
from raydistill.metrics.leak import leak_rate


def test_the_auditors_errors_are_taken_out():
    found = leak_rate(exact_rate(300, 1000), exact_rate(50, 1000), exact_rate(550, 1000))
    assert found.value == pytest.approx(0.5)
    assert found.interval[0] < 0.5 < found.interval[1]
    assert leak_rate(exact_rate(99, 100), exact_rate(5, 100), exact_rate(60, 100)).value == 1.0


def test_an_auditor_that_sees_nothing_can_not_say():
    found = leak_rate(exact_rate(300, 1000), exact_rate(5, 50), exact_rate(6, 50))
    assert found.value is None
    assert "the auditor flags 0.12" in found.note


@pytest.mark.parametrize("leak", [0.0, 0.01, 0.3, 0.9, 1.0])
@pytest.mark.parametrize(("sees", "samples", "probes", "others"), [(0.6, 2000, 150, 500), (0.9, 500, 80, 200)])
def test_the_interval_covers(leak, sees, samples, probes, others):
    rng, held, imagines = np.random.default_rng(3), [], 0.05
    for _ in range(600):
        flagged = rng.binomial(samples, leak * sees + (1 - leak) * imagines)
        rates = (flagged, samples), (rng.binomial(others, imagines), others), (rng.binomial(probes, sees), probes)
        low, high = leak_rate(*(exact_rate(int(hits), n) for hits, n in rates)).interval
        held.append(low <= leak <= high)
    # A share can't be above 1: where that is the truth, only one bound can miss it.
    assert 0.93 <= np.mean(held) <= (0.97 if leak < 1 else 1.0)


def test_the_interval_covers_when_images_of_a_patient_are_flagged_together():
    rng, held, leak = np.random.default_rng(4), [], 0.2
    for _ in range(300):
        known, strangers = np.repeat(rng.beta(6, 4, 60), 2), np.repeat(rng.beta(0.5, 9.5, 150), 2)
        flagged = rng.uniform(size=1500) < leak * 0.6 + (1 - leak) * 0.05
        sides = (flagged, rng.uniform(size=300) < strangers, rng.uniform(size=120) < known)
        people = (np.arange(1500), np.arange(300) // 2, np.arange(120) // 2)
        rates = [korn_graubard(hits, who) for hits, who in zip(sides, people, strict=True)]
        low, high = leak_rate(*rates).interval
        held.append(low <= leak <= high)
    assert 0.93 <= np.mean(held) <= 0.97


KINDS = ((1, 0.2, 81, 11), (3, 0.5, 40, 15), (10, 0.85, 24, 12))
"""Gallery images, how well such people are seen, how many there are, and how many of them have probes."""


def test_few_people_of_whom_there_are_many_pictures_do_not_speak_for_all():
    """As in a real cohort: who has many gallery images is seen well, and has most of the probes."""
    rng, held, whole = np.random.default_rng(5), [], []
    gallery = np.concatenate([np.repeat(np.arange(n) + 1000 * k, images) for k, (images, _, n, _) in enumerate(KINDS)])
    everybody = np.concatenate([np.full(n, sees) for _, sees, n, _ in KINDS])
    seen = dict(zip(np.unique(gallery), everybody, strict=True))
    for _ in range(300):
        chosen = [rng.choice(n, probed, replace=False) + 1000 * k for k, (_, _, n, probed) in enumerate(KINDS)]
        owners = np.repeat(np.concatenate(chosen), np.repeat([1, 2, 12], [len(c) for c in chosen]))
        known = rng.uniform(size=len(owners)) < np.array([seen[who] for who in owners])
        leaks = rng.uniform(size=2000) < 0.1
        flagged = rng.uniform(size=2000) < np.where(leaks, rng.choice(everybody, 2000), 0.05)
        strangers = rng.uniform(size=400) < 0.05
        sides = [korn_graubard(flagged, np.arange(2000)), korn_graubard(strangers, np.arange(400))]
        for weights, found in ((people_weights(owners, gallery), held), (None, whole)):
            low, high = leak_rate(*sides, korn_graubard(known, owners, weights=weights)).interval
            found.append(low <= 0.1 <= high)
    assert np.mean(held) >= 0.93
    assert np.mean(whole) < 0.9, "by picture the leak is taken for smaller than it is"
