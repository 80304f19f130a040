"""What a source holds, before anything is trained."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from raydistill.cli import app
from raydistill.commands.cohorts import _said
from raydistill.core.kinds import CHEXPERT_HEADER
from raydistill.core.loading import load_config
from raydistill.core.store import Store
from raydistill.data.images import decode, encode_png
from raydistill.inspecting import inspect
from raydistill.pipeline import wire
from raydistill.stages.base import Context
from tests.data.archives import put
from tests.data.dicoms import dicom, ramp


def smooth(number, side=48):
    """A picture with structure, of which a copy is told from another picture."""
    rng = np.random.default_rng(number)
    grid = np.kron(rng.integers(40, 215, (6, 6)), np.ones((side // 6, side // 6)))
    return encode_png(grid.astype(np.uint8))


def darker(image):
    return encode_png((decode(image) * 0.9).astype(np.uint8))


def cohort(patients=40):
    rows = []
    for patient in range(patients):
        for _ in range(1 + patient % 2):
            fields = {
                "labels": ["Mass"] if patient % 3 else [],
                "view": "PA",
                "sex": "F" if patient % 2 else "M",
                "age": 50,
            }
            rows.append({"image": smooth(len(rows)), "patient_id": f"p{patient:02d}", **fields})
    return rows


def damaged(rows):
    """Each kind of trouble, once."""
    return [
        *rows,
        rows[0],
        {**rows[1], "patient_id": "p39"},
        {**rows[4], "image": darker(rows[4]["image"])},
        {**rows[7], "image": darker(rows[7]["image"]), "patient_id": "p38"},
        {**rows[9], "image": rows[9]["image"][:60]},
        {**rows[9], "patient_id": ""},
    ]


def parquet(path, rows):
    pq.write_table(pa.Table.from_pylist(rows), path)
    return str(path)


def said(*arguments):
    return CliRunner().invoke(app, ["inspect", *arguments])


def test_everything_that_is_asked_is_in_it(tmp_path):
    path = parquet(tmp_path / "cohort.parquet", damaged(cohort()))
    found = inspect(load_config(None, [f"source.path={path}", "ingest.prompts.k=2"]))
    assert (found.kind, found.rows) == ("parquet", 66)
    assert found.quarantined == {"duplicate_image": 3, "near_duplicate": 2, "undecodable": 1, "missing_patient": 1}
    assert found.images + sum(found.quarantined.values()) == found.rows
    assert found.under_two_patients == 3
    assert (found.duplicates["exact"], found.duplicates["near"]) == (3, 2)
    assert found.patients == 40
    assert sum(found.labels.values()) == sum(found.views.values()) == sum(found.sexes.values()) == found.images
    assert found.images_per_patient == {"fewest": 1, "median": 1, "most": 2, "several": 19}
    assert found.ages == {"lowest": 50, "median": 50, "highest": 50, "known": 59}
    assert found.supported_fpir == 1 / (found.roles["calibration"]["patients"] + 1)
    assert found.shared_findings == ["mass"]
    assert any("evaluate.audit_fpir asks for an FPIR of 0.05; 8 calibration" in note for note in found.notes)
    assert any("min_evaluation_patients is 100" in note for note in found.notes)
    assert any("several patients' names" in note for note in found.notes)
    assert not found.refusals
    assert [example.row for example in found.examples["undecodable"]] == [64]


def test_it_is_what_a_run_would_make_of_it(tmp_path):
    path = parquet(tmp_path / "cohort.parquet", damaged(cohort()))
    config = load_config(None, [f"source.path={path}", "ingest.prompts.k=2"])
    (ingest,) = (stage for stage in wire(config) if stage.node == "ingest")
    store = Store.open(str(tmp_path / "out"))
    outcome = ingest.run(Context({}, store, store / "work", ingest.seed))
    found = inspect(config)
    assert found.quarantined == outcome.facts["quarantined"]
    assert found.duplicates == outcome.facts["duplicates"]
    for role, counts in found.roles.items():
        assert counts == {"patients": outcome.facts["patients"][role], "images": outcome.facts["images"][role]}


def test_what_would_stop_a_run_is_said_and_everything_is_read(tmp_path):
    rows = [{**row, "image": b"junk"} if i % 4 == 0 else row for i, row in enumerate(cohort())]
    path = parquet(tmp_path / "cohort.parquet", rows)
    found = inspect(load_config(None, [f"source.path={path}", "ingest.max_bad_rows=5"]))
    assert found.rows == len(rows)
    assert found.refusals == ["15 rows can't be used, more than ingest.max_bad_rows = 5: mend them or raise the limit"]
    few = inspect(load_config(None, [f"source.path={parquet(tmp_path / 'few.parquet', cohort(4))}"]))
    assert few.roles is None
    assert few.supported_fpir is None
    assert "has 4 patients" in few.refusals[0]
    none = inspect(load_config(None, [f"source.path={parquet(tmp_path / 'none.parquet', rows[:1])}"]))
    assert (none.images, none.images_per_patient) == (0, {"several": 0})
    assert "none of the source's 1 rows can be used" in none.refusals[0]


def test_the_command_shows_it_and_says_it_in_json(tmp_path):
    path = parquet(tmp_path / "cohort.parquet", damaged(cohort()))
    shown = said(path)
    assert shown.exit_code == 0, shown.output
    for words in ("parquet: 66 rows, ", "under two patients", "row 64: ", "smallest FPIR that 8 calibration", "note: "):
        assert words in shown.output
    result = said(path, "--json", "--quiet")
    assert json.loads(result.stdout)["rows"] == 66
    assert not (tmp_path / "runs").exists()


def test_what_looks_like_markup_is_shown_as_it_is(tmp_path):
    rows = [{**row, "age": "[/b]" if number < 3 else "50"} for number, row in enumerate(cohort())]
    rows[5]["sex"] = "[female] :bomb:"
    shown = said(parquet(tmp_path / "cohort.parquet", rows), "--quiet")
    assert shown.exit_code == 0, shown.output
    assert "age is '[/b]'" in shown.output
    assert "[female] :bomb: 1" in shown.output


def test_large_counts_are_written_out():
    assert _said({"mass": 1_234_567, "median": 57.5}) == "mass 1,234,567, median 57.5"


def test_what_would_be_taken_out_of_texts_is_counted_and_not_shown(tmp_path):
    rows = [{**row, "text": "Dr. Lane saw no effusion on 2020-01-02"} for row in cohort()]
    rows[0]["text"] = "No effusion"
    path, settings = parquet(tmp_path / "cohort.parquet", rows), ["--set", "ingest.prompts.policy=free_text", "--quiet"]
    found = json.loads(said(path, *settings, "--json").stdout)["scrubbed"]
    changed = len(rows) - 1
    assert found == {"texts": len(rows), "changed": changed, "removed": {"date": changed, "name": changed}}
    shown = said(path, *settings).stdout
    assert f"date {changed}, name {changed}" in shown
    assert "Lane" not in shown
    assert json.loads(said(path, "--quiet", "--json").stdout)["scrubbed"]["texts"] == 0


def test_files_are_named_to_whoever_looks_also_where_ids_are_hashed(tmp_path):
    for patient in range(9):
        put(tmp_path / f"{patient}.dcm", dicom(ramp(99 + patient), PatientID=f"MRN-{patient}"))
    put(tmp_path / "broken.dcm", b"no DICOM")
    shown = said(str(tmp_path))
    assert "dicom: 10 rows" in shown.output
    assert "(broken.dcm)" in shown.output
    assert "MRN-" not in shown.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing/there"], "nothing/there: no such file or folder"),
        ([""], "the path of the cohort is empty"),
        (["s3://bucket/archive"], "behind a URI nothing is looked at: name the kind, such as --set source.kind="),
        (["none.parquet"], "none.parquet: no such file or folder"),
        (["nothing", "--set", "source.kind=dicom"], "nothing: no such folder"),
    ],
)
def test_mistakes_are_one_line(arguments, message):
    result = said(*arguments)
    assert result.exit_code == 2
    assert message in result.output
    assert result.output.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("empty", "empty: the folder is empty"),
        ("pictures", "holds 2 files that are images and no table that describes them: see docs/howto/csv.md"),
        ("own", "a folder with a table: name the table itself, such as {0}/own/index.csv.gz"),
        ("papers/a.pdf", "a file that ends with none of .parquet, .csv, "),
        ("papers", "holds 1 file, such as a.pdf, and nothing says what they are: name the kind"),
        ("one.dcm", "is one DICOM file: name the folder that it lies in"),
        ("download", "but {0}/download/small/v2 looks like chexpert: name that one"),
        ("physionet", "but {0}/physionet/files/jpg/2.1.0 looks like mimic_cxr_jpg: name that one"),
        ("deep", "holds 1 file, such as a.tar, and nothing says what they are"),
    ],
)
@pytest.mark.parametrize("command", [["inspect"], ["init", "new.yaml", "--source"]])
def test_what_is_there_instead_of_a_cohort_is_said(tmp_path, monkeypatch, command, name, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    for file in ("pictures/a.PNG", "pictures/b/c.jpg", "own/index.csv.gz", "papers/a.pdf", "deep/1/2/3/4/a.tar"):
        put(tmp_path / file, b"x")
    put(tmp_path / "one.dcm", dicom(ramp(9)))
    put(tmp_path / "download/small/v2/train.csv", CHEXPERT_HEADER.encode())
    put(tmp_path / "physionet/files/jpg/2.1.0/mimic-cxr-2.0.0-metadata.csv.gz", b"x")
    result = CliRunner().invoke(app, [*command, str(tmp_path / name)])
    assert result.exit_code == 2
    assert message.format(tmp_path) in result.output
    assert result.output.count("\n") == 1
    assert not (tmp_path / "new.yaml").exists()


def test_what_may_not_be_looked_at_is_one_line(tmp_path, monkeypatch):
    def refused(*arguments):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.scandir", refused)
    result = said(str(tmp_path))
    assert (result.exit_code, result.output) == (
        2,
        f"error: {tmp_path}: can't be read: [Errno 13] Permission denied\n",
    )


def test_without_a_source_the_configuration_names_it():
    result = said("--set", "source.num_patients=12", "--json", "--quiet")
    assert json.loads(result.stdout)["kind"] == "phantom"
