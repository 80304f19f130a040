import hashlib
import hmac

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raydistill.metrics.identification import (
    closer_to_train,
    closer_to_train_share,
    people_weights,
    rates,
    similarities,
    subgroup_rates,
    train_minus_unseen_rate,
    worst_patients,
)

KEY = b"secret"


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def gallery(rng, num_patients, dimensions=16):
    patients = np.repeat(np.arange(num_patients), rng.poisson(2, num_patients) + 1)
    centres = rng.normal(size=(num_patients, dimensions))
    return unit(centres[patients] + 0.3 * rng.normal(size=(len(patients), dimensions))), patients


def test_rates_by_hand():
    results = rates([0.9, 0.9, 0.1, 0.5], ["a", "a", "b", "c"], [0.2, 0.5], ["x", "y"], threshold=0.5)
    assert results["reidentification_rate"].value == 0.75
    assert results["reidentification_rate"].control == 0.5
    assert results["control_rate"].value == 0.5
    assert results["excess_risk"].value == pytest.approx(0.5)
    assert all(result.reference and "95 %" in result.estimator for result in results.values())


def test_rates_without_images_are_insufficient():
    assert all(result.value is None for result in rates([], [], [0.1], ["x"], 0.5).values())
    assert all(result.value is None for result in rates([0.1], ["x"], [], [], 0.5).values())


def test_more_samples_of_one_memorised_patient_are_not_more_evidence():
    others = [f"p{number}" for number in range(40)]
    few = rates([1.0] * 5 + [0.0] * 40, ["m"] * 5 + others, [0.0] * 40, others, 0.5)["reidentification_rate"]
    many = rates([1.0] * 500 + [0.0] * 40, ["m"] * 500 + others, [0.0] * 40, others, 0.5)["reidentification_rate"]
    assert many.interval[1] - many.interval[0] > few.interval[1] - few.interval[0]


@given(st.floats(-1, 1), st.floats(-1, 1))
@settings(max_examples=30)
def test_a_higher_threshold_flags_no_more(a, b):
    rng = np.random.default_rng(0)
    scores, controls = rng.uniform(-1, 1, 60), rng.uniform(-1, 1, 40)
    low, high = (
        rates(scores, np.arange(60) // 2, controls, np.arange(40), t)["reidentification_rate"].value
        for t in sorted((a, b))
    )
    assert high <= low


def test_maximum_and_tail_have_their_controls():
    found = similarities(np.linspace(0, 0.9, 10_000), np.linspace(0, 0.5, 100))
    most, tail = found["max_similarity"], found["similarity_p999"]
    assert (most.value, most.control, most.interval) == (0.9, 0.5, None)
    assert tail.value == pytest.approx(0.8991)
    assert tail.control == pytest.approx(0.4995)
    assert tail.interval[0] < tail.value < tail.interval[1] < 0.9
    assert similarities([0.2, 0.3], [0.1])["similarity_p999"].interval == (0.3, 1.0)
    assert similarities([], [0.1])["max_similarity"].value is None


def test_the_tails_interval_covers():
    rng, held = np.random.default_rng(0), []
    for _ in range(400):
        low, high = similarities(rng.uniform(size=5000), [0.5])["similarity_p999"].interval
        held.append(low <= 0.999 <= high)
    assert 0.93 <= np.mean(held) <= 0.99


def test_closer_to_train_by_hand_with_ties_and_parts():
    result = closer_to_train_share([0.9, 0.5, 0.1, 0.8], [0.1, 0.5, 0.9, 0.7], ["a", "b", "c", "d"])
    assert result.value == pytest.approx(2.5 / 4)
    assert result.baseline == 0.5
    parts = closer_to_train_share([[0.9, 0.0], [0.9, 0.9]], [0.5, 0.5], ["a", "b"])
    assert parts.value == pytest.approx(0.75)
    both = closer_to_train_share([[0.9, 0.0], [0.9, 0.9]], [[0.5, 0.95], [0.5, 0.9]], ["a", "b"], control=0.4)
    assert (both.value, both.control) == (pytest.approx((1 + 0 + 1 + 0.5) / 4), 0.4)
    assert closer_to_train_share([], [], []).value is None


def test_closer_to_train_finds_a_copier_and_covers_a_half_without_one():
    rng, covered, found = np.random.default_rng(0), [], []
    for _ in range(100):
        faces, patients = gallery(rng, 120)
        train = patients < 60
        for copier in (False, True):
            samples = unit(rng.normal(size=(200, 16)))
            if copier:
                samples[:120] = faces[train][rng.integers(train.sum(), size=120)]
            similarity = samples @ faces.T
            best, other = similarity[:, train].max(axis=1), similarity[:, ~train].max(axis=1)
            low, high = closer_to_train_share(best, other, patients[similarity.argmax(axis=1)]).interval
            (found if copier else covered).append((low, high))
    covered = [low <= 0.5 <= high for low, high in covered]
    assert np.mean([low > 0.5 for low, _ in found]) > 0.95
    assert np.mean(covered) >= 0.93


def test_train_minus_unseen_by_hand():
    result = train_minus_unseen_rate([0.9, 0.9, 0.1], [0.9, 0.1, 0.1], ["a", "b", "c"], 0.5)
    assert result.value == pytest.approx(1 / 3)
    assert result.control == pytest.approx(1 / 3)
    found = closer_to_train([0.9], [0.1], ["a"], 0.5)
    assert set(found) == {"closer_to_train_share", "closer_to_train_excess", "train_minus_unseen_rate"}
    assert found["closer_to_train_excess"].value is None


def test_closer_than_strangers_takes_off_what_a_taught_network_does_to_everybody():
    rng, held = np.random.default_rng(0), []
    for _ in range(300):
        samples, strangers = (rng.uniform(size=(200, 2)) < 0.4 for _ in range(2))
        sides = [(hit[:, 0].astype(float), np.full(200, 0.5), np.arange(200)) for hit in (samples, strangers)]
        found = closer_to_train(*sides[0], 0.5, control=sides[1])["closer_to_train_excess"]
        held.append(found.interval[0] <= 0 <= found.interval[1])
    assert found.control == pytest.approx(0.4, abs=0.1)
    assert 0.93 <= np.mean(held) <= 0.97


def test_worst_patients_are_hashed_ranked_and_stable():
    patients = ["anna", "bert", "anna", "carl", "bert", "anna"]
    table = worst_patients(patients, [True, True, True, False, True, False], KEY)
    assert table["hits"].to_pylist() == [2, 2]
    assert sorted(table["samples"].to_pylist()) == [2, 3]
    expected = {hmac.new(KEY, name.encode(), hashlib.sha256).hexdigest()[:16] for name in ("anna", "bert")}
    assert set(table["patient"].to_pylist()) == expected
    assert not any(name in str(table.to_pylist()) for name in patients)
    assert worst_patients(patients, [True] * 6, KEY, top=1).num_rows == 1
    assert worst_patients(patients, [False] * 6, KEY).num_rows == 0
    assert worst_patients(patients, [True] * 6, b"other")["patient"] != worst_patients(patients, [True] * 6, KEY)[0]


def test_a_hash_needs_a_key():
    with pytest.raises(ValueError, match="key"):
        worst_patients(["a"], [True], b"")


def test_subgroups_add_up_and_name_the_rest():
    flagged = np.array([True, False, True, True])
    table = subgroup_rates(
        flagged, ["a", "b", "c", "d"], {"sex": ["F", "M", "F", None], "view": ["PA"] * 4}
    ).to_pylist()
    rows = {row["name"]: row for row in table}
    assert set(rows) == {"sex=F", "sex=M", "sex=unknown", "view=PA"}
    assert rows["sex=F"]["value"] == 1.0
    assert rows["sex=F"]["control"] == 0.5
    assert rows["view=PA"]["control"] is None
    assert sum(row["n"] * row["value"] for name, row in rows.items() if name.startswith("sex")) == flagged.sum()


def test_people_count_once_and_as_often_as_the_gallery_has_such():
    gallery = ["a", "b", "c", *["d"] * 3, *["e"] * 12]
    weights = people_weights(["a", "a", "d", "e", "e", "e", "e"], gallery)
    assert weights.sum() == pytest.approx(1)
    assert weights[:2] == pytest.approx([0.3, 0.3]), "three of five have one image"
    assert weights[2] == pytest.approx(0.2)
    assert weights[3:] == pytest.approx([0.05] * 4)
    # Nobody with three images has a probe: those with one stand for them.
    assert people_weights(["a", "e"], gallery) == pytest.approx([0.8, 0.2])
    # Nobody with one image has a probe: the next more do.
    assert people_weights(["d", "e"], gallery) == pytest.approx([0.8, 0.2])
