import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raydistill.core.errors import InputError
from raydistill.data.rows import parse_row
from raydistill.data.schema import check_columns, check_types

ANYTHING = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.lists(st.text(max_size=3))
COLUMNS = ("patient_id", "image_id", "study_index", "text", "labels", "view", "sex", "age", "role")


def test_missing_columns_are_named_with_the_nearest():
    with pytest.raises(InputError, match=r"`patient_id` \(perhaps `PatientID`\).*columns are image, PatientID, age"):
        check_columns(["image", "PatientID", "age"], "image", "cohort.parquet")
    with pytest.raises(InputError, match=r"`file_name` \(perhaps `filename`\)"):
        check_columns(["filename", "patient_id", "age"], "file_name", "metadata.csv")
    with pytest.raises(InputError, match="at least one of the columns text, labels, view, sex, age"):
        check_columns(["image", "patient_id", "colour"], "image", "cohort.parquet")
    with pytest.raises(InputError, match="two columns are called age"):
        check_columns(["image", "patient_id", "age", "age"], "image", "cohort.parquet")
    check_columns(["image", "patient_id", "sex", "", ""], "image", "cohort.parquet")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("image", pa.string()),
        ("image", pa.struct([("width", pa.int32())])),
        ("patient_id", pa.float64()),
        ("labels", pa.list_(pa.int64())),
        ("text", pa.int32()),
        ("age", pa.bool_()),
    ],
)
def test_types_that_cannot_hold_it_are_refused(name, kind):
    with pytest.raises(InputError, match=f"column `{name}` is .* should be"):
        check_types(pa.schema([(name, kind)]), "cohort.parquet")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("image", pa.large_binary()),
        ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        ("image", pa.struct([("path", pa.string())])),
        ("patient_id", pa.int64()),
        ("patient_id", pa.dictionary(pa.int8(), pa.string())),
        ("labels", pa.large_list(pa.string())),
        ("labels", pa.string()),
        ("labels", pa.null()),
        ("age", pa.uint8()),
        ("another", pa.duration("s")),
    ],
)
def test_types_that_can_are_taken(name, kind):
    check_types(pa.schema([(name, kind)]), "cohort.parquet")


def test_values_are_read_as_they_are_meant():
    row = parse_row(
        4,
        {
            "patient_id": 7,
            "image_id": " x ",
            "study_index": "3",
            "labels": "Mass|Nodule; Edema",
            "age": "057Y",
            "sex": "",
        },
        None,
    )
    assert (row.row, row.patient_id, row.image_id, row.study_index) == (4, "7", "x", 3)
    assert row.labels == ["Mass", "Nodule", "Edema"]
    assert row.age == 57
    assert row.sex is None
    assert row.role is None
    assert {parse_row(0, {"age": age}, None).age for age in ("006M", "6M", "6m", "6 months")} == {0.5}
    assert {parse_row(0, {"age": age}, None).age for age in ("57y", "57 Y", "57 years old", "57.0")} == {57}
    assert parse_row(0, {"labels": []}, None).labels == []
    assert parse_row(0, {"split": "train"}, "split").role == "train"


@pytest.mark.parametrize(
    "values",
    [{"age": "old"}, {"age": True}, {"study_index": 1.5}, {"study_index": 2**31}, {"patient_id": 1.5}, {"labels": [3]}],
)
def test_values_that_cannot_be_read_are_a_problem_of_the_row(values):
    assert parse_row(1, values, None).problem[0] == "bad_field"
    assert next(iter(values)) in parse_row(1, values, None).problem[1]


def test_an_age_that_cannot_be_read_says_which_could():
    assert parse_row(1, {"age": "fifty"}, None).problem[1] == "age is 'fifty', not a number of years, or such as `057Y`"


@given(st.dictionaries(st.sampled_from(COLUMNS), ANYTHING))
def test_no_value_breaks_the_reader(values):
    row = parse_row(0, values, "role")
    assert row.problem is None or row.problem[0] == "bad_field"
    assert row.patient_id is None or row.patient_id == row.patient_id.strip()


@pytest.mark.parametrize("value", [float("nan"), "nan", "NaN", "", " ", None])
def test_an_age_that_is_not_there_is_missing_and_no_fault(value):
    row = parse_row(0, {"patient_id": "p", "age": value}, None)
    assert (row.age, row.problem) == (None, None)
