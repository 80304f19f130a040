"""What leaves the house, filled on the order to release anyway, from the finished run on S3; and taken back again."""

import hashlib
import json
import subprocess
import sys
import tarfile

import pyarrow.parquet as pq
import pytest

from raydistill.core.store import Store
from raydistill.report.verified import verify_release
from tests.golden.conftest import artifact, run_to_end
from tests.golden.own import RARE

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(2700)]

FORMATS = "[webdataset, image_folder]"

PLAIN = """
import sys
sys.modules["raydistill"] = None
from diffusers import DiffusionPipeline
pipeline = DiffusionPipeline.from_pretrained(sys.argv[1], local_files_only=True, use_safetensors=True)
pipeline("chest x-ray, pa view", num_inference_steps=2).images[0].save(sys.argv[2])
"""


@pytest.fixture(scope="module")
def bundle(golden, tmp_path_factory):
    """The downloaded bundle; Ray isn't started for it, and the next run without the order takes it back."""
    said = run_to_end(golden["uri"], "--set", "release.release_anyway=true", "--set", f"release.more_formats={FORMATS}")
    assert said.returncode == 0, said.stderr[-3000:]
    assert "Ray at" not in said.stderr
    folder = tmp_path_factory.mktemp("release")
    golden["store"].download(folder, "release")
    yield folder
    assert run_to_end(golden["uri"]).returncode == 0
    assert not (golden["store"] / "release").files()


def test_every_file_is_in_the_checksums_and_is_what_they_say(golden, bundle):
    sums = dict(line.split("  ", 1)[::-1] for line in (bundle / "SHA256SUMS").read_text().splitlines())
    there = {str(p.relative_to(bundle)): p for p in bundle.rglob("*") if p.is_file() and p != bundle / "SHA256SUMS"}
    assert set(there) == set(sums)
    assert {"README.md", "report.html", "certificate.json", "croissant.json", "LICENSE", "student/README.md"} <= set(
        there
    )
    assert all(hashlib.sha256(path.read_bytes()).hexdigest() == sums[name] for name, path in there.items())
    assert not [name for name in there if name.endswith((".bin", ".pt", ".pkl", ".ckpt"))]
    found = verify_release(Store.open(str(bundle)))
    assert (found.files, found.verdict) == (len(there), golden["summary"]["verdict"])
    assert verify_release(Store.open(str(bundle / "student"))).verdict == golden["summary"]["verdict"]


def test_the_released_set_is_the_student_s_kept_samples_and_opens_with_datasets(golden, bundle, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    import datasets

    verdicts = artifact(golden, "student_verdicts").read_table("verdicts")
    kept = {row["sample_id"] for row in verdicts.to_pylist() if row["keep"]}
    files = sorted(str(path) for path in (bundle / "data").glob("*.parquet"))
    assert {name for file in files for name in pq.read_table(file)["sample_id"].to_pylist()} == kept
    loaded = datasets.load_dataset("parquet", data_files=files, cache_dir=str(tmp_path))["train"]
    assert loaded.num_rows == len(kept)
    assert loaded[0]["image"].size == (16, 16)
    assert "seed" not in loaded.column_names


def test_nothing_of_a_patient_is_in_any_file(golden, bundle):
    names, pictures = {RARE.split()[0].encode()}, set()
    for role in ("train", "probe", "calibration", "evaluation"):
        for row in artifact(golden, "ingest").read_table(role).to_pylist():
            names |= {row["patient_id"].encode(), row["image_id"].encode()}
            pictures.add(hashlib.sha256(row["image"]).hexdigest())
    known = [
        row["labels"] or []
        for role in ("train", "evaluation")
        for row in artifact(golden, "ingest").read_table(role).to_pylist()
    ]
    assert any(RARE in labels for labels in known)
    for path in (p for p in bundle.rglob("*") if p.is_file()):
        content = path.read_bytes()
        assert not [name for name in names if name in content], path
    for path in (bundle / "data").glob("*.parquet"):
        table = pq.read_table(path)
        text = json.dumps([{k: v for k, v in row.items() if k != "image"} for row in table.to_pylist()]).encode()
        assert not [name for name in names if name in text]
        assert not pictures & {hashlib.sha256(i["bytes"]).hexdigest() for i in table["image"].to_pylist()}
    files = [path.read_bytes() for path in (bundle / "image_folder").glob("*.png")]
    for path in (bundle / "webdataset").glob("*.tar"):
        with tarfile.open(path) as shard:
            files += [shard.extractfile(entry).read() for entry in shard if entry.name.endswith(".png")]
    assert len(files) == 2 * sum(len(pq.read_table(path)) for path in (bundle / "data").glob("*.parquet"))
    assert not pictures & {hashlib.sha256(content).hexdigest() for content in files}


def test_it_says_on_top_that_the_verdict_was_another(golden, bundle):
    assert golden["summary"]["verdict"] != "pass"
    for card in ("README.md", "student/README.md"):
        body = (bundle / card).read_text().split("---\n", 2)[2]
        assert golden["summary"]["verdict"].replace("_", " ") in body[:600].lower(), card


def test_plain_diffusers_makes_an_image_with_the_released_student(bundle, tmp_path):
    command = [sys.executable, "-c", PLAIN, bundle / "student", tmp_path / "x.png"]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr[-2000:]
    assert (tmp_path / "x.png").stat().st_size > 100
