"""Means over trainings: their intervals hold what would come out with other patients and other seeds."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from raydistill.metrics.repeated import (
    Luck,
    by_finding,
    by_group,
    luck_of_training,
    repeated_auroc,
    repeated_difference,
)

PATIENTS = np.repeat(np.arange(40), 2)


def taught(rng, trainings, skill, luck, truth):
    """Scores of classifiers whose skill differs by chance."""
    skills = rng.normal(skill, luck, trainings)
    return skills[:, None, None] * truth + rng.normal(size=(trainings, *truth.shape))


def test_a_mean_of_trainings_is_the_mean_of_their_areas():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, (80, 2))
    scores = taught(rng, 3, 1.0, 0.2, truth)
    areas = [roc_auc_score(truth, own) for own in scores]
    luck = luck_of_training(truth, [scores], PATIENTS)
    assert luck.variance == pytest.approx(np.var(areas, ddof=1))
    assert luck.freedom == 2
    found = repeated_auroc(truth, scores, PATIENTS, luck)
    assert found.value == pytest.approx(np.mean(areas))
    lost = repeated_difference(truth, scores, scores[:1], PATIENTS, luck)
    assert lost.value == pytest.approx(np.mean(areas) - areas[0])


def test_luck_widens_an_interval_and_where_nothing_is_known_of_it_nothing_is_said():
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 2, (80, 1))
    scores = taught(rng, 2, 1.0, 0.0, truth)
    narrow, wide, unknown = (
        repeated_difference(truth, scores, scores[::-1], PATIENTS, luck).interval
        for luck in (Luck(0.0, 4), Luck(0.01, 4), Luck(0.0, 0))
    )
    assert wide[0] < narrow[0] <= 0 <= narrow[1] < wide[1]
    assert unknown == (-1.0, 1.0)


def test_too_few_cases_are_said_to_be():
    truth = np.zeros((80, 1))
    assert repeated_auroc(truth, np.zeros((2, 80, 1)), PATIENTS, luck_of_training(truth, [], PATIENTS)).value is None


def test_equally_good_ways_are_told_apart_in_one_of_twenty_cohorts():
    """Large cohorts, where patients alone would say that luck is skill."""
    tried, accused, blind = 200, 0, 0
    for seed in range(tried):
        rng = np.random.default_rng(seed)
        truth = rng.integers(0, 2, (1200, 1))
        patients = np.arange(1200)
        ways = [taught(rng, 2, 1.0, 0.15, truth) for _ in range(6)]
        options = {"bootstrap": 100, "seed": seed}
        for luck in (luck_of_training(truth, ways, patients), Luck(0.0, 1)):
            low, high = repeated_difference(truth, ways[0], ways[1], patients, luck, **options).interval
            if luck.variance:
                accused += not low <= 0 <= high
            else:
                blind += not low <= 0 <= high
    assert accused / tried <= 0.07
    assert blind / tried > 0.2


def predictions(trainings=3, n=300, findings=3):
    rng = np.random.default_rng(4)
    labels, patients = rng.random((n, findings)) < 0.3, np.arange(n) // 3
    return labels, taught(rng, trainings, 1.0, 0.1, labels), patients


def test_findings_and_groups_are_tables_of_means_over_trainings():
    labels, scores, patients = predictions()
    rows = by_finding(labels, [scores], patients, ["a", "b", "c"]).to_pylist()
    assert [row["name"] for row in rows] == ["a", "b", "c"]
    assert rows[1]["value"] == pytest.approx(np.mean([roc_auc_score(labels[:, 1], own[:, 1]) for own in scores]))
    assert "their luck by MOVER" in rows[1]["estimator"]
    sexes = ["F" if patient % 2 else None for patient in patients]
    table = {row["name"]: row for row in by_group(labels, [scores, scores], patients, {"sex": sexes}).to_pylist()}
    assert set(table) == {"sex=F", "sex=unknown"}
    assert table["sex=F"]["n"] + table["sex=unknown"]["n"] == 300
    assert table["sex=F"]["group_size"] <= len(set(patients))


def test_the_size_of_a_finding_is_the_patients_of_its_smaller_side():
    labels, scores, patients = predictions()
    labels[:] = np.stack([np.arange(300) < 12, np.arange(300) >= 7, np.zeros(300)], axis=1)
    rows = by_finding(labels, [scores], patients, ["a", "b", "c"]).to_pylist()
    assert [row["group_size"] for row in rows] == [4, 3, 0]
    assert {row["n"] for row in rows} == {300}
    assert rows[2]["note"] == "insufficient: fewer than 5 patients with it or without it in 1 of 1 findings"
