import json
from collections import Counter, defaultdict

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raydistill.core.columns import QUARANTINE, RECORDS, ROLES
from raydistill.core.config import Config, IngestConfig, PromptConfig
from raydistill.core.errors import InputError
from raydistill.core.generation import RequestConfig
from raydistill.core.manifest import canonical_json
from raydistill.core.sources import DicomSource, ParquetSource, PhantomSource
from raydistill.core.store import Store
from raydistill.data.images import decode, decode_batch, encode_png
from raydistill.data.prompts import FREQUENCIES
from raydistill.data.requests import Requests
from raydistill.data.vocabulary import BASE_PROMPT
from raydistill.stages import ingest as ingest_module
from raydistill.stages.base import Context
from raydistill.stages.ingest import Ingest, IngestNodeConfig
from tests.data.bad import IMAGES, KEPT, MAX_PIXELS
from tests.data.dicoms import dicom

PHANTOM = PhantomSource(kind="phantom", num_patients=60, max_visits=4, resolution=16)
CONFIG = IngestConfig(resolution=16, prompts=PromptConfig(k=3))


def node(source=PHANTOM, ingest=CONFIG, seed=0):
    return Ingest("ingest", IngestNodeConfig(source=source, ingest=ingest), {}, seed)


def run(stage, folder, **context):
    out = Store.open(str(folder / "out"))
    work = Store.open(str(folder / "work"))
    return out, stage.run(Context(inputs={}, out=out, work=work, seed=stage.seed, **context))


def parquet(path, rows):
    pq.write_table(pa.Table.from_pylist(rows), path)
    return ParquetSource(kind="parquet", path=str(path))


def cohort(patients=30, **extra):
    rows = []
    for patient in range(patients):
        for _ in range(1 + patient % 3):
            picture = np.random.default_rng(len(rows)).integers(0, 256, (20, 24), dtype=np.uint8)
            fields = {"labels": ["Mass"] if patient % 2 else [], "view": "PA", "sex": "F", "age": 50, **extra}
            rows.append({"image": encode_png(picture), "patient_id": patient, "image_id": f"i{len(rows)}", **fields})
    return rows


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    return run(node(), tmp_path_factory.mktemp("ingest"))


def test_records_have_the_schema_and_disjoint_patients(done):
    out, outcome = done
    patients = {}
    for role in ROLES:
        table = out.read_table(role)
        assert table.schema == RECORDS
        assert table.num_rows == outcome.counts[role] == outcome.facts["images"][role] > 0
        assert decode_batch(table["image"].to_pylist()).shape == (table.num_rows, 16, 16)
        patients[role] = set(table["patient_id"].to_pylist())
        assert len(patients[role]) == outcome.facts["patients"][role]
    assert patients["probe"] <= patients["train"]
    assert not patients["train"] & patients["calibration"]
    assert not (patients["train"] | patients["calibration"]) & patients["evaluation"]


def test_counts_add_up(done):
    out, outcome = done
    counts = outcome.counts
    assert counts["rows"] == counts["records"] + counts["quarantined"]
    assert counts["records"] == sum(counts[role] for role in ROLES)
    assert out.read_table("quarantine").schema == QUARANTINE
    assert out.read_json("cohort/cohort.json") == json.loads(json.dumps(outcome.facts))


def test_prompts_are_k_anonymous_over_train_patients(done):
    out, outcome = done
    patients = defaultdict(set)
    train = out.read_table("train")
    for patient, prompt in zip(train["patient_id"].to_pylist(), train["prompt"].to_pylist(), strict=True):
        patients[prompt].add(patient)
    shared = [len(own) for prompt, own in patients.items() if prompt != BASE_PROMPT]
    assert min(shared) == outcome.facts["prompts"]["fewest_patients_sharing"] >= 3
    frequencies = out.read_table("prompts")
    assert frequencies.schema == FREQUENCIES
    assert set(frequencies["prompt"].to_pylist()) == set(patients)
    assert sum(frequencies["count"].to_pylist()) == train.num_rows
    for role in ROLES:
        assert set(out.read_table(role)["prompt"].to_pylist()) <= {*patients, BASE_PROMPT}
    assert Requests(frequencies, RequestConfig(), 0, "teacher_samples").rows(range(50)).num_rows == 50


def test_the_same_config_gives_the_same_files(done, tmp_path):
    out, _ = done
    again, _ = run(node(), tmp_path)
    assert again.fingerprint() == out.fingerprint()


def test_many_records_are_several_shards(tmp_path, monkeypatch, done):
    monkeypatch.setattr(ingest_module, "ROWS_PER_SHARD", 7)
    out, outcome = run(node(), tmp_path)
    assert len(out.shards("train")) == -(-outcome.counts["train"] // 7) > 1
    assert out.read_table("train").equals(done[0].read_table("train"))


def test_a_role_without_images_is_an_empty_table(tmp_path):
    out, outcome = run(node(ingest=CONFIG.model_copy(update={"probe_share": 0.0})), tmp_path)
    assert outcome.counts["probe"] == out.read_table("probe").num_rows == 0
    assert out.read_table("probe").schema == RECORDS


def test_bad_rows_are_quarantined_and_counted(tmp_path):
    rows = cohort()
    rows[3]["image"] = b"junk"
    rows[5]["patient_id"] = None
    rows[7]["age"] = 500
    rows[9]["image"] = rows[20]["image"]
    out, outcome = run(node(parquet(tmp_path / "c.parquet", rows)), tmp_path)
    expected = {"undecodable": 1, "missing_patient": 1, "bad_field": 1, "duplicate_image": 2}
    assert outcome.facts["quarantined"] == expected
    assert outcome.counts["quarantined"] == 5
    assert outcome.counts["rows"] == len(rows) == outcome.counts["records"] + 5
    assert out.read_table("quarantine")["row"].to_pylist() == [3, 5, 7, 9, 20]


def darker(png):
    return encode_png((decode(png) * 0.9).astype(np.uint8))


def test_near_duplicates_are_quarantined_and_told_of(tmp_path):
    rows = cohort()
    kept = len(rows)
    rows += [{**rows[0], "image_id": "again", "image": darker(rows[0]["image"])}]
    rows += [{**rows[4], "image_id": "other", "image": darker(rows[4]["image"]), "patient_id": rows[0]["patient_id"]}]
    rows += [{**rows[5], "image_id": "bytes"}]
    config = CONFIG.model_copy(update={"max_bad_rows": 0})
    out, outcome = run(node(parquet(tmp_path / "c.parquet", rows), config), tmp_path)
    assert outcome.counts["records"] == kept
    assert outcome.counts["rows"] == len(rows) == kept + outcome.counts["quarantined"]
    assert outcome.facts["quarantined"] == {"near_duplicate": 2, "duplicate_image": 1}
    assert outcome.facts["duplicates"] == {
        "exact": 1,
        "exact_across_patients": 0,
        "near": 2,
        "near_across_patients": 1,
        "near_duplicate_similarity": config.near_duplicate_similarity,
    }
    again, other, _ = out.read_table("quarantine").to_pylist()
    assert (again["row"], again["image_id"], again["reason"]) == (kept, "again", "near_duplicate")
    assert again["detail"].endswith(" to i0, which is kept")
    assert other["detail"].endswith(" to another patient's i4, which is kept")
    assert "1 equal to another picture, 2 near-duplicates" in outcome.facts["notes"][0]
    assert outcome.facts["notes"][1].startswith("1 of the duplicates are pictures under several patients' names")


def test_without_a_similarity_only_equal_pictures_are_duplicates(tmp_path):
    rows = cohort()
    rows += [{**rows[0], "image_id": "again", "image": darker(rows[0]["image"])}]
    config = CONFIG.model_copy(update={"near_duplicate_similarity": None})
    _, outcome = run(node(parquet(tmp_path / "c.parquet", rows), config), tmp_path)
    assert outcome.counts["records"] == len(rows)
    assert outcome.facts["duplicates"]["near_duplicate_similarity"] is None


def test_the_first_of_near_duplicates_is_kept_whatever_the_roles(tmp_path):
    roles = ("train", "train", "calibration", "evaluation")
    rows = [{**row, "role": roles[row["patient_id"] % 4]} for row in cohort()]
    stranger = next(row for row in rows if row["role"] == "evaluation")
    rows.insert(0, {**stranger, "image_id": "first", "image": darker(rows[1]["image"])})
    out, _ = run(node(parquet(tmp_path / "c.parquet", rows)), tmp_path)
    assert "first" in out.read_table("evaluation")["image_id"].to_pylist()
    assert out.read_table("quarantine")["image_id"].to_pylist() == [rows[2]["image_id"]]


def test_text_alone_gives_the_base_prompt_or_scrubbed_text(tmp_path):
    rows = [{**row, "text": "Seen by Dr. Lane. Clear lungs"} for row in cohort()]
    for row in rows:
        del row["labels"], row["view"], row["sex"], row["age"]
    source = parquet(tmp_path / "c.parquet", rows)
    out, outcome = run(node(source), tmp_path / "template")
    assert set(out.read_table("train")["prompt"].to_pylist()) == {BASE_PROMPT}
    assert out.read_table("train")["labels"].null_count == out.read_table("train").num_rows
    assert ["text alone" in note for note in outcome.facts["notes"]] == [True, False]
    free = CONFIG.model_copy(update={"prompts": PromptConfig(policy="free_text", k=3)})
    out, outcome = run(node(source, free), tmp_path / "free")
    assert set(out.read_table("train")["prompt"].to_pylist()) == {"Seen by. Clear lungs"}
    assert outcome.facts["scrubbed"] == {"texts": len(rows), "changed": len(rows), "removed": {"name": len(rows)}}


def test_a_scrubber_that_is_not_there_is_said_before_anything_starts_and_one_that_is_stands_in_the_key(tmp_path):
    source = parquet(tmp_path / "c.parquet", cohort())
    plain, more = (
        node(source, CONFIG.model_copy(update={"prompts": PromptConfig(policy="free_text", scrubber=scrubber)}))
        for scrubber in ("rules", "presidio")
    )
    assert "found_by" not in plain.key_config()
    assert more.key_config()["found_by"].keys() == {"presidio-analyzer", "phonenumbers"}
    prompts = PromptConfig(policy="free_text", scrubber="presidio", spacy_model="no_such_model")
    with pytest.raises(InputError, match="no such model"):
        node(source, CONFIG.model_copy(update={"prompts": prompts})).check(Config())


def test_of_a_report_the_impression_is_used_and_what_was_left_out_is_counted(tmp_path):
    rows = cohort()
    for row in rows:
        row["text"] = f"INDICATION: {row['patient_id']} years of cough.\nIMPRESSION: No effusion, seen 2020-01-02.\n"
        del row["labels"], row["view"], row["sex"], row["age"]
    free = CONFIG.model_copy(update={"prompts": PromptConfig(policy="free_text", k=3)})
    out, outcome = run(node(parquet(tmp_path / "c.parquet", rows), free), tmp_path)
    assert set(out.read_table("train")["prompt"].to_pylist()) == {"No effusion, seen."}
    removed = {"date": len(rows), "section": len(rows)}
    assert outcome.facts["scrubbed"] == {"texts": len(rows), "changed": len(rows), "removed": removed}


def test_only_findings_that_enough_train_patients_share_are_named(tmp_path):
    rows = cohort()
    rows[0]["labels"] = ["Mass", "Kartagener of Mr Smith"]
    out, outcome = run(node(parquet(tmp_path / "c.parquet", rows)), tmp_path)
    named = out.read_json("findings/findings.json")
    assert named["findings"] == ["mass"]
    assert "kartagener of mr smith" in outcome.facts["findings"]
    assert outcome.facts["notes"] == []


def test_the_order_of_the_source_decides_no_role(tmp_path):
    rows = [{**row, "study_index": i} for i, row in enumerate(cohort())]
    one, _ = run(node(parquet(tmp_path / "1.parquet", rows)), tmp_path / "one")
    two, _ = run(node(parquet(tmp_path / "2.parquet", rows[::-1])), tmp_path / "two")
    for role in ROLES:
        first, second = (sorted(out.read_table(role)["image_id"].to_pylist()) for out in (one, two))
        assert first == second
    assert one.read_table("prompts").equals(two.read_table("prompts"))


@pytest.mark.parametrize("studies", [1, 2])
def test_that_probes_are_of_studies_that_a_model_sees_is_said_where_there_are_no_others(tmp_path, studies):
    seen, rows = Counter(), cohort()
    for row in rows:
        row["study_id"] = f"s{seen[row['patient_id']] % studies}"
        seen[row["patient_id"]] += 1
    out, outcome = run(node(parquet(tmp_path / "c.parquet", rows)), tmp_path)
    assert any("probes are of studies that a model sees" in note for note in outcome.facts["notes"]) is (studies == 1)
    train, probe = (
        {(row["patient_id"], row["study_index"]) for row in out.read_table(role).to_pylist()}
        for role in ("train", "probe")
    )
    assert probe
    assert bool(train & probe) is (studies == 1)


def test_roles_of_the_source_are_honoured(tmp_path):
    roles = ("train", "train", "calibration", "evaluation")
    rows = [{**row, "role": roles[row["patient_id"] % 4]} for row in cohort()]
    _, outcome = run(node(parquet(tmp_path / "c.parquet", rows)), tmp_path)
    assert outcome.facts["roles_given"]
    assert outcome.counts["calibration"] == sum(row["role"] == "calibration" for row in rows)


def test_unusable_cohorts_are_input_errors(tmp_path):
    with pytest.raises(InputError, match="none of the source's"):
        run(node(parquet(tmp_path / "a.parquet", [{**row, "image": b"junk"} for row in cohort()])), tmp_path)
    one_each = [{**row, "patient_id": i} for i, row in enumerate(cohort())]
    with pytest.raises(InputError, match="has two images"):
        run(node(parquet(tmp_path / "b.parquet", one_each)), tmp_path)


def test_the_key_follows_the_content_and_not_the_place(tmp_path):
    rows = cohort()
    one, moved = parquet(tmp_path / "one.parquet", rows), parquet(tmp_path / "two.parquet", rows)
    key = canonical_json(node(one).key_config())
    assert key == canonical_json(node(moved).key_config())
    assert str(tmp_path) not in key
    parquet(tmp_path / "one.parquet", rows[1:])
    assert canonical_json(node(one).key_config()) != key
    assert node().key_config() != node(seed=1).key_config()
    assert node().key_config() != node(ingest=IngestConfig(resolution=8)).key_config()
    assert node().key_config() != node(PHANTOM.model_copy(update={"num_patients": 61})).key_config()


def test_progress_ends_at_the_number_of_rows(tmp_path):
    seen = []
    _, outcome = run(node(), tmp_path, progress=lambda done, total, unit: seen.append((done, total, unit)))
    assert seen[-1] == (outcome.counts["rows"], outcome.counts["rows"], "rows")
    assert [done for done, _, _ in seen] == sorted(done for done, _, _ in seen)


def dicom_folder(path, patients=10):
    for patient in range(patients):
        for study in range(1 + patient % 2):
            pixels = np.random.default_rng(2 * patient + study).integers(0, 4096, (20, 24)).astype(np.uint16)
            (path / f"MRN-{patient}").mkdir(parents=True, exist_ok=True)
            tags = {"PatientID": f"MRN-{patient}", "PatientName": f"Name^{patient}"}
            (path / f"MRN-{patient}" / f"{study}.dcm").write_bytes(dicom(pixels, bits=12, **tags))
    (path / "MRN-broken.dcm").write_bytes(b"MRN-broken")
    return path


def test_dicom_ids_are_hashed_before_anything_is_written(tmp_path):
    source = DicomSource(kind="dicom", path=str(dicom_folder(tmp_path / "cohort")))
    (one, outcome), (other, _) = (run(node(source), tmp_path / key, private_key=key.encode() * 32) for key in "ab")
    assert outcome.counts["records"] == 15
    assert outcome.facts["quarantined"] == {"undecodable": 1}
    written = b"".join(one.read_bytes(name) for name in one.files()) + repr(outcome).encode()
    assert b"MRN" not in written
    assert b"Name^" not in written
    tables = [store.read_table(role) for store in (one, other) for role in ROLES]
    patients = [set().union(*(t["patient_id"].to_pylist() for t in part)) for part in (tables[:4], tables[4:])]
    assert [len(ids) for ids in patients] == [10, 10]
    assert not patients[0] & patients[1]


def test_with_a_key_of_ones_own_pseudonyms_and_splits_are_the_same_in_every_folder(tmp_path):
    (tmp_path / "key").write_bytes(bytes(32))
    source = DicomSource(kind="dicom", path=str(dicom_folder(tmp_path / "cohort")), pseudonym_key=str(tmp_path / "key"))
    (one, _), (other, _) = (run(node(source), tmp_path / key, private_key=key.encode() * 32) for key in "ab")
    assert all(one.read_table(role).equals(other.read_table(role)) for role in ROLES)
    key = canonical_json(node(source).key_config())
    (tmp_path / "key").write_bytes(bytes(31) + b"1")
    assert canonical_json(node(source).key_config()) != key
    assert str(tmp_path) not in key
    (tmp_path / "key").unlink()
    with pytest.raises(InputError, match=r"source\.pseudonym_key"):
        node(source).check(None)


def test_every_row_of_bad_data_is_in_one_of_the_tables_that_are_written(tmp_path):
    bad = {name: (content, outcome) for name, (content, outcome) in IMAGES.items() if outcome != KEPT}
    rows = cohort() + [cohort()[0] | {"image": content, "image_id": name} for name, (content, _) in bad.items()]
    out, outcome = run(
        node(parquet(tmp_path / "c.parquet", rows), CONFIG.model_copy(update={"max_image_pixels": MAX_PIXELS})),
        tmp_path,
    )
    quarantined = out.read_table("quarantine")
    assert outcome.counts["rows"] == len(rows) == outcome.counts["records"] + outcome.counts["quarantined"]
    assert outcome.counts["records"] == sum(out.read_table(role).num_rows for role in ROLES) == len(cohort())
    reasons = dict(zip(quarantined["image_id"].to_pylist(), quarantined["reason"].to_pylist(), strict=True))
    assert reasons == {name: outcome for name, (_, outcome) in bad.items()}
    assert outcome.facts["quarantined"] == dict(Counter(reasons.values()))
