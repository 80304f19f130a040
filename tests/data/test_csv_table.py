"""Anybody's own table of images."""

import numpy as np
import pytest

from raydistill.core.config import IngestConfig
from raydistill.core.errors import InputError
from raydistill.core.sources import CsvSource
from raydistill.data.pseudonyms import pseudonymised
from raydistill.data.records import clean
from raydistill.data.sources import open_source

from .archives import put
from .cohorts import png
from .dicoms import dicom, ramp

COLUMNS = {"file_name": "Path", "patient_id": "MRN", "labels": "Findings"}


def source(path, text, **options):
    put(path, text if isinstance(text, bytes) else text.encode())
    return open_source(CsvSource(kind="csv", path=str(path), **options))


def read(*arguments, **options):
    reader = source(*arguments, **options)
    reader.check()
    return list(reader.rows())


def test_columns_may_be_called_anything(tmp_path):
    for i in range(3):
        put(tmp_path / f"images/{i}.png", png(i))
    text = "MRN;Path;Findings;age;x\n007;0.png;Mass|Edema;57;1\n007;1.png;No Finding;58;1\n8;2.png;;;1\n"
    options = {"columns": COLUMNS, "images": str(tmp_path / "images"), "delimiter": ";"}
    rows = read(tmp_path / "tables/index.csv", text, **options)
    assert [row.patient_id for row in rows] == ["007", "007", "8"]
    assert [row.labels for row in rows] == [["Mass", "Edema"], ["No Finding"], None]
    assert [row.image for row in rows] == [png(i) for i in range(3)]
    assert [row.age for row in rows] == [57.0, 58.0, None]


def test_a_column_that_is_mapped_goes_before_one_of_that_name(tmp_path):
    put(tmp_path / "a.png", png(0))
    (row,) = read(
        tmp_path / "t.csv", "MRN,patient_id,file_name,sex\nright,wrong,a.png,F\n", columns={"patient_id": "MRN"}
    )
    assert row.patient_id == "right"


def test_dicom_files_say_what_the_table_does_not(tmp_path):
    put(tmp_path / "a.dcm", dicom(ramp(4095), bits=12, PatientID="other", ViewPosition="LL"))
    put(tmp_path / "b.dcm", dicom(ramp(4095), BurnedInAnnotation="YES"))
    put(tmp_path / "c.dcm", dicom(np.zeros((2, 4, 4), np.uint8)))
    text = "file_name,patient_id,labels,age\na.dcm,p,Mass,\nb.dcm,p,Mass,\nc.dcm,p,Mass,\na.dcm,p,Mass,30\n"
    rows = read(tmp_path / "t.csv", text)
    assert (rows[0].patient_id, rows[0].age, rows[0].sex, rows[0].view) == ("p", 57.0, "female", "lateral")
    assert rows[0].image.shape == (16, 16)
    assert rows[3].age == 30.0
    assert [row.problem and row.problem[0] for row in rows] == [None, "burned_in", "undecodable", None]
    assert read(tmp_path / "t.csv", text, burned_in="accept")[1].problem is None


def test_ids_are_hashed_unless_one_says_otherwise_and_paths_are_not_told(tmp_path):
    config = CsvSource(kind="csv", path="x")
    assert config.pseudonymise
    rows = read(tmp_path / "t.csv", "file_name,patient_id,sex\nMRN-7/a.png,MRN-7,F\n../MRN-7,MRN-7,F\n")
    quarantine = clean(pseudonymised(rows, bytes(32)), IngestConfig(resolution=8)).quarantine.to_pylist()
    assert [entry["reason"] for entry in quarantine] == ["missing_image", "path_outside"]
    assert "MRN" not in repr(quarantine)
    assert "MRN-7/a.png" in repr(clean(rows, IngestConfig(resolution=8)).quarantine.to_pylist())


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("file_name,sex\na,F\n", {}, "no column `patient_id`.*source.columns, such as"),
        (
            "file_name,patient_id,sex\na,1,F\n",
            {"columns": {"labels": "Findngs"}},
            "source.columns names labels: Findngs",
        ),
        ("file_name,patient_id,sex\na,1,F\n", {"images": "/none/of/that"}, r"source\.images /none/of/that: no such"),
        ("file_name,patient_id,sex\na,1,F\n", {"encoding": "klingon"}, r"source\.encoding 'klingon'"),
        ("file_name,patient_id,sex\na,1,F\n", {"encoding": "utf-16"}, r"as utf-16 text: .* BOM; source\.encoding says"),
        ("file_name,patient_id,sex\na,1,F\n", {"encoding": "utf-32"}, r"as utf-32 text: .*; source\.encoding says"),
        ("file_name,patient_id,sex\na,1,F\n", {"encoding": "idna"}, r"as idna text: .*; source\.encoding says"),
        ("file_name,patient_id,sex\n", {}, "no rows"),
        ("file_name,patient_id\n1,2\n", {}, "nothing describes the images"),
        ("file_name;patient_id;sex\n1;2;F\n", {}, r"perhaps source\.delimiter is ';'"),
        ("file_name,patient_id,sex,sex\n1,2,F,F\n", {}, "two columns are called sex"),
        (b"file_name,patient_id,\xffsex\n1,2,F\n", {}, "isn't UTF-8 text"),
    ],
)
def test_wrong_tables_are_one_readable_line(tmp_path, text, options, message):
    with pytest.raises(InputError, match=message) as caught:
        source(tmp_path / "t.csv", text, **options).check()
    assert "\n" not in str(caught.value)


def test_a_table_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match=r"no such file; set source\.path"):
        open_source(CsvSource(kind="csv", path=str(tmp_path / "t.csv"))).check()


def test_what_excel_puts_above_a_table_is_passed_over(tmp_path):
    put(tmp_path / "a.png", png(0))
    text = "sep=;\r\nfile_name;patient_id;sex\r\na.png;p;F\r\n"
    (row,) = read(tmp_path / "t.csv", text, delimiter=";")
    assert (row.patient_id, row.sex, row.image) == ("p", "F", png(0))
    with pytest.raises(InputError, match=r"perhaps source\.delimiter is ';'"):
        source(tmp_path / "t.csv", text).check()


def test_a_path_may_begin_with_the_folder_s_own(tmp_path):
    put(tmp_path / "images" / "a.png", png(0))
    named = (f"{tmp_path}/images/a.png", f"{tmp_path}/images/../t.csv", f"{tmp_path}/images")
    rows = read(
        tmp_path / "t.csv",
        "file_name,patient_id,sex\n" + "".join(f"{name},p,F\n" for name in named),
        images=str(tmp_path / "images"),
    )
    assert (rows[0].image, rows[0].origin) == (png(0), "a.png")
    assert [row.problem and row.problem[0] for row in rows] == [None, "path_outside", "path_outside"]


def test_other_encodings_are_read_where_they_are_named(tmp_path):
    put(tmp_path / "a.png", png(0))
    text = "file_name,patient_id,labels\na.png,Müller,Ödem\n".encode("latin-1")
    assert read(tmp_path / "t.csv", text, encoding="latin-1")[0].labels == ["Ödem"]
    assert read(tmp_path / "t.csv", text)[0].problem == ("bad_field", "a cell that isn't utf-8 text")
    marked = b"\xef\xbb\xbf" + "file_name,patient_id,labels\na.png,Müller,Ödem\n".encode()
    for name in ("utf-8", "UTF8", "utf_8", "utf-8-sig"):
        assert read(tmp_path / "t.csv", marked, encoding=name)[0].labels == ["Ödem"]


def test_a_path_of_windows_is_told_from_a_file_that_is_missing(tmp_path):
    text = "file_name,patient_id,sex\nimg\\a.png,1,F\nimg/a.png,2,F\n"
    first, second = read(tmp_path / "t.csv", text)
    assert first.problem == ("missing_image", "No such file or directory; between folders put / and not \\")
    assert second.problem == ("missing_image", "No such file or directory")


def test_the_fingerprint_is_of_table_and_images(tmp_path):
    put(tmp_path / "images/a.png", png(0))
    reader = source(tmp_path / "t.csv", "file_name,patient_id,sex\na.png,1,F\n", images=str(tmp_path / "images"))
    prints = [reader.fingerprint()]
    put(tmp_path / "images/a.png", png(1))
    prints.append(reader.fingerprint())
    put(tmp_path / "t.csv", b"file_name,patient_id,sex\na.png,2,F\n")
    prints.append(reader.fingerprint())
    assert len({str(sorted(found.items())) for found in prints}) == 3
