"""The forms of the released data set: other people's readers find the same rows in each of them."""

import os
import tarfile

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}

import datasets
import mlcroissant
import pyarrow.parquet as pq
import pytest
import webdataset
from datasets.exceptions import NonMatchingSplitsSizesError
from huggingface_hub import DatasetCard

from raydistill.core.config import Config
from raydistill.core.store import Store
from raydistill.report.bundle import publish
from raydistill.report.checksums import read_sums
from raydistill.report.dataset import DESCRIPTIONS, RELEASED, Packed
from tests.report.builder import build

MORE = Config(name="phantom", release={"more_formats": ["webdataset", "image_folder"], "licence": "CC-BY-4.0"})


def made(folder, config=MORE, **arguments):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("raydistill.report.html.get_plotlyjs", lambda: "")
        publish(*build(folder / "run", config, **arguments))
    return folder / "run" / "release"


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    return made(tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="module")
def rows(release):
    found = pq.read_table(release / "data").to_pylist()
    assert len(found) > 20
    return found


def about(row):
    return {name: value for name, value in row.items() if name != "image"}


def croissant(folder):
    dataset = mlcroissant.Dataset(jsonld=folder / "croissant.json")
    issues = dataset.metadata.ctx.issues
    assert (issues.errors, issues.warnings) == (set(), set())
    return dataset


def test_croissant_names_every_parquet_file_with_its_hash_and_every_column(release, caplog):
    metadata = croissant(release).metadata
    assert "not standard" not in caplog.text
    sums = read_sums(Store.open(str(release)))
    objects = {entry.content_url: entry for entry in metadata.distribution if hasattr(entry, "sha256")}
    assert {path: entry.sha256 for path, entry in objects.items()} == {
        path: digest for path, digest in sums.items() if path.startswith("data/")
    }
    sizes = {path: f"{(release / path).stat().st_size} B" for path in objects}
    assert {path: entry.content_size for path, entry in objects.items()} == sizes
    (records,) = metadata.record_sets
    assert [field.name for field in records.fields] == RELEASED.names == list(DESCRIPTIONS)
    assert metadata.license == ["https://spdx.org/licenses/CC-BY-4.0.html"]
    assert "Verdict: Pass." in metadata.description


def test_croissant_s_records_are_the_released_rows(release, rows):
    found = list(croissant(release).records("samples"))
    assert [record["samples/sample_id"].decode() for record in found] == [row["sample_id"] for row in rows]
    for record, row in zip(found, rows, strict=True):
        assert record["samples/image"].size == (32, 32)
        assert [label.decode() for label in record["samples/labels"]] == row["labels"]
        assert record["samples/prompt"].decode() == row["prompt"]


def test_croissant_says_on_top_that_the_verdict_was_another(tmp_path):
    anyway = Config(name="phantom", release={"release_anyway": True})
    metadata = croissant(made(tmp_path, anyway, verdict="fail")).metadata
    assert metadata.description.startswith('Released against the verdict "Fail". ')
    assert metadata.license == ["none-granted, see LICENSE"]


def test_webdataset_reads_the_shards(release, rows):
    shards = sorted(str(path) for path in (release / "webdataset").iterdir())
    assert [path.rpartition("/")[2] for path in shards] == ["shard-00000.tar", "shard-00001.tar"]
    found = list(webdataset.WebDataset(shards, shardshuffle=False).decode("pil"))
    assert [sample["__key__"] for sample in found] == [row["sample_id"] for row in rows]
    assert [sample["json"] for sample in found] == [about(row) for row in rows]
    assert all(sample["png"].size == (32, 32) for sample in found)


def test_equal_samples_are_equal_shards_whoever_packs_them_and_when(release, rows):
    with tarfile.open(release / "webdataset" / "shard-00000.tar") as shard:
        entries = shard.getmembers()
    assert {(e.mtime, e.uid, e.gid, e.uname, e.gname, e.mode) for e in entries} == {(0, 0, 0, "", "", 0o644)}


def test_datasets_reads_the_image_folder(release, rows, tmp_path):
    datasets.disable_progress_bars()
    found = datasets.load_dataset(
        "imagefolder", data_dir=str(release / "image_folder"), split="train", cache_dir=str(tmp_path)
    )
    by_id = {row["sample_id"]: about(row) for row in rows}
    assert {row["sample_id"]: about(row) for row in found} == by_id
    assert all(row["image"].size == (32, 32) for row in found)


def test_datasets_holds_the_rows_against_what_the_card_says(release, rows, tmp_path):
    said = DatasetCard.load(release / "README.md").data.dataset_info
    packed = Packed.of(Store.open(str(release)), read_sums(Store.open(str(release))))
    assert said == packed.dataset_info
    assert said["download_size"] == sum(path.stat().st_size for path in (release / "data").iterdir())
    datasets.disable_progress_bars()
    arguments = {"split": "train", "cache_dir": str(tmp_path), "verification_mode": "all_checks"}
    assert len(datasets.load_dataset(str(release), **arguments)) == len(rows)


def test_a_card_that_counts_wrong_is_seen_by_datasets(release, tmp_path):
    (tmp_path / "data").symlink_to(release / "data")
    card = (release / "README.md").read_text()
    (tmp_path / "README.md").write_text(card.replace("num_examples: ", "num_examples: 9"))
    with pytest.raises(NonMatchingSplitsSizesError, match="num_examples=9"):
        datasets.load_dataset(str(tmp_path), split="train", cache_dir=str(tmp_path / "cache"))


def test_a_release_of_no_sample_has_every_form(tmp_path):
    folder = made(tmp_path, student_scores=(0.95, 1.0))
    assert (folder / "image_folder" / "metadata.jsonl").read_text() == ""
    with tarfile.open(folder / "webdataset" / "shard-00000.tar") as shard:
        assert shard.getmembers() == []
    assert croissant(folder).metadata.name == "phantom synthetic images"
