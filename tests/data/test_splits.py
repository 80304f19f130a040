from collections import Counter, defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raydistill.core.config import IngestConfig
from raydistill.core.errors import InputError
from raydistill.data.splits import MIN_PATIENTS, assign_roles

CONFIG = IngestConfig()

COHORTS = (
    st.lists(st.integers(1, 5), min_size=MIN_PATIENTS, max_size=60)
    .filter(lambda counts: max(counts) > 1)
    .map(lambda counts: [(f"p{p}", study, f"i{p}-{study}") for p, count in enumerate(counts) for study in range(count)])
)
SHARES = st.tuples(st.floats(0.01, 0.375), st.floats(0.01, 0.375), st.floats(0, 1)).map(
    lambda shares: IngestConfig(calibration_share=shares[0], evaluation_share=shares[1], probe_share=shares[2])
)


def assign(rows, config=CONFIG, seed=0, given=None):
    patients, studies, images = zip(*rows, strict=True)
    return assign_roles(patients, studies, images, given or [None] * len(rows), config, seed)


def by_role(rows, roles):
    patients = defaultdict(set)
    for (patient, _, _), role in zip(rows, roles, strict=True):
        patients[role].add(patient)
    return patients


def cohort(several=20, single=30):
    return [(f"p{p}", s, f"i{p}-{s}") for p in range(several + single) for s in range(3 if p < several else 1)]


@settings(max_examples=200)
@given(COHORTS, SHARES, st.integers(0, 5))
def test_patients_never_straddle_and_probes_are_of_train_patients(rows, config, seed):
    roles = assign(rows, config, seed)
    held = by_role(rows, roles)
    sides = [held["train"] | held["probe"], held["calibration"], held["evaluation"]]
    assert sum(map(len, sides)) == len(set.union(*sides)) == len({patient for patient, _, _ in rows})
    assert all(sides)
    assert held["probe"] <= held["train"]
    assert roles.count("probe") == len(held["probe"])
    several = [patient for patient, study, _ in rows if study == 1 and patient in held["train"]]
    can_give = len(several) > 1 or any(patient == several[0] and study == 2 for patient, study, _ in rows)
    assert bool(held["probe"]) == (config.probe_share > 0 and can_give)
    kept = [patient for (patient, _, _), role in zip(rows, roles, strict=True) if role == "train"]
    assert max(map(kept.count, kept)) > 1
    count = len({patient for patient, _, _ in rows})
    assert len(held["calibration"]) == max(1, round(count * config.calibration_share))
    assert len(held["evaluation"]) == max(1, round(count * config.evaluation_share))


@settings(max_examples=100)
@given(COHORTS, st.integers(0, 5), st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(rows, seed, random):
    shuffled = list(rows)
    random.shuffle(shuffled)
    expected = dict(zip(rows, assign(rows, seed=seed), strict=True))
    assert dict(zip(shuffled, assign(shuffled, seed=seed), strict=True)) == expected


def test_a_probe_is_any_image_of_its_patient():
    """First, middle and last visits alike stay in train, as they stay in evaluation."""
    rows = cohort(several=40, single=0)
    drawn = [
        study
        for seed in range(40)
        for (_, study, _), role in zip(rows, assign(rows, seed=seed), strict=True)
        if role == "probe"
    ]
    assert max(abs(drawn.count(study) / len(drawn) - 1 / 3) for study in range(3)) < 0.06


@settings(max_examples=200)
@given(COHORTS, st.integers(1, 3), SHARES, st.integers(0, 5))
def test_no_probe_is_of_a_study_that_a_model_saw(rows, views, config, seed):
    """Where anybody has two studies; and whole studies are withheld."""
    rows = [(patient, number // views, image) for patient, number, image in rows]
    roles = assign(rows, config.model_copy(update={"max_train_images_per_patient": None}), seed)
    held = defaultdict(set)
    for (patient, study, _), role in zip(rows, roles, strict=True):
        if role in ("train", "probe"):
            held[patient].add((study, role))
    several = [patient for patient in held if sum(patient == other for other, _, _ in rows) > 1]
    returned = [patient for patient in several if len({study for study, _ in held[patient]}) > 1]
    giving = [patient for patient in held if any(role == "probe" for _, role in held[patient])]
    if returned and len(several) > 1:
        assert all(len(held[patient]) == len(dict(held[patient])) for patient in held)
        assert set(giving) <= set(returned)
        assert bool(giving) == (config.probe_share > 0)
    assert any(
        sum((p, role) == (patient, "train") for (p, _, _), role in zip(rows, roles, strict=True)) > 1
        for patient in several
    )


def test_where_nobody_has_two_studies_a_probe_is_another_view():
    rows = [(f"p{p}", 0, f"i{p}-{view}") for p in range(40) for view in range(2)]
    roles = assign(rows)
    assert roles.count("probe") == len(by_role(rows, roles)["probe"]) > 1


def test_another_seed_is_another_split_of_the_same_sizes():
    one, two = assign(cohort(), seed=0), assign(cohort(), seed=1)
    assert one != two
    assert assign(cohort(), seed=0) == one
    for role in ("calibration", "evaluation"):
        assert len(by_role(cohort(), one)[role]) == len(by_role(cohort(), two)[role])


@pytest.mark.parametrize("seed", range(5))
def test_every_role_has_its_part_of_patients_with_several_images(seed):
    rows = cohort(several=40, single=60)
    held = by_role(rows, assign(rows, seed=seed))
    for role, share in (("calibration", 0.2), ("evaluation", 0.25)):
        several = sum(int(patient[1:]) < 40 for patient in held[role])
        assert abs(several - 40 * share) <= 1
    assert len(held["probe"]) == 11


def test_roles_are_alike_in_how_many_images_a_patient_has():
    """As in an archive, where a few patients have a tenth of all images."""
    counts = [int(60 / (rank + 1)) + 1 for rank in range(200)]
    rows = [(f"p{p}", study, f"i{p}-{study}") for p, count in enumerate(counts) for study in range(count)]
    expected = sum(counts) / len(counts)
    for role in ("calibration", "evaluation"):
        means = []
        for seed in range(40):
            held = by_role(rows, assign(rows, seed=seed))[role]
            means.append(sum(counts[int(patient[1:])] for patient in held) / len(held))
        assert abs(sum(means) / len(means) - expected) < 0.15
        assert max(means) < 1.5 * expected


@pytest.mark.parametrize("most", [2, 10, None])
def test_what_a_model_sees_of_one_person_is_bounded_and_nothing_is_lost(most):
    rows = [(f"p{p}", s, f"i{p}-{s}") for p in range(40) for s in range(30 if p < 4 else 3)]
    for seed in range(10):
        roles = assign(rows, IngestConfig(max_train_images_per_patient=most), seed=seed)
        assert len(roles) == len(rows)
        shown = Counter(patient for (patient, _, _), role in zip(rows, roles, strict=True) if role == "train")
        withheld = Counter(patient for (patient, _, _), role in zip(rows, roles, strict=True) if role == "probe")
        assert max(shown.values()) <= (most or 30)
        for patient, count in shown.items():
            assert count + withheld[patient] == (30 if int(patient[1:]) < 4 else 3)
            assert count >= min(2, most or 2)
            assert most is None or withheld[patient] <= 1 or count == most


def test_the_only_patient_with_several_images_is_in_train():
    for seed in range(20):
        rows = cohort(several=1, single=20)
        roles = assign(rows, seed=seed)
        assert sorted(role for (patient, _, _), role in zip(rows, roles, strict=True) if patient == "p0") == [
            "probe",
            "train",
            "train",
        ]


def test_a_single_patient_with_two_images_gives_no_probe():
    rows = [(f"p{p}", s, f"i{p}-{s}") for p in range(21) for s in range(2 if p == 0 else 1)]
    assert [role for (patient, _, _), role in zip(rows, assign(rows), strict=True) if patient == "p0"] == ["train"] * 2


def test_probe_share_one_still_leaves_a_patient_whole():
    rows = cohort()
    held = by_role(rows, assign(rows, IngestConfig(probe_share=1.0)))
    several = {patient for patient in held["train"] if int(patient[1:]) < 20}
    assert len(several - held["probe"]) == 1


def test_cohorts_that_cannot_be_split_are_refused():
    with pytest.raises(InputError, match="none of the 9 patients has two images"):
        assign(cohort(several=0, single=9))
    with pytest.raises(InputError, match="has 7 patients"):
        assign(cohort(several=7, single=0))
    with pytest.raises(InputError, match="leave fewer than 2"):
        assign(cohort(several=4, single=6), IngestConfig(calibration_share=0.5, evaluation_share=0.45))
    with pytest.raises(ValueError, match="leave no patient for train"):
        IngestConfig(calibration_share=0.5, evaluation_share=0.5)


def given_roles(rows):
    roles = {0: "train", 1: "calibration", 2: "evaluation"}
    return [roles[int(patient[1:]) % 3] for patient, _, _ in rows]


def test_given_roles_are_honoured():
    rows = cohort()
    roles = given_roles(rows)
    roles[2] = "probe"
    assert assign(rows, given=roles) == roles


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {4: "train", 7: "train", 10: "calibration", 13: "train", 16: "train"},
            "in two of .*: patient p1, p2, p3 and 2 more",
        ),
        ({0: None}, "89 of 90 images have a role"),
        ({0: "holdout"}, "the roles holdout"),
        ({0: "probe", 1: "probe", 2: "probe"}, "probe images and no train image: patient p0;"),
    ],
)
def test_given_roles_that_contradict_are_refused(change, message):
    rows = cohort()
    roles = given_roles(rows)
    for row, role in change.items():
        roles[row] = role
    with pytest.raises(InputError, match=message):
        assign(rows, given=roles)


def test_given_roles_must_fill_every_side():
    rows = cohort()
    with pytest.raises(InputError, match="no image the role evaluation"):
        assign(rows, given=["calibration" if role == "evaluation" else role for role in given_roles(rows)])
    lonely = [(p, 0, i) for p, _, i in rows[-28:]] + [("p1", 0, "x"), ("p1", 1, "y")]
    with pytest.raises(InputError, match="no train patient has two images"):
        assign(lonely, given=given_roles(lonely))
