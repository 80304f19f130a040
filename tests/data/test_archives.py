"""The public archives as their downloads lie on disk."""

import gzip
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest

from raydistill.core.config import IngestConfig
from raydistill.core.errors import InputError
from raydistill.core.kinds import kind_of
from raydistill.core.loading import validate
from raydistill.data.records import clean
from raydistill.data.reports import caption, sections
from raydistill.data.rows import Unusable
from raydistill.data.sources import Source, open_source
from raydistill.data.sources.archive import labelled

from .archives import REPORT, chexpert, jpeg, mimic, mimic_reports, nih, padchest, png16, put, table
from .cohorts import png

BUILT = {"nih_cxr14": nih, "chexpert": chexpert, "mimic_cxr_jpg": mimic, "padchest": padchest}


def read(kind, path, **options):
    source = open_source(validate({"source": {"kind": kind, "path": str(path), **options}}).source)
    source.check()
    return list(source.rows())


def picked(rows, *names):
    return [tuple(getattr(row, name) for name in names) for row in rows]


@pytest.mark.parametrize("kind", BUILT)
class TestEvery:
    def test_is_a_source_that_says_by_itself_what_it_is(self, kind, tmp_path):
        folder = BUILT[kind](tmp_path / "archive")
        assert kind_of(str(folder)) == kind
        config = validate({"source": {"path": str(folder)}}).source
        assert config.kind == kind
        assert isinstance(open_source(config), Source)

    def test_every_row_becomes_a_record(self, kind, tmp_path):
        rows = read(kind, BUILT[kind](tmp_path))
        cleaned = clean(rows, IngestConfig(resolution=8))
        good = [row for row in rows if row.labels is not None or row.view or row.sex]
        assert len(cleaned.records) == len(good) == len(rows) >= 3

    def test_a_missing_file_is_a_problem_of_its_row(self, kind, tmp_path):
        folder = BUILT[kind](tmp_path)
        next(path for path in sorted(folder.rglob("*")) if path.suffix in (".png", ".jpg")).unlink()
        problems = [row.problem for row in read(kind, folder)]
        assert sorted(problem[0] for problem in problems if problem) == ["missing_image"]

    def test_a_folder_that_is_none_of_this_archive_is_one_readable_line(self, kind, tmp_path):
        for path, message in ((tmp_path, "in this folder, as"), (tmp_path / "none", "no such folder")):
            with pytest.raises(InputError, match=message) as caught:
                read(kind, path)
            assert "\n" not in str(caught.value)

    def test_a_table_of_another_is_one_readable_line(self, kind, tmp_path):
        folder = BUILT[kind](tmp_path)
        for path in folder.glob("*.csv*"):
            other = b"a,b\n1,2\n"
            path.write_bytes(gzip.compress(other) if path.suffix == ".gz" else other)
        with pytest.raises(InputError, match=r"no column .*, as \w+ has it; the columns are a, b"):
            read(kind, folder)

    def test_the_fingerprint_is_of_the_content(self, kind, tmp_path):
        folder = BUILT[kind](tmp_path / "one")
        shutil.copytree(folder, tmp_path / "two")
        first, second = (open_source(validate({"source": {"path": str(tmp_path / x)}}).source) for x in ("one", "two"))
        assert first.fingerprint() == second.fingerprint()
        put(next(path for path in sorted(folder.rglob("*")) if path.suffix in (".png", ".jpg")), png(99))
        assert first.fingerprint() != second.fingerprint()


class TestNih:
    def test_rows(self, tmp_path):
        rows = read("nih_cxr14", nih(tmp_path))
        assert picked(rows, "image_id", "patient_id", "study_index", "labels", "view", "sex", "age") == [
            ("00000001_000.png", "1", 0, ["Cardiomegaly", "Emphysema"], "PA", "M", 57.0),
            ("00000001_001.png", "1", 1, ["No Finding"], "AP", "M", 58.0),
            ("00000002_000.png", "2", 0, ["Pleural_Thickening"], "PA", "F", 80.0),
        ]
        assert [row.image for row in rows] == [png(0), png(1), png(2)]
        assert [record.labels for record in clean(rows, IngestConfig(resolution=8)).records] == [
            ["cardiomegaly", "emphysema"], [], ["pleural thickening"],
        ]  # fmt: skip

    def test_the_later_table_and_images_in_one_folder(self, tmp_path):
        folder = nih(tmp_path, name="Data_Entry_2017_v2020.csv")
        (folder / "Data_Entry_2017.csv").write_text("another")
        for path in list(folder.rglob("*.png")):
            put(folder / "images" / path.name, path.read_bytes())
            path.unlink()
        assert all(row.problem is None for row in read("nih_cxr14", folder))

    def test_impossible_ages_are_bad_rows_and_older_spellings_are_read(self, tmp_path):
        rows = [(f"{i}.png", "Mass", 0, i, age, "M", "PA") for i, age in enumerate(("414", "060Y", "012M", "x"))]
        cleaned = clean(read("nih_cxr14", nih(tmp_path, rows)), IngestConfig(resolution=8))
        assert cleaned.reasons() == {"bad_field": 2}
        assert [record.age for record in cleaned.records] == [60.0, 1.0]


class TestChexpert:
    def test_rows(self, tmp_path):
        rows = read("chexpert", chexpert(tmp_path / "renamed"))
        assert picked(rows, "patient_id", "study_index", "labels", "view", "sex", "age") == [
            ("patient00001", 1, ["No Finding"], "AP", "Female", 68.0),
            ("patient00002", 2, ["Fracture"], "PA", "Male", 87.0),
            ("patient00002", 1, [], "Lateral", "Male", 83.0),
            ("patient64541", 1, None, "AP", "Unknown", 5.0),
        ]
        assert rows[0].image_id == "train/patient00001/study1/view1_frontal.jpg"
        assert [row.image for row in rows] == [jpeg(i) for i in range(4)]

    @pytest.mark.parametrize(
        ("policy", "labels"), [("negative", ["Fracture"]), ("positive", ["Edema", "Fracture"]), ("unknown", None)]
    )
    def test_uncertain_findings(self, policy, labels, tmp_path):
        assert read("chexpert", chexpert(tmp_path), uncertain=policy)[1].labels == labels

    def test_a_path_that_is_no_chexpert_path(self, tmp_path):
        folder = chexpert(tmp_path)
        content = (folder / "train.csv").read_text().replace("train/patient00001", "../patient00001")
        (folder / "train.csv").write_text(content)
        assert read("chexpert", folder)[0].problem[0] == "bad_field"

    def test_one_table_is_enough(self, tmp_path):
        folder = chexpert(tmp_path)
        (folder / "train.csv").unlink()
        assert len(read("chexpert", folder)) == 1

    @pytest.mark.parametrize("cell", ["2", "yes", "nan", "0.5"])
    def test_a_mark_that_is_none(self, cell):
        with pytest.raises(Unusable, match=f"Edema is '{cell}', not 1, 0, -1 or empty"):
            labelled({"Edema": cell}, ["Edema"], "negative")


class TestMimic:
    def test_rows(self, tmp_path):
        rows = read("mimic_cxr_jpg", mimic(tmp_path))
        assert picked(rows, "image_id", "patient_id", "labels", "view", "text", "sex", "age") == [
            ("aaaa-1", "10000032", ["No Finding"], "PA", None, None, None),
            ("aaaa-2", "10000032", ["No Finding"], "LATERAL", None, None, None),
            ("bbbb-1", "10000764", ["Pneumonia"], "AP", None, None, None),
        ]
        assert [row.image for row in rows] == [jpeg(i) for i in range(3)]
        assert rows[0].study_id == rows[1].study_id != rows[2].study_id

    @pytest.mark.parametrize("as_zip", [True, False])
    def test_reports_give_their_impression(self, tmp_path, as_zip):
        reports = mimic_reports(tmp_path / ("reports.zip" if as_zip else "reports"), as_zip=as_zip)
        rows = read("mimic_cxr_jpg", mimic(tmp_path / "jpg"), reports=str(reports))
        assert [row.text for row in rows] == ["Mild cardiomegaly. No pleural effusion."] * 2 + [None]

    def test_sex_and_age_from_mimic_iv(self, tmp_path):
        people = [["subject_id", "gender", "anchor_age", "anchor_year", "anchor_year_group", "dod"]]
        people.append(["10000032", "F", "52", "2180", "2014 - 2016", ""])
        put(tmp_path / "patients.csv.gz", gzip.compress(table(people)))
        rows = read("mimic_cxr_jpg", mimic(tmp_path / "jpg"), patients=str(tmp_path / "patients.csv.gz"))
        assert picked(rows, "sex", "age") == [("F", 52.0), ("F", 52.0), (None, None)]

    def test_a_study_without_labels_and_the_other_labeler(self, tmp_path):
        folder = mimic(tmp_path, marks={57375967: {"Edema": "1.0"}})
        assert [row.labels for row in read("mimic_cxr_jpg", folder)] == [None, None, ["Edema"]]
        with pytest.raises(InputError, match=r"no mimic-cxr-.*-negbio"):
            read("mimic_cxr_jpg", folder, labeler="negbio")

    def test_reports_that_are_not_there_or_no_zip(self, tmp_path):
        folder = mimic(tmp_path / "jpg")
        with pytest.raises(InputError, match=r"source\.reports .*: no such file or folder"):
            read("mimic_cxr_jpg", folder, reports=str(tmp_path / "none.zip"))
        (tmp_path / "bad.zip").write_bytes(b"no zip")
        with pytest.raises(InputError, match=r"bad\.zip: can't be read"):
            read("mimic_cxr_jpg", folder, reports=str(tmp_path / "bad.zip"))
        reports = mimic_reports(tmp_path / "damaged.zip")
        content = bytearray(reports.read_bytes())
        content[60:70] = bytes(10)
        reports.write_bytes(content)
        with pytest.raises(InputError, match=r"damaged\.zip: can't be read"):
            read("mimic_cxr_jpg", folder, reports=str(reports))
        content = bytearray(mimic_reports(tmp_path / "short.zip").read_bytes())
        sizes = content.index(b"PK\x01\x02") + 20
        content[sizes : sizes + 8] = struct.pack("<II", 10**6, 10**6)
        (tmp_path / "short.zip").write_bytes(content)
        with pytest.raises(InputError, match=r"short\.zip: can't be read: \w+"):
            read("mimic_cxr_jpg", folder, reports=str(tmp_path / "short.zip"))

    def test_a_broken_line_of_a_side_table_is_refused(self, tmp_path):
        folder = mimic(tmp_path)
        labels = folder / "mimic-cxr-2.0.0-chexpert.csv.gz"
        labels.write_bytes(gzip.compress(gzip.decompress(labels.read_bytes()) + b"1,2\n"))
        with pytest.raises(InputError, match="line 3 below the header: 2 cells"):
            read("mimic_cxr_jpg", folder)
        people = put(tmp_path / "patients.csv", b"subject_id,gender,anchor_age,anchor_year\n1,F,old,2100\n")
        with pytest.raises(InputError, match=r"source\.patients .*: anchor_year or anchor_age"):
            read("mimic_cxr_jpg", mimic(tmp_path), patients=str(people))

    def test_reports_are_part_of_the_fingerprint(self, tmp_path):
        folder, reports = mimic(tmp_path / "jpg"), mimic_reports(tmp_path / "reports", as_zip=False)
        options = {"kind": "mimic_cxr_jpg", "path": str(folder), "reports": str(reports)}
        source = open_source(validate({"source": options}).source)
        before = source.fingerprint()
        next(path for path in reports.rglob("*.txt")).write_text("another")
        assert source.fingerprint() != before


class TestPadchest:
    def test_rows(self, tmp_path):
        rows = read("padchest", padchest(tmp_path))
        assert picked(rows, "image_id", "labels", "view", "sex", "age", "text") == [
            ("111_00-163-058.png", ["pulmonary fibrosis", "chronic changes"], "pa", "M", 84.0, "sin hallazgo patolog"),
            ("112_00-163-059.png", ["No Finding"], "lateral", "M", 84.0, None),
            ("113_00-163-060.png", None, "ap", "F", 84.0, None),
        ]
        assert rows[0].patient_id == rows[1].patient_id == "839860488694292331637988235681460987"
        assert [row.image for row in rows] == [png16(i) for i in range(3)]
        assert all(row.study_id for row in rows)

    def test_all_images_in_one_folder(self, tmp_path):
        assert all(row.image for row in read("padchest", padchest(tmp_path, flat=True), folders=False))

    def test_what_the_archive_excludes_is_left_out(self, tmp_path):
        row = {"PatientID": "1", "Projection": "PA", "ImageDir": "0"}
        marked = [
            {"Labels": "['exclude']"},
            {"Projection": "EXCLUDE", "Labels": "['normal']"},
            {"Labels": "['unchanged']"},
        ]
        rows = read("padchest", padchest(tmp_path, [row | {"ImageID": f"{i}.png"} | x for i, x in enumerate(marked)]))
        assert [row.problem and row.problem[0] for row in rows] == ["left_out", "left_out", None]
        assert rows[2].labels is None

    @pytest.mark.parametrize("cell", ["[1]", "normal", "['a'", "__import__('os')", "{'a': 1}.x", "(" * 300])
    def test_labels_that_are_no_list_of_words(self, tmp_path, cell):
        rows = [{"ImageID": "a.png", "PatientID": "1", "Projection": "PA", "ImageDir": "0", "Labels": cell}]
        assert read("padchest", padchest(tmp_path, rows))[0].problem[0] == "bad_field"


class TestReports:
    def test_sections(self):
        assert sections(REPORT)["INDICATION"] == "___-year-old with cough."
        assert list(sections(REPORT)) == ["EXAMINATION", "INDICATION", "FINDINGS", "IMPRESSION"]

    def test_findings_stand_in_for_an_impression(self):
        assert caption("FINDINGS: large heart.\nIMPRESSION:\n") == "large heart."
        assert caption("nothing of the kind") is None

    def test_the_last_of_two_impressions_counts(self):
        assert caption("IMPRESSION: a.\nFINAL REPORT\nIMPRESSION: b.") == "b."


def test_nothing_at_a_path_has_no_kind(tmp_path):
    assert kind_of(str(tmp_path)) is None
    assert kind_of(str(tmp_path / "none")) is None
    assert kind_of(str(Path("x.csv"))) == "csv"
    np.testing.assert_equal(kind_of("s3://bucket/x"), None)
    assert kind_of("") is None


def test_a_table_may_be_compressed():
    assert kind_of("x.CSV.gz") == kind_of("x.csv.bz2") == "csv"


def test_of_an_export_with_its_index_no_file_is_looked_at(tmp_path):
    put(tmp_path / "DICOMDIR", b"")
    assert kind_of(str(tmp_path)) == "dicom"
