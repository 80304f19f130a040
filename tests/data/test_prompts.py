from collections import defaultdict

from hypothesis import given, settings
from hypothesis import strategies as st

from raydistill.core.config import PromptConfig
from raydistill.data.prompts import FREQUENCIES, Description, PromptTable, describe
from raydistill.data.vocabulary import BASE_PROMPT, Fields

CONFIG = PromptConfig(k=3, max_findings=2)

FIELDS = st.builds(
    Fields,
    labels=st.none()
    | st.sets(st.sampled_from(["effusion", "mass", "nodule", "hernia"])).map(lambda s: tuple(sorted(s))),
    view=st.sampled_from([None, "pa", "ap"]),
    sex=st.sampled_from([None, "female", "male"]),
    age_band=st.sampled_from([None, "20 to 39", "40 to 59"]),
)
ROWS = st.lists(
    st.tuples(
        st.integers(0, 15).map(str),
        st.builds(Description, FIELDS, st.sampled_from([None, "normal chest", "chest x-ray, pa view", "big heart"])),
    ),
    min_size=1,
    max_size=60,
)


def fit(rows, config=CONFIG):
    return PromptTable.fit([patient for patient, _ in rows], [described for _, described in rows], config)


def said(fields):
    return {name: value for name, value in vars(fields).items() if value is not None}


@settings(max_examples=200)
@given(ROWS, st.integers(1, 6), st.sampled_from(["template", "free_text"]))
def test_every_prompt_in_use_is_shared_by_k_patients_or_says_nothing(rows, k, policy):
    table = fit(rows, PromptConfig(k=k, policy=policy))
    patients = defaultdict(set)
    for patient, described in rows:
        patients[table.prompt_for(described)].add(patient)
    assert all(len(shared) >= k for prompt, shared in patients.items() if prompt != BASE_PROMPT)
    assert table.patients == {prompt: len(shared) for prompt, shared in patients.items()}
    frequencies = table.frequencies()
    assert frequencies.schema == FREQUENCIES
    assert frequencies["prompt"].to_pylist() == sorted(patients)
    assert sum(frequencies["count"].to_pylist()) == len(rows)


@settings(max_examples=100)
@given(ROWS, FIELDS)
def test_a_prompt_says_nothing_untrue_of_any_image(rows, stranger):
    table = fit(rows)
    for described in [*(described for _, described in rows), Description(stranger)]:
        claim = table.said.get(table.prompt_for(described), Fields())
        for name, value in said(claim).items():
            truth = getattr(described.fields, name)
            assert set(value) <= set(truth) if name == "labels" else value == truth
        assert claim.labels != () or described.fields.labels == ()
        assert len(claim.labels or ()) <= CONFIG.max_findings


@settings(max_examples=100)
@given(ROWS, st.randoms(use_true_random=False), st.sampled_from(["template", "free_text"]))
def test_order_of_rows_does_not_matter(rows, random, policy):
    config = PromptConfig(k=3, policy=policy)
    shuffled = list(rows)
    random.shuffle(shuffled)
    assert fit(rows, config).frequencies().equals(fit(shuffled, config).frequencies())


def test_fields_are_dropped_in_the_stated_order():
    shared = Fields(("effusion",), "pa", "female", "40 to 59")
    rows = [(str(i), Description(shared)) for i in range(3)]
    assert set(fit(rows).said) == {shared.prompt()}
    ages = [
        (str(i), Description(Fields(("effusion",), "pa", "female", f"{20 * i} to {20 * i + 19}"))) for i in range(3)
    ]
    assert set(fit(ages).said) == {"chest x-ray, pa view, female, effusion"}
    sexes = [("0", ages[0][1]), ("1", ages[1][1]), ("2", Description(Fields(("effusion",), "pa", "male")))]
    assert set(fit(sexes).said) == {"chest x-ray, pa view, effusion"}
    views = [*sexes[:2], ("2", Description(Fields(("effusion",), "ap", "male")))]
    assert set(fit(views).said) == {"chest x-ray, effusion"}


def test_the_rarest_finding_goes_first():
    pair = Description(Fields(("effusion", "hernia")))
    rows = [*[(str(i), Description(Fields(("effusion",)))) for i in range(3)], ("9", pair)]
    assert fit(rows).prompt_for(pair) == "chest x-ray, effusion"
    triple = Description(Fields(("effusion", "hernia", "mass")))
    rows = [*[(str(i), Description(Fields(("mass",)))) for i in range(2)], *[(f"t{i}", triple) for i in range(3)]]
    assert fit(rows).prompt_for(triple) == "chest x-ray, effusion and mass"


def test_one_patient_with_many_images_is_not_many_patients():
    rows = [("only", Description(Fields(("mass",), "pa")))] * 50
    assert set(fit(rows).said) == {BASE_PROMPT}
    assert fit(rows).reached_k() is None


def test_free_text_is_used_where_k_patients_share_it_and_says_what_they_have_in_common():
    rows = [
        ("a", Description(Fields(("effusion", "mass"), "pa", "male"), "wet chest")),
        ("b", Description(Fields(("effusion",), "pa", "female"), "wet chest")),
        ("c", Description(Fields(("effusion",), "ap", "female"), "wet chest")),
        ("d", Description(Fields(("effusion",), "ap", "female"), "one of a kind")),
    ]
    table = fit(rows, PromptConfig(k=3, policy="free_text"))
    assert table.said["wet chest"] == Fields(labels=("effusion",))
    assert set(table.said) == {"wet chest", BASE_PROMPT}
    assert set(fit(rows).said) == {"chest x-ray, effusion"}


def test_labels_that_read_alike_are_still_counted_apart():
    rows = [("0", Description(Fields(("a and b",)))), *[(str(i), Description(Fields(("a", "b")))) for i in range(1, 4)]]
    table = fit(rows)
    assert table.patients["chest x-ray, a and b"] == 3
    assert table.prompt_for(rows[0][1]) == BASE_PROMPT


def test_describe_leaves_out_what_has_no_public_word():
    described = describe(["mass"], "PA", "M", 57.0, age_band_years=20)
    assert described == Description(Fields(("mass",), "pa", "male", "40 to 59"))
    assert describe(None, "bed of Mr Smith", "X", None, age_band_years=20, text="") == Description(Fields())
