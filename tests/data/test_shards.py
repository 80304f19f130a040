"""What Hugging Face `datasets` saved, and WebDataset shards."""

import io
import json
import struct
import tarfile

import datasets
import pyarrow as pa
import pytest

from raydistill.core.errors import InputError
from raydistill.core.kinds import kind_of
from raydistill.core.sources import DatasetsSource, WebDatasetSource
from raydistill.data.sources import open_source

from .archives import put
from .cohorts import png

SEXES = datasets.ClassLabel(names=["F", "M"])
FINDINGS = datasets.List(datasets.ClassLabel(names=["Mass", "Edema"]))


def saved(path, count=5, shards=2, **columns):
    values = {
        "image": [{"bytes": png(i), "path": None} for i in range(count)], "patient_id": [f"p{i // 2}" for i in range(count)],
        "sex": [i % 2 for i in range(count)], "labels": [[i % 2] for i in range(count)], **columns,
    }  # fmt: skip
    kinds = {"image": datasets.Image(), "sex": SEXES, "labels": FINDINGS}
    inferred = datasets.Dataset.from_dict({name: values[name] for name in values if name not in kinds}).features
    features = datasets.Features(
        {name: kinds.get(name) or inferred[name] for name in values if values[name] is not None}
    )
    found = datasets.Dataset.from_dict({name: values[name] for name in features}, features=features)
    if path is not None:
        found.save_to_disk(str(path), num_shards=shards)
    return found


def hub(path, **options):
    return open_source(DatasetsSource(kind="datasets", path=str(path), **options))


class TestDatasets:
    def test_rows_with_classes_as_words(self, tmp_path):
        saved(tmp_path)
        reader = hub(tmp_path)
        reader.check()
        rows = list(reader.rows())
        assert [row.image for row in rows] == [png(i) for i in range(5)]
        assert [row.patient_id for row in rows] == ["p0", "p0", "p1", "p1", "p2"]
        assert [row.sex for row in rows] == ["F", "M", "F", "M", "F"]
        assert [row.labels for row in rows] == [["Mass"], ["Edema"], ["Mass"], ["Edema"], ["Mass"]]
        assert kind_of(str(tmp_path)) == "datasets"

    def test_a_class_that_nobody_gave_is_no_word_and_one_without_a_word_is_a_bad_field(self, tmp_path):
        saved(tmp_path, 5, sex=[-1, 0, 1, 0, -1], labels=[[-1], [0, -1], [], [1], [0]])
        rows = list(hub(tmp_path).rows())
        assert [row.sex for row in rows] == [None, "F", "M", "F", None]
        assert [row.labels for row in rows] == [None, None, [], ["Edema"], ["Mass"]]
        beyond = saved(None, 1)
        column = pa.array([7], beyond.data.column("sex").type)
        table = beyond.data.table.set_column(beyond.column_names.index("sex"), "sex", column)
        datasets.Dataset(table, info=beyond.info).save_to_disk(str(tmp_path / "beyond"))
        assert next(hub(tmp_path / "beyond").rows()).problem == ("bad_field", "sex is '7', not string")

    def test_splits_follow_one_another(self, tmp_path):
        datasets.DatasetDict({"train": saved(None, 3), "test": saved(None, 2)}).save_to_disk(str(tmp_path))
        assert [row.row for row in hub(tmp_path).rows()] == list(range(5))
        assert kind_of(str(tmp_path)) == "datasets"

    def test_images_in_files_were_embedded(self, tmp_path):
        put(tmp_path / "a.png", png(7))
        saved(tmp_path / "set", 1, 1, image=[{"bytes": None, "path": str(tmp_path / "a.png")}])
        assert next(hub(tmp_path / "set").rows()).image == png(7)

    def test_columns_are_mapped(self, tmp_path):
        found = saved(None).rename_columns({"patient_id": "subject", "image": "xray"})
        found.save_to_disk(str(tmp_path))
        with pytest.raises(InputError, match=r"no column `image` and `patient_id`.*source\.columns"):
            hub(tmp_path).check()
        reader = hub(tmp_path, columns={"patient_id": "subject", "image": "xray"})
        reader.check()
        assert next(reader.rows()).patient_id == "p0"

    def test_a_damaged_offset_is_one_readable_line_and_not_the_end_of_the_process(self, tmp_path):
        saved(tmp_path, 5, 1)
        (path,) = tmp_path.glob("*.arrow")
        offsets, damaged = struct.pack("<6i", 0, 2, 4, 6, 8, 10), struct.pack("<6i", 0, 2, 2**30, 6, 8, 10)
        content = path.read_bytes()
        assert content.count(offsets) == 1
        path.write_bytes(content.replace(offsets, damaged))
        with pytest.raises(InputError, match="can't be read"):
            list(hub(tmp_path).rows())

    def test_wrong_folders_are_one_readable_line(self, tmp_path):
        for path, message in ((tmp_path / "none", "no such folder"), (tmp_path, "isn't what save_to_disk writes")):
            with pytest.raises(InputError, match=message) as caught:
                hub(path).check()
            assert "\n" not in str(caught.value)
        saved(tmp_path / "set", patient_id=[0.5] * 5)
        with pytest.raises(InputError, match="`patient_id` is double"):
            hub(tmp_path / "set").check()
        saved(None).select([]).save_to_disk(str(tmp_path / "empty"))
        with pytest.raises(InputError, match="or broken"):
            hub(tmp_path / "empty").check()

    def test_a_damaged_shard_is_one_readable_line(self, tmp_path):
        saved(tmp_path)
        shard = next(tmp_path.glob("*.arrow"))
        shard.write_bytes(shard.read_bytes()[:50])
        with pytest.raises(InputError, match="or broken"):
            hub(tmp_path).check()

    def test_without_the_package_the_extra_is_named(self, tmp_path, monkeypatch):
        monkeypatch.setitem(__import__("sys").modules, "datasets", None)
        with pytest.raises(InputError, match=r"pip install 'raydistill\[datasets\]'"):
            hub(tmp_path).check()

    def test_the_fingerprint_is_of_the_content(self, tmp_path):
        saved(tmp_path / "a")
        saved(tmp_path / "b", patient_id=["other"] * 5)
        assert hub(tmp_path / "a").fingerprint() != hub(tmp_path / "b").fingerprint()


def shard(path, files):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as archive:
        for name, content in files:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def sample(number, key=None, **fields):
    key = key or f"{number:05d}"
    said = {"patient_id": f"p{number // 2}", "labels": ["Mass"], "age": 40 + number, **fields}
    return [(f"{key}.png", png(number)), (f"{key}.json", json.dumps(said).encode())]


def shards(path, **options):
    return open_source(WebDatasetSource(kind="webdataset", path=str(path), **options))


class TestWebDataset:
    def test_samples_of_all_shards_are_rows(self, tmp_path):
        shard(tmp_path / "cxr-000001.tar", [*sample(2), *sample(3)])
        shard(tmp_path / "cxr-000000.tar", [*sample(0), *sample(1)])
        shard(tmp_path / "cxr-000002.tar.gz", [*sample(4), ("00004.txt", b"a mass")])
        reader = shards(tmp_path)
        reader.check()
        rows = list(reader.rows())
        assert [row.row for row in rows] == list(range(5))
        assert [row.image for row in rows] == [png(i) for i in range(5)]
        assert [row.age for row in rows] == [40, 41, 42, 43, 44]
        assert rows[3].image_id == "cxr-000001.tar/00003"
        assert rows[4].text == "a mass"
        assert kind_of(str(tmp_path)) == "webdataset"

    def test_one_shard_and_mapped_columns(self, tmp_path):
        path = shard(tmp_path / "a.tar", sample(0, subject="mapped"))
        reader = shards(path, columns={"patient_id": "subject"})
        reader.check()
        assert next(reader.rows()).patient_id == "mapped"
        assert kind_of(str(path)) == "webdataset"

    def test_keys_end_at_the_first_dot_and_hold_folders(self, tmp_path):
        files = [("a/1.seg.png", b"mask"), ("a/1.png", png(0)), ("a/1.json", b'{"patient_id": "p", "sex": "F"}')]
        (row,) = shards(shard(tmp_path / "a.tar", files)).rows()
        assert (row.image, row.image_id) == (png(0), "a/1")

    @pytest.mark.parametrize(
        ("files", "reason"),
        [
            (sample(0)[:1], "missing_patient"),
            (sample(0)[1:], "missing_image"),
            ([("a.png", png(0)), ("a.json", b"{")], "bad_field"),
            ([("a.png", png(0)), ("a.json", b"[]")], "bad_field"),
            ([("a.png", png(0)), ("a.json", b"[" * 100_000)], "bad_field"),
            ([("a.png", png(0)), ("a.json", b"\xff\xfe")], "bad_field"),
            (sample(0, patient_id=["nested", ["list"]]), "bad_field"),
            (sample(0, labels=[["nested"]]), "bad_field"),
            (sample(0, age=float("nan"), labels=None), "empty_text"),
            ([*sample(0, key="a"), ("a.jpg", png(1))], "bad_field"),
            ([*sample(0, key="a"), ("a.json", b"{}")], "bad_field"),
            ([*sample(0, key="1.2.3"), *sample(1, key="1.2.4")], "missing_patient"),
            ([("a.pkl", b"cos\nsystem\n(S'false'\ntR."), *sample(0, key="a")[1:]], "missing_image"),
        ],
    )
    def test_a_damaged_sample_has_its_reason(self, tmp_path, files, reason):
        from raydistill.core.config import IngestConfig
        from raydistill.data.records import clean

        reader = shards(shard(tmp_path / "a.tar", [*sample(1), *files, *sample(2)]))
        cleaned = clean(reader.rows(), IngestConfig(resolution=8))
        assert (cleaned.reasons(), len(cleaned.records), cleaned.rows) == ({reason: 1}, 2, 3)

    def test_a_shard_that_is_not_whole_is_refused(self, tmp_path):
        path = shard(tmp_path / "a.tar", [*sample(0), *sample(1)])
        content = path.read_bytes()
        for end in (0, 100, 512, 700, 1024, 1300, 2048, 3072, 4096):
            path.write_bytes(content[:end])
            with pytest.raises(InputError, match="isn't a whole tar file") as caught:
                list(shards(path).rows())
            assert "\n" not in str(caught.value)
        for damaged in (b"no tar file" * 99, content[:1024] + b"x" + content[1025:]):
            path.write_bytes(damaged)
            with pytest.raises(InputError, match="isn't a whole tar file"):
                list(shards(path).rows())
        with pytest.raises(InputError, match="no sample in 1 shards"):
            shards(shard(path, [])).check()

    def test_wrong_folders_and_fields_are_one_readable_line(self, tmp_path):
        for path, message in ((tmp_path / "none", "no such file or folder"), (tmp_path, r"no \.tar file")):
            with pytest.raises(InputError, match=message):
                shards(path).check()
        shard(tmp_path / "a.tar", [("a.png", png(0)), ("a.json", b'{"subject": 1, "sex": "F"}')])
        with pytest.raises(InputError, match=r"first sample's json: no column `patient_id`"):
            shards(tmp_path).check()
        shard(tmp_path / "a.tar", sample(0, key="1.2.840.1"))
        with pytest.raises(InputError, match=r"the first sample, 1, has no \.json and no image; files .* first dot"):
            shards(tmp_path).check()

    def test_the_fingerprint_is_of_the_shards(self, tmp_path):
        shard(tmp_path / "a.tar", sample(0))
        before = shards(tmp_path).fingerprint()
        shard(tmp_path / "a.tar", sample(1))
        assert shards(tmp_path).fingerprint() != before
