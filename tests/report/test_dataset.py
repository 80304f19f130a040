"""The released data set: kept samples alone, and readable with pyarrow and with Hugging Face datasets."""

import os

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}

import datasets
import pyarrow.parquet as pq
import pytest
from PIL import Image

from raydistill.report.bundle import publish
from raydistill.report.dataset import released_samples
from tests.report.builder import build

KEY = "0123456789abcdef"
COLUMNS = ["image", "sample_id", "prompt", "labels", "view", "sex", "age_band"]


@pytest.fixture(autouse=True)
def _quiet(without_plotly):
    datasets.disable_progress_bars()


def artifact(runner, node, name):
    return runner.artifact(node, KEY).read_table(name)


def release(tmp_path, **arguments):
    runner, summary = build(tmp_path / "run", **arguments)
    publish(runner, summary)
    return runner, tmp_path / "run" / "release"


def kept(runner):
    verdicts = artifact(runner, "student_verdicts", "verdicts").to_pylist()
    keep = {row["sample_id"] for row in verdicts if row["keep"]}
    return [row for row in artifact(runner, "student_samples", "samples").to_pylist() if row["sample_id"] in keep]


def test_kept_samples_alone_are_released(tmp_path):
    runner, folder = release(tmp_path)
    expected = kept(runner)
    assert 0 < len(expected) < 47
    rows = pq.read_table(folder / "data").to_pylist()
    assert [row["sample_id"] for row in rows] == [row["sample_id"] for row in expected]
    for row, sample in zip(rows, expected, strict=True):
        assert row["image"] == {"bytes": sample["image"], "path": f"{sample['sample_id']}.png"}
        assert {name: row[name] for name in COLUMNS[1:]} == {name: sample[name] for name in COLUMNS[1:]}


def test_a_sample_that_failed_is_not_released(tmp_path):
    runner, folder = release(tmp_path, student_scores=(0.3, 0.8))
    failed = [r["sample_id"] for r in artifact(runner, "student_samples", "samples").to_pylist() if r["image"] is None]
    assert failed == ["student_samples-000005"]
    assert set(pq.read_table(folder / "data")["sample_id"].to_pylist()).isdisjoint(failed)
    assert pq.read_table(folder / "data").num_rows == 47


def test_a_sample_without_a_verdict_is_not_released(tmp_path):
    runner, _ = build(tmp_path)
    samples, verdicts = (artifact(runner, f"student_{name}", name) for name in ("samples", "verdicts"))
    assert released_samples(samples, verdicts.slice(0, 0)).num_rows == 0


def test_neither_seed_nor_score_nor_reason_leaves(tmp_path):
    _, folder = release(tmp_path)
    for shard in sorted((folder / "data").iterdir()):
        assert pq.read_schema(shard).names == COLUMNS
        assert b"pandas" not in pq.read_schema(shard).metadata


def check(found, expected):
    assert found.column_names == COLUMNS
    assert isinstance(found.features["image"], datasets.Image)
    assert [row["sample_id"] for row in found] == [row["sample_id"] for row in expected]
    for row, sample in zip(found, expected, strict=True):
        assert isinstance(row["image"], Image.Image)
        assert row["image"].size == (32, 32)
        assert row["labels"] == sample["labels"]
        assert all(isinstance(label, str) for label in row["labels"])
        assert row["prompt"] == sample["prompt"]


def test_datasets_reads_the_files(tmp_path):
    runner, folder = release(tmp_path)
    files = sorted(map(str, (folder / "data").iterdir()))
    found = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
    check(found, kept(runner))


def test_datasets_reads_the_folder_as_its_card_says(tmp_path):
    runner, folder = release(tmp_path)
    found = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    assert list(found) == ["train"]
    check(found["train"], kept(runner))


def test_a_release_of_no_sample_is_still_a_data_set(tmp_path):
    _, folder = release(tmp_path, student_scores=(0.95, 1.0))
    table = pq.read_table(folder / "data")
    assert (table.num_rows, table.column_names) == (0, COLUMNS)
