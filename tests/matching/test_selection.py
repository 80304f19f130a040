"""How many of a kind are kept: nobody's share exceeds its bound, and no more is left out than the bound asks for."""

from collections import Counter

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raydistill.matching.selection import REASONS, Selection, left_out

FINDINGS = st.sampled_from([None, [], ["effusion"], ["mass"], ["effusion", "mass"], ["mass", "effusion"]])
ROWS = st.lists(
    st.tuples(st.floats(-1, 1, width=32), st.sampled_from("pqr"), FINDINGS, st.none() | st.integers(1, 9)), max_size=40
)
SELECTIONS = st.builds(
    Selection,
    patient_quota=st.none() | st.integers(1, 5),
    balance=st.floats(0, 1),
    prompt_patients=st.none() | st.integers(1, 9),
    guidance_scale=st.none() | st.sampled_from([1.0, 2.0, 3.0]),
)


def table(rows):
    names = ("score", "nearest_patient_id", "labels", "prompt_patients")
    columns = {"sample_id": [f"s{i}" for i in range(len(rows))]}
    columns |= {name: [row[at] for row in rows] for at, name in enumerate(names)}
    columns |= {"guidance_scale": [1.0 + i % 2 for i in range(len(rows))], "num_inference_steps": [20] * len(rows)}
    types = {"score": pa.float32(), "labels": pa.list_(pa.string()), "prompt_patients": pa.int64()}
    types |= {"guidance_scale": pa.float32(), "num_inference_steps": pa.int32()}
    return pa.table({name: pa.array(own, types.get(name)) for name, own in columns.items()})


def group(labels):
    return None if labels is None else frozenset(labels)


@given(ROWS.filter(bool), SELECTIONS)
def test_what_is_kept_keeps_every_bound(rows, selection):
    reasons = left_out(table(rows), selection)
    assert set(reasons) <= {"", *REASONS}
    kept = [row for row, reason in zip(rows, reasons, strict=True) if not reason]
    if selection.patient_quota:
        assert max(Counter(row[1] for row in kept).values(), default=0) <= selection.patient_quota
    if selection.prompt_patients:
        assert all(row[3] is None or row[3] >= selection.prompt_patients for row in kept)


def test_the_prompt_that_says_nothing_passes_whoever_shares_it():
    rows = [(0.1, "p", [], count) for count in (None, 0, 5, 6)]
    assert left_out(table(rows), Selection(prompt_patients=6)).tolist() == ["", "rare_prompt", "rare_prompt", ""]


@given(ROWS.filter(bool), SELECTIONS, st.randoms())
def test_the_order_of_rows_decides_nothing(rows, selection, random):
    whole = table(rows)
    order = list(range(len(rows)))
    random.shuffle(order)
    assert left_out(whole.take(pa.array(order)), selection).tolist() == left_out(whole, selection)[order].tolist()


@given(ROWS.filter(bool))
def test_without_bounds_nothing_is_left_out(rows):
    assert Selection().is_everything
    assert set(left_out(table(rows), Selection())) == {""}


def test_a_quota_keeps_those_that_resemble_the_patient_least():
    rows = [(0.9, "p", [], 9), (0.1, "p", [], 9), (0.5, "p", [], 9), (0.8, "q", [], 9)]
    assert left_out(table(rows), Selection(patient_quota=2)).tolist() == ["patient_quota", "", "", ""]


@pytest.mark.parametrize(("balance", "kept"), [(0.0, 16), (0.5, 8), (1.0, 4)])
def test_balance_brings_the_large_group_down_to_the_median(balance, kept):
    rows = [(0.1, "p", ["mass"], 9)] * 16 + [(0.1, "p", [], 9)] * 4 + [(0.1, "p", ["effusion"], 9)] * 2
    reasons = left_out(table(rows), Selection(balance=balance))
    assert (reasons[:16] == "").sum() == kept
    assert set(reasons[16:]) == {""}


def test_samples_of_another_way_are_left_out_first():
    rows = [(0.1, "p", [], 9)] * 4
    reasons = left_out(table(rows), Selection(guidance_scale=2.0, num_inference_steps=20, patient_quota=1))
    assert reasons.tolist() == ["another_way", "", "another_way", "patient_quota"]
    assert set(left_out(table(rows), Selection(num_inference_steps=5))) == {"another_way"}
