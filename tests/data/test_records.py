import io
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from raydistill.core.columns import QUARANTINE
from raydistill.core.config import IngestConfig
from raydistill.core.errors import InputError
from raydistill.data.images import decode, encode_png, fit_square
from raydistill.data.records import REASONS, clean
from raydistill.data.rows import RawRow
from raydistill.data.squares import content_hash

from .cohorts import png

CONFIG = IngestConfig(resolution=8, max_bad_rows=1000, max_image_pixels=400)
PICTURES = [png(i) for i in range(4)]
LARGE = encode_png(np.zeros((21, 20), np.uint8))
ARRAY = np.arange(144, dtype=np.uint8).reshape(12, 12)

GOOD = RawRow(row=0, image=PICTURES[0], patient_id="p", image_id="i", labels=[], age=50.0)

RAW_ROWS = st.lists(
    st.builds(
        RawRow,
        row=st.just(0),
        image=st.sampled_from([*PICTURES, LARGE, ARRAY, b"", b"junk", None]),
        patient_id=st.sampled_from(["a", "b ", " b", "", None]),
        image_id=st.sampled_from(["x", "y", "z", None]),
        text=st.sampled_from(["effusion", None]),
        labels=st.sampled_from([["Mass"], [], None]),
        age=st.sampled_from([40.0, float("nan"), float("inf"), -1.0, 121.0, None]),
        problem=st.sampled_from([None, None, None, ("path_outside", "..")]),
    ),
    max_size=25,
)


def bmp(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "BMP")
    return buffer.getvalue()


def numbered(rows):
    return [replace(row, row=i) for i, row in enumerate(rows)]


def reasons(*rows, config=CONFIG):
    table = clean(numbered(rows), config).quarantine
    return dict(zip(table["row"].to_pylist(), table["reason"].to_pylist(), strict=True))


@settings(max_examples=200)
@given(RAW_ROWS)
def test_counts_add_up_and_every_row_is_in_one_place(rows):
    cleaned = clean(numbered(rows), CONFIG)
    kept = [record.row for record in cleaned.records]
    thrown = cleaned.quarantine["row"].to_pylist()
    assert sorted([*kept, *thrown]) == list(range(len(rows)))
    assert cleaned.rows == len(rows) == len(kept) + len(thrown)
    assert thrown == sorted(thrown)
    assert cleaned.quarantine.schema == QUARANTINE
    assert set(cleaned.reasons()) <= set(REASONS)
    assert sum(cleaned.reasons().values()) == len(thrown)


@settings(max_examples=200)
@given(RAW_ROWS)
def test_records_are_unique_and_no_picture_has_two_patients(rows):
    records = clean(numbered(rows), CONFIG).records
    assert len({record.image_id for record in records}) == len(records)
    assert len({record.sha256 for record in records}) == len(records)
    for record in records:
        assert record.patient_id == record.patient_id.strip() != ""
        assert record.age is None or 0 <= record.age <= 120
        assert decode(record.image).shape == (8, 8)


def test_a_good_row_becomes_a_record():
    raw = replace(
        GOOD, patient_id=" p ", labels=["Pleural_Thickening", "Mass"], view="LL", sex="F", text="t", role="train"
    )
    (record,) = clean([replace(raw, row=7)], CONFIG).records
    np.testing.assert_array_equal(decode(record.image), fit_square(decode(PICTURES[0]), 8))
    assert (record.row, record.patient_id, record.image_id, record.study_index) == (7, "p", "i", 0)
    assert (record.labels, record.view, record.sex) == (["mass", "pleural thickening"], "lateral", "female")
    assert (record.text, record.role, record.sha256) == ("t", "train", content_hash(PICTURES[0]))


def test_unknown_words_stay_and_unknown_labels_are_not_no_finding():
    (record,) = clean([replace(GOOD, labels=None, view="Swimmer", sex="X")], CONFIG).records
    assert (record.labels, record.view, record.sex) == (None, "swimmer", "x")


def test_each_fault_has_its_reason():
    faults = {
        "missing_patient": replace(GOOD, patient_id=" "),
        "missing_image": replace(GOOD, image=None),
        "undecodable": replace(GOOD, image=b"junk"),
        "too_large": replace(GOOD, image=LARGE),
        "empty_text": RawRow(row=0, image=PICTURES[0], patient_id="p"),
        "bad_field": replace(GOOD, age=121.0),
        "path_outside": replace(GOOD, problem=("path_outside", "..")),
        "burned_in": replace(GOOD, problem=("burned_in", "YES")),
        "left_out": replace(GOOD, problem=("left_out", "another view")),
    }
    for reason, row in faults.items():
        assert reasons(row) == {0: reason}
    assert set(REASONS) - set(faults) == {"duplicate_id", "duplicate_image", "near_duplicate"}


def test_memory_does_not_grow_with_the_cohort():
    def peak(count):
        rng = np.random.default_rng(0)
        pictures = (rng.integers(0, 256, (300, 300), dtype=np.uint8) for _ in range(count))
        rows = (replace(GOOD, row=i, image_id=str(i), image=image) for i, image in enumerate(pictures))
        tracemalloc.start()
        cleaned = clean(rows, IngestConfig(resolution=200))
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert sum(map(len, cleaned.images())) > count * 30_000
        return found

    peak(2)
    assert peak(60) < peak(20) + 400_000


def test_what_the_configuration_leaves_out_is_counted_and_no_bad_row():
    left_out = [replace(GOOD, image_id=str(i), problem=("left_out", "lateral")) for i in range(5)]
    cleaned = clean(numbered([GOOD, *left_out]), IngestConfig(resolution=8, max_bad_rows=0))
    assert (len(cleaned.records), cleaned.rows, cleaned.reasons()) == (1, 6, {"left_out": 5})


def test_the_place_of_a_row_is_in_the_detail_where_it_is_known():
    table = clean([replace(GOOD, origin="a/b.png", image=None)], CONFIG).quarantine
    assert table["detail"].to_pylist() == ["a/b.png: no image"]


def test_a_role_must_be_one():
    assert reasons(replace(GOOD, role="holdout"), replace(GOOD, role="train")) == {0: "bad_field"}


def test_a_damaged_picture_says_what_is_wrong_with_it():
    table = clean([replace(GOOD, image=PICTURES[0][:100])], CONFIG).quarantine
    assert table["detail"][0].as_py().startswith("broken: ")
    assert table["image_id"][0].as_py() == "i"


def test_arrays_must_be_grey():
    assert reasons(replace(GOOD, image=ARRAY)) == {}
    assert reasons(replace(GOOD, image=ARRAY.astype(np.float32))) == {0: "undecodable"}
    assert reasons(replace(GOOD, image=np.zeros((4, 4, 3), np.uint8))) == {0: "undecodable"}
    assert reasons(replace(GOOD, image=np.zeros((0, 4), np.uint8))) == {0: "undecodable"}


def test_the_later_of_two_equal_ids_goes():
    assert reasons(GOOD, replace(GOOD, image=PICTURES[1])) == {1: "duplicate_id"}


def test_equal_pictures_of_one_patient_keep_the_first():
    rows = [replace(GOOD, image_id=name) for name in "abc"]
    assert reasons(*rows) == {1: "duplicate_image", 2: "duplicate_image"}


def test_equal_pictures_of_two_patients_all_go():
    rows = [
        replace(GOOD, image_id="a"),
        replace(GOOD, image_id="b"),
        replace(GOOD, image_id="c", patient_id="q"),
        replace(GOOD, image_id="d", patient_id="r"),
        replace(GOOD, image_id="e"),
        replace(GOOD, image_id="f", image=PICTURES[1]),
    ]
    assert reasons(*rows) == dict.fromkeys(range(5), "duplicate_image")


def test_equal_pixels_in_other_bytes_are_equal_pictures():
    pixels = decode(PICTURES[0])
    again, raw = replace(GOOD, image_id="again", image=bmp(pixels)), replace(GOOD, image_id="raw", image=pixels)
    assert content_hash(again.image) != content_hash(PICTURES[0])
    table = clean(numbered([GOOD, again, raw]), CONFIG).quarantine
    assert table["detail"].to_pylist() == ["the same picture as row 0"] * 2
    others = [GOOD, replace(again, patient_id="q"), replace(raw, patient_id="r")]
    cleaned = clean(numbered(others), CONFIG)
    assert (cleaned.records, cleaned.shared) == ([], 3)


def test_repeated_rows_of_one_patient_are_no_bad_rows():
    config = CONFIG.model_copy(update={"max_bad_rows": 0})
    rows = [replace(GOOD, image_id=name) for name in "abc"]
    cleaned = clean(numbered(rows), config)
    assert (len(cleaned.records), cleaned.reasons(), cleaned.shared) == (1, {"duplicate_image": 2}, 0)
    with pytest.raises(InputError, match="several patients"):
        clean(numbered([*rows, replace(GOOD, image_id="d", patient_id="q")]), config)


def test_records_can_be_quarantined_later():
    rows = [GOOD, replace(GOOD, image_id="j", image=b"junk"), replace(GOOD, image_id="k", image=PICTURES[1])]
    cleaned = clean(numbered(rows), CONFIG)
    fewer = cleaned.without({0: "why"}, "near_duplicate")
    assert [record.image_id for record in fewer.records] == ["k"]
    assert fewer.quarantine.to_pylist()[0] == {"row": 0, "image_id": "i", "reason": "near_duplicate", "detail": "why"}
    assert fewer.quarantine["row"].to_pylist() == [0, 1]
    assert len(fewer.records) + fewer.quarantine.num_rows == fewer.rows == 3
    assert cleaned.without({}, "near_duplicate") == cleaned


def test_ids_and_study_indices_are_made_where_there_are_none():
    rows = [replace(GOOD, image_id=None, image=picture) for picture in PICTURES[:3]]
    records = clean(numbered([*rows, replace(GOOD, patient_id="q", image_id=None, image=PICTURES[3])]), CONFIG).records
    assert [record.study_index for record in records] == [0, 1, 2, 0]
    assert records[1].image_id == f"{content_hash(PICTURES[1])[:16]}-1"
    assert [r.study_index for r in clean([replace(GOOD, study_index=9)], CONFIG).records] == [9]


def test_images_of_a_study_share_its_number():
    studies = ["b", None, "b", "a"]
    rows = [
        replace(GOOD, image_id=None, image=picture, study_id=study)
        for picture, study in zip(PICTURES[:4], studies, strict=True)
    ]
    assert [record.study_index for record in clean(numbered(rows), CONFIG).records] == [0, 1, 0, 2]


def test_too_many_bad_rows_stop_with_reasons_and_examples():
    config = CONFIG.model_copy(update={"max_bad_rows": 2})
    bad = [replace(GOOD, image=b"junk"), replace(GOOD, image=b"junk"), replace(GOOD, patient_id=None)]
    clean(numbered(bad[:2]), config)
    with pytest.raises(InputError, match=r"2 undecodable, 1 missing_patient.*row 0: undecodable") as caught:
        clean(numbered([*bad, GOOD]), config)
    assert "max_bad_rows = 2" in str(caught.value)
    with pytest.raises(InputError, match="max_bad_rows = 0"):
        clean([bad[0]], CONFIG.model_copy(update={"max_bad_rows": 0}))


def test_rows_are_read_one_by_one():
    def endless():
        for i in range(10**9):
            yield replace(GOOD, row=i, image=b"junk")

    with pytest.raises(InputError, match="11 of the first 11 rows"):
        clean(endless(), CONFIG.model_copy(update={"max_bad_rows": 10}))
