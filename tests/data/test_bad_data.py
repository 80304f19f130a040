"""Bad data is quarantined with its reason, or refused in one readable line; counts add up, and nothing is lost."""

import re
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raydistill.core.config import IngestConfig
from raydistill.core.errors import InputError
from raydistill.data.records import REASONS, clean
from raydistill.data.sources import open_source
from raydistill.data.vocabulary import plain_words
from raydistill.matching.deduplication import deduplicate
from raydistill.stages.cohort import roles_of

from .archives import put
from .bad import CASES, GOOD, IMAGES, KEPT, MAX_PIXELS
from .built import TABLES, WITH_FIELDS, cohort, source_section, webdataset
from .dicoms import dicom, ramp

CONFIG = IngestConfig(resolution=24, max_image_pixels=MAX_PIXELS)


def ingested(section, near=False):
    """Read, clean, deduplicate where that is asked for, and split, as ingest does."""
    source = open_source(source_section(section))
    source.check()
    cleaned, _ = deduplicate(clean(source.rows(), CONFIG), CONFIG.near_duplicate_similarity if near else None)
    records = cleaned.records
    if any(record.role for record in records):
        roles_of(cleaned, CONFIG, 0)
    return cleaned


def accounted(cleaned):
    """Whether every row is in exactly one place, with a reason where it isn't used."""
    rows = [record.row for record in cleaned.records] + cleaned.quarantine["row"].to_pylist()
    assert sorted(rows) == list(range(cleaned.rows))
    assert sum(cleaned.reasons().values()) + len(cleaned.records) == cleaned.rows
    assert set(cleaned.reasons()) <= set(REASONS)
    assert all(cleaned.quarantine["detail"].to_pylist())
    return True


def test_there_are_enough_and_no_two_are_one():
    assert len(CASES) >= 300
    assert max(Counter(map(str, CASES)).values()) == 1
    assert len({case.kind for case in CASES}) == 12


@pytest.mark.parametrize("case", CASES, ids=str)
def test_has_its_reason_or_is_refused_in_one_line(case, tmp_path):
    section = case.build(tmp_path / "cohort")
    if case.refused:
        with pytest.raises(InputError, match=case.outcome) as caught:
            ingested(section)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 1500
        return
    cleaned = ingested(section, near=case.outcome == "near_duplicate")
    assert accounted(cleaned)
    assert cleaned.rows == case.rows
    if case.outcome == KEPT:
        assert not cleaned.reasons()
    else:
        ((reason, count),) = cleaned.reasons().items()
        assert re.fullmatch(case.outcome, reason)
        assert count == case.bad
    for record in cleaned.records:
        # What prompts are made of holds no mark-up, whatever the source says.
        assert all(label == plain_words(label) for label in record.labels or ())


def only_input_errors(section):
    """Read what may be refused in one line, and otherwise must be accounted for."""
    try:
        cleaned = ingested(section)
    except InputError as error:
        assert "\n" not in str(error)  # noqa: PT017
        return None
    assert accounted(cleaned)
    return cleaned


MANY = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
NAMES = ("patient_id", "image_id", "study_index", "text", "labels", "view", "sex", "age", "role", "file_name")


@MANY
@given(st.sampled_from(NAMES), JSON, st.sampled_from(["folder_jsonl", "webdataset"]))
def test_any_value_in_any_field(tmp_path, name, value, kind):
    section = WITH_FIELDS[kind](tmp_path / kind, cohort(**{name: value}))
    cleaned = only_input_errors(section)
    assert cleaned is None or len(cleaned.records) >= 11


@MANY
@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_in_a_csv(tmp_path, noise, is_behind):
    section = TABLES["folder_csv"](tmp_path / "cohort", cohort())
    table = tmp_path / "cohort/metadata.csv"
    content = table.read_bytes()
    put(table, content + noise if is_behind else content.replace(b"i004.png", noise))
    cleaned = only_input_errors(section)
    assert cleaned is None or len(cleaned.records) >= 11


@MANY
@given(st.binary(min_size=1, max_size=6), st.floats(0, 1), st.booleans())
def test_any_damage_of_a_shard(tmp_path, noise, place, cuts):
    section = webdataset(tmp_path, cohort())
    shard = tmp_path / "a.tar"
    content = shard.read_bytes()
    start = int(place * (len(content) - len(noise)))
    put(shard, content[:start] if cuts else content[:start] + noise + content[start + len(noise) :])
    only_input_errors(section)


@MANY
@given(st.binary(min_size=1, max_size=6), st.floats(0, 1), st.booleans(), st.sampled_from(["png", "dicom"]))
def test_any_damage_of_an_image(tmp_path, noise, place, cuts, kind):
    good = GOOD if kind == "png" else dicom(ramp(4000), bits=12)
    start = int(place * (len(good) - len(noise)))
    damaged = good[:start] if cuts else good[:start] + noise + good[start + len(noise) :]
    rows = cohort(image=damaged)
    section = WITH_FIELDS["csv"](tmp_path / kind, rows)
    cleaned = only_input_errors(section)
    assert cleaned is not None
    assert cleaned.rows == 12
    assert len(cleaned.records) >= 11


BAD_IMAGES = {name: (content, reason) for name, (content, reason) in IMAGES.items() if reason != KEPT and content}


@MANY
@given(
    st.lists(st.sampled_from(sorted(BAD_IMAGES)), max_size=12),
    st.sampled_from(["parquet", "folder_jsonl", "webdataset"]),
)
def test_damages_add_up(tmp_path, names, kind):
    rows = cohort()
    for number, name in enumerate(names):
        rows[number]["image"] = BAD_IMAGES[name][0]
    with TemporaryDirectory(dir=tmp_path) as folder:
        cleaned = only_input_errors(WITH_FIELDS[kind](Path(folder), rows))
    assert cleaned.rows == 12
    assert cleaned.reasons() == Counter(BAD_IMAGES[name][1] for name in names)
