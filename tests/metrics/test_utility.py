import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from raydistill.metrics.utility import by_finding, by_group, macro_auroc, paired_difference


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
    assert result.note == "fewer than 5 positives or negatives in 1 of 3 findings"
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


def test_too_few_patients_have_no_interval():
    labels, scores, _ = predictions(3)
    result = macro_auroc(labels, scores, np.zeros(300))
    assert result.value is not None
    assert result.interval is None


def test_findings_and_groups_are_tables():
    labels, scores, patients = predictions(4)
    rows = by_finding(labels, scores, patients, ["a", "b", "c"]).to_pylist()
    assert [row["name"] for row in rows] == ["a", "b", "c"]
    assert rows[1]["value"] == pytest.approx(roc_auc_score(labels[:, 1], scores[:, 1]))
    groups = ["F" if patient % 2 else None for patient in patients]
    table = {row["name"]: row for row in by_group(labels, scores, patients, {"sex": groups}).to_pylist()}
    assert set(table) == {"sex=F", "sex=unknown"}
    assert table["sex=F"]["n"] + table["sex=unknown"]["n"] == 300
    assert table["sex=F"]["group_size"] <= len(set(patients))


def test_the_size_of_a_finding_is_the_patients_of_its_smaller_side():
    labels, scores, patients = predictions(4)
    labels[:] = np.stack([np.arange(300) < 12, np.arange(300) >= 7, np.zeros(300)], axis=1)
    rows = by_finding(labels, scores, patients, ["a", "b", "c"]).to_pylist()
    assert [row["group_size"] for row in rows] == [4, 3, 0]
    assert {row["n"] for row in rows} == {300}
    assert rows[2]["note"] == "insufficient: fewer than 5 positives or negatives in 1 of 1 findings"


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
