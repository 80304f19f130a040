"""What is asked of a model, row by row."""

from collections import Counter

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raydistill.core.columns import REQUESTS
from raydistill.core.errors import InputError
from raydistill.core.generation import RequestConfig
from raydistill.data.prompts import FREQUENCIES
from raydistill.data.requests import Requests, digest, read_prompts, unknown_findings

COUNTS = {"a": 5, "b": 1, "c": 30}


def table_of(counts, labels=None):
    rows = [{"prompt": p, "labels": (labels or {}).get(p), "count": n} for p, n in counts.items()]
    return pa.Table.from_pylist(rows, schema=FREQUENCIES)


def requests(counts, labels=None, seed=7, **how):
    return Requests(table_of(counts, labels), RequestConfig(**how), seed, "teacher_samples")


@given(st.integers(0, 200), st.integers(1, 50))
def test_a_row_depends_on_its_number_alone(first, rows):
    plan = requests(COUNTS)
    assert plan.rows(range(first, first + rows)).equals(plan.rows(range(300)).slice(first, rows))


def test_the_order_of_the_table_does_not_matter_and_the_seed_does():
    rows = requests(COUNTS).rows(range(300))
    assert rows.schema == REQUESTS
    assert rows["sample_id"][3].as_py() == "teacher_samples-00000003"
    assert len(set(rows["seed"].to_pylist())) == 300
    assert requests(dict(reversed(COUNTS.items()))).rows(range(300)).equals(rows)
    assert not requests(COUNTS, seed=8).rows(range(300)).equals(rows)


def shares(plan, rows=4000):
    return {prompt: n / rows for prompt, n in Counter(plan.rows(range(rows))["prompt"].to_pylist()).items()}


def about(share, rows=4000):
    return pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / rows))


def test_prompts_are_drawn_by_frequency_and_keep_their_fields():
    plan = requests({"a": 5, "b": 0, "c": 15}, {"a": [], "c": ["mass"]})
    drawn = shares(plan)
    assert drawn == {"a": about(0.25), "c": about(0.75)}
    rows = plan.rows(range(50)).to_pylist()
    assert {(row["prompt"], tuple(row["labels"])) for row in rows} == {("a", ()), ("c", ("mass",))}


def test_prompts_can_be_equally_likely():
    assert shares(requests(COUNTS | {"d": 0}, balance="prompt")) == {p: about(1 / 3) for p in COUNTS}


def test_findings_can_be_equally_likely():
    labels = {"a": ["mass"], "b": ["mass", "hernia"], "c": [], "d": None}
    counts = {"a": 30, "b": 10, "c": 400, "d": 60}
    drawn = shares(requests(counts, labels, balance="finding"))
    # Four kinds: mass, hernia, no finding, not said. Mass is a quarter: 30 of 40 through a, 10 through b.
    assert drawn == {"a": about(3 / 16), "b": about(1 / 16 + 1 / 4), "c": about(1 / 4), "d": about(1 / 4)}


def test_each_prompt_can_be_asked_for_so_many_times(tmp_path):
    plan = requests(COUNTS | {"d": 0}, per_prompt=4)
    assert plan.total(512) == 12
    assert Counter(plan.rows(range(12))["prompt"].to_pylist()) == {"a": 4, "b": 4, "c": 4}
    path = tmp_path / "prompts.csv"
    path.write_text("prompt,count\nx,3\ny,1\n")
    own = Requests(read_prompts(str(path)), RequestConfig(table=str(path), per_prompt=2), 0, "n")
    assert own.total(512) == 8
    assert Counter(own.rows(range(8))["prompt"].to_pylist()) == {"x": 6, "y": 2}


@given(st.integers(1, 12), st.integers(1, 6), st.integers(1, 4), st.integers(0, 2), st.integers(1, 3))
def test_each_prompt_meets_every_way_equally_often(prompts, ways, times, over, most):
    """Whatever factors the numbers of prompts and ways share, as far as whole numbers go."""
    counts = {f"p{i:02d}": 1 + i % most for i in range(prompts)}
    how = RequestConfig(per_prompt=ways * times + over, table="x.csv")
    listed = [(1.0 + i, 20) for i in range(ways)]
    plan = Requests(table_of(counts), how, 7, "n", ways=listed)
    rows = plan.rows(range(plan.total(0)))
    met = Counter(zip(rows["prompt"].to_pylist(), rows["guidance_scale"].to_pylist(), strict=True))
    for prompt, count in counts.items():
        assert sum(met[prompt, scale] for scale, _ in listed) == count * how.per_prompt
        for scale, _ in listed:
            assert 0 <= met[prompt, scale] - count * times <= count * -(-over // ways)
    middle = plan.rows(range(5, 9))
    assert middle.equals(plan.rows(range(9)).slice(5))


def test_drawn_prompts_meet_ways_by_their_number():
    plan = Requests(table_of(COUNTS), RequestConfig(), 7, "n", ways=[(1.0, 20), (2.0, 20)])
    assert plan.rows(range(5))["guidance_scale"].to_pylist() == [1.0, 2.0, 1.0, 2.0, 1.0]


def test_an_empty_table_of_prompts_is_an_error():
    for counts in ({}, {"a": 0}):
        with pytest.raises(InputError, match="empty"):
            requests(counts)


def test_a_given_table_is_read_from_csv_and_parquet_alike(tmp_path):
    csv, parquet = str(tmp_path / "p.csv"), str(tmp_path / "p.parquet")
    pd.DataFrame(
        {
            "prompt": ["big heart", "plain"],
            "labels": ["cardiomegaly; effusion", None],
            "view": ["pa", None],
            "count": [2, 3],
        }
    ).to_csv(csv, index=False)
    pa.parquet.write_table(
        pa.table({"prompt": ["big heart", "plain"], "labels": [["cardiomegaly", "effusion"], None], "view": ["pa", None],
                  "count": [2, 3]}),
        parquet,
    )  # fmt: skip
    first, second = read_prompts(csv), read_prompts(parquet)
    assert first.equals(second)
    assert first.to_pylist()[0] == {
        "prompt": "big heart", "labels": ["cardiomegaly", "effusion"], "view": "pa", "sex": None, "age_band": None, "count": 2,
    }  # fmt: skip
    assert digest(csv) != digest(parquet)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("text\nx\n", "no column `prompt`; there are text"),
        ("prompt\n", "no prompt at all"),
        ("prompt,count\nx,1\n,2\n", "a row without a prompt"),
        ("prompt\nx\nx\n", "'x' is there twice"),
        ("prompt,count\nx,-1\n", "whole number from 0"),
        ("prompt,count\nx,1.5\n", "whole number from 0"),
        ("prompt,count\nx,many\n", "whole number from 0"),
        ("prompt\nfine\nseen on 2020-01-31\n", "row 2: its prompt holds what looks like a date"),
        ("", "can't be read"),
    ],
)
def test_a_bad_table_of_prompts_is_refused_in_a_line(tmp_path, content, said):
    path = tmp_path / "prompts.csv"
    path.write_text(content)
    with pytest.raises(InputError, match=said) as error:
        read_prompts(str(path))
    assert "\n" not in str(error.value)


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(InputError, match=r"no file .*none\.csv"):
        read_prompts(str(tmp_path / "none.csv"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("prompt,count\nx,0\n", "every count is 0"),
        ("prompt,count\nx,1e30\n", "from 0 to 1,000,000,000"),
        ("prompt,count\nx,99999999999999999999\n", "from 0 to 1,000,000,000"),
        ("prompt,label\nx,a\n", "nobody reads its column 'label'"),
        ("prompt,view\nx,up\n", "row 1: view 'up' isn't known; say one of ap,"),
        ("prompt,sex\nx,unsaid\n", "row 1: sex 'unsaid' isn't known"),
        ("prompt,age_band\nx,57\n", "row 1: age_band '57' isn't one such as"),
    ],
)
def test_a_table_whose_words_are_not_understood_is_refused(tmp_path, content, said):
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(InputError, match=said):
        read_prompts(str(tmp_path / "a.csv"))


def test_a_tables_words_become_those_of_the_vocabulary(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("prompt,labels,view,sex\nNA,Pleural_Thickening | Effusion,PA,F\nb,,,\nc,No Finding,,\nd,Oddity,,\n")
    table = read_prompts(str(path))
    assert table["labels"].to_pylist() == [["effusion", "pleural thickening"], None, [], ["oddity"]]
    assert (table["view"][0].as_py(), table["sex"][0].as_py(), table["prompt"][0].as_py()) == ("pa", "female", "NA")
    assert unknown_findings(table) == ["oddity"]
