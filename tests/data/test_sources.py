import json
import os
import shutil
import sys
import types

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raydistill.core.errors import ConfigError, InputError
from raydistill.core.sources import CustomSource, ImageFolderSource, ParquetSource, PhantomSource
from raydistill.core.store import Store
from raydistill.data.sources import RawRow, Source, open_source
from raydistill.data.sources.files import read_file

from .cohorts import png, table_rows

ROWS = table_rows()


def parquet(path, rows=ROWS, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path, **options)
    return open_source(ParquetSource(kind="parquet", path=str(path)))


def without(rows, *names, **extra):
    return [{**{name: value for name, value in row.items() if name not in names}, **extra} for row in rows]


def folder(path, rows, name="metadata.csv"):
    path.mkdir(parents=True, exist_ok=True)
    lines = []
    for row in rows:
        if "image" in row:
            (path / row["file_name"]).write_bytes(row["image"])
        lines.append({key: value for key, value in row.items() if key != "image"})
    if name.endswith("jsonl"):
        (path / name).write_text("\n".join(map(json.dumps, lines)))
    elif name.endswith("parquet"):
        pq.write_table(pa.Table.from_pylist(lines), path / name)
    else:
        keys = list(lines[0])
        cells = [
            [("|".join(v) if isinstance(v, list) else "" if v is None else str(v)) for v in map(line.get, keys)]
            for line in lines
        ]
        (path / name).write_text("\n".join(",".join(cell) for cell in [keys, *cells]))
    return open_source(ImageFolderSource(kind="image_folder", path=str(path)))


def pictured(count=4):
    return [
        {"image": png(i), "file_name": f"{i}.png", "patient_id": f"00{i}", "labels": ["Mass", "Edema"], "age": 40 + i}
        for i in range(count)
    ]


class TestParquet:
    def test_rows_are_as_in_the_file(self, tmp_path):
        source = parquet(tmp_path / "cohort.parquet", row_group_size=5)
        source.check()
        rows = list(source.rows())
        assert [row.row for row in rows] == list(range(len(ROWS)))
        for row, given in zip(rows, ROWS, strict=True):
            assert {name: getattr(row, name) for name in given} == given
        assert isinstance(source, Source)

    def test_a_folder_is_read_in_the_order_of_names(self, tmp_path):
        parquet(tmp_path / "data" / "b.parquet", ROWS[5:])
        parquet(tmp_path / "data" / "deep" / "z.parquet", ROWS[:2])
        parquet(tmp_path / "data" / "a.parquet", ROWS[:5])
        source = open_source(ParquetSource(kind="parquet", path=str(tmp_path / "data")))
        source.check()
        ids = [row.image_id for row in source.rows()]
        assert ids == [row["image_id"] for row in [*ROWS[:5], *ROWS[5:], *ROWS[:2]]]

    def test_reads_by_uri(self, tmp_path):
        parquet(tmp_path / "cohort.parquet")
        source = open_source(ParquetSource(kind="parquet", path=f"file://{tmp_path}/cohort.parquet"))
        source.check()
        assert len(list(source.rows())) == len(ROWS)

    def test_integer_ids_and_joined_labels(self, tmp_path):
        rows = [{"image": png(i), "patient_id": i, "labels": "Mass|Edema"} for i in range(3)]
        read = list(parquet(tmp_path / "c.parquet", rows).rows())
        assert [row.patient_id for row in read] == ["0", "1", "2"]
        assert read[0].labels == ["Mass", "Edema"]

    def test_hugging_face_struct(self, tmp_path):
        (tmp_path / "pictures").mkdir()
        (tmp_path / "pictures" / "a.png").write_bytes(png(1))
        images = [
            {"bytes": png(0), "path": "somewhere.png"},
            {"bytes": None, "path": "pictures/a.png"},
            {"bytes": None, "path": "pictures/none.png"},
            {"bytes": None, "path": "../../etc/passwd"},
            {"bytes": None, "path": "/etc/passwd"},
            {"bytes": None, "path": None},
            None,
        ]
        rows = [{"image": image, "patient_id": "p", "sex": "F"} for image in images]
        source = parquet(tmp_path / "c.parquet", rows)
        source.check()
        read = list(source.rows())
        assert [row.image for row in read] == [png(0), png(1), *[None] * 5]
        problems = [row.problem and row.problem[0] for row in read]
        assert problems == [None, None, "missing_image", "path_outside", "path_outside", None, None]

    def test_files_named_by_path_are_part_of_the_fingerprint(self, tmp_path):
        (tmp_path / "a.png").write_bytes(png(1))
        source = parquet(
            tmp_path / "c.parquet", [{"image": {"bytes": None, "path": "a.png"}, "patient_id": "p", "sex": "F"}]
        )
        before = source.fingerprint()
        (tmp_path / "a.png").write_bytes(png(2))
        assert source.fingerprint() != before

    @pytest.mark.parametrize(
        ("rows", "message"),
        [
            (without(ROWS, "patient_id", subject_id="s"), "no column `patient_id`.*columns are"),
            (without(ROWS, "image", img=b"x"), r"no column `image` \(perhaps `img`\)"),
            (without(ROWS, "labels", "view", "sex", "age"), "at least one of the columns"),
            (without(ROWS, patient_id=1.5), "`patient_id` is double and should be string or integer"),
            (without(ROWS, image="path.png"), "`image` is string and should be binary"),
            (without(ROWS, role="holdout"), "`role` holds 'holdout'"),
            ([], "no column `image` and `patient_id`"),
        ],
    )
    def test_wrong_columns_are_one_readable_line(self, tmp_path, rows, message):
        with pytest.raises(InputError, match=message) as caught:
            parquet(tmp_path / "c.parquet", rows).check()
        assert "\n" not in str(caught.value)
        assert "c.parquet" in str(caught.value)

    def test_wrong_files_are_one_readable_line(self, tmp_path):
        def check(path):
            open_source(ParquetSource(kind="parquet", path=str(path))).check()

        with pytest.raises(InputError, match=r"no such file.*source\.path"):
            check(tmp_path / "nothing.parquet")
        with pytest.raises(InputError, match=r"no \.parquet file"):
            check(tmp_path)
        (tmp_path / "text.parquet").write_text("not parquet")
        with pytest.raises(InputError, match="can't be read"):
            check(tmp_path / "text.parquet")
        pq.write_table(pa.Table.from_pylist(ROWS).slice(0, 0), tmp_path / "empty.parquet")
        with pytest.raises(InputError, match="no rows"):
            check(tmp_path / "empty.parquet")
        with pytest.raises(InputError):
            open_source(ParquetSource(kind="parquet", path="nowhere9://bucket/x")).check()

    def test_a_damaged_page_is_an_input_error(self, tmp_path):
        path = tmp_path / "c.parquet"
        parquet(path, compression="none")
        content = bytearray(path.read_bytes())
        content[4:400] = bytes(396)
        path.write_bytes(content)
        source = open_source(ParquetSource(kind="parquet", path=str(path)))
        with pytest.raises(InputError, match="can't be read"):
            list(source.rows())

    @pytest.mark.parametrize(
        ("column", "values", "expected"),
        [
            ("role", ["train", "probe", "calibration", "evaluation"], ["train", "probe", "calibration", "evaluation"]),
            ("split", ["train", "calibration", None], ["train", "calibration", None]),
            ("split", ["train", "test"], [None, None]),
            ("split", ["train", "train"], [None, None]),
            ("split", [None, None], [None, None]),
        ],
    )
    def test_roles_are_read_where_they_are_roles(self, tmp_path, column, values, expected):
        rows = [{"image": png(i), "patient_id": str(i), "sex": "F", column: value} for i, value in enumerate(values)]
        source = parquet(tmp_path / "c.parquet", rows)
        source.check()
        assert [row.role for row in source.rows()] == expected

    def test_fingerprint_is_of_the_content_and_not_of_the_place(self, tmp_path):
        one, other = parquet(tmp_path / "one.parquet"), parquet(tmp_path / "other" / "two.parquet")
        assert one.fingerprint() == other.fingerprint()
        assert parquet(tmp_path / "one.parquet", ROWS[::-1]).fingerprint() != other.fingerprint()


class TestImageFolder:
    @pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl", "metadata.parquet"])
    def test_every_table_gives_the_same_rows(self, tmp_path, name):
        source = folder(tmp_path, pictured(), name)
        source.check()
        read = list(source.rows())
        assert [row.image for row in read] == [png(i) for i in range(4)]
        assert [row.patient_id for row in read] == ["000", "001", "002", "003"]
        assert all(row.labels == ["Mass", "Edema"] for row in read)
        assert [row.age for row in read] == [40, 41, 42, 43]

    def test_bad_paths_are_problems_of_their_rows(self, tmp_path):
        outside = tmp_path / "secret.png"
        outside.write_bytes(png(9))
        names = ["../secret.png", str(outside), "a/../../secret.png", "C:\\x.png", "..\\x.png", "gone.png", "", "."]
        rows = [{"file_name": name, "patient_id": "p", "sex": "F"} for name in names]
        read = list(folder(tmp_path / "data", rows, "metadata.jsonl").rows())
        assert all(row.image is None for row in read)
        problems = [row.problem and row.problem[0] for row in read]
        assert problems == [*["path_outside"] * 5, "missing_image", None, "missing_image"]

    def test_csv_with_quotes_newlines_and_a_byte_order_mark(self, tmp_path):
        (tmp_path / "0.png").write_bytes(png(0))
        content = '\ufefffile_name,patient_id,text\n0.png,007,"small, ""left""\neffusion"\n'
        (tmp_path / "metadata.csv").write_text(content, encoding="utf-8")
        source = open_source(ImageFolderSource(kind="image_folder", path=str(tmp_path)))
        source.check()
        (row,) = source.rows()
        assert row.patient_id == "007"
        assert row.text == 'small, "left"\neffusion'

    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("metadata.csv", b"filename,patient_id,sex\n1,2,3\n", r"no column `file_name` \(perhaps `filename`\)"),
            ("metadata.csv", b"file_name,patient_id,sex\n", "no rows"),
            ("metadata.csv", b"file_name,patient_id,sex\n1,'2,3\n\"4,5,6\n", "line 3 can't be read as CSV"),
            ("metadata.csv", b"", "the table is empty"),
            ("metadata.csv", "file_name,patient_id,sex\n1,2,3\n".encode("utf-16"), "isn't UTF-8 text"),
            ("metadata.jsonl", b'{"file_name": "a"\n', "line 1 isn't JSON"),
            ("metadata.jsonl", b"[1]\n", "line 1 isn't a JSON object"),
            ("metadata.jsonl", b"", "no column `file_name`"),
            ("metadata.parquet", b"PAR1", "can't be read"),
        ],
    )
    def test_wrong_tables_are_one_readable_line(self, tmp_path, name, content, message):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=message) as caught:
            open_source(ImageFolderSource(kind="image_folder", path=str(tmp_path))).check()
        assert "\n" not in str(caught.value)

    def test_lines_that_cannot_be_read_are_problems_of_their_rows(self, tmp_path):
        (tmp_path / "0.png").write_bytes(png(0))
        lines = [b"file_name,patient_id,sex", b"0.png,1", b"0.png,\xff\xfe,3", b"", b"0.png,1,2,3", b"0.png,1,F"]
        (tmp_path / "metadata.csv").write_bytes(b"\r\n".join(lines))
        source = open_source(ImageFolderSource(kind="image_folder", path=str(tmp_path)))
        source.check()
        problems = [row.problem for row in source.rows()]
        assert problems == [
            ("bad_field", "2 cells, the table has 3 columns"),
            ("bad_field", "a cell that isn't utf-8 text"),
            ("bad_field", "4 cells, the table has 3 columns"),
            None,
        ]

    def test_exactly_one_table(self, tmp_path):
        source = open_source(ImageFolderSource(kind="image_folder", path=str(tmp_path)))
        with pytest.raises(InputError, match=r"none of metadata\.csv"):
            source.check()
        folder(tmp_path, pictured(), "metadata.csv")
        folder(tmp_path, pictured(), "metadata.jsonl")
        with pytest.raises(InputError, match="exactly one"):
            source.check()
        with pytest.raises(InputError, match="no such folder"):
            open_source(ImageFolderSource(kind="image_folder", path=str(tmp_path / "no"))).check()

    def test_fingerprint_follows_the_content(self, tmp_path):
        one = folder(tmp_path / "one", pictured())
        shutil.copytree(tmp_path / "one", tmp_path / "two")
        two = open_source(ImageFolderSource(kind="image_folder", path=str(tmp_path / "two")))
        assert one.fingerprint() == two.fingerprint()
        (tmp_path / "two" / "3.png").write_bytes(png(99))
        assert one.fingerprint() != two.fingerprint()


class TestPhantom:
    CONFIG = PhantomSource(kind="phantom", num_patients=40, max_visits=3, resolution=16, seed=5)

    def test_rows_are_the_cohort_in_order(self):
        source = open_source(self.CONFIG)
        source.check()
        rows = list(source.rows())
        assert [row.row for row in rows] == list(range(len(rows)))
        assert len({row.patient_id for row in rows}) == 40
        assert len({row.image_id for row in rows}) == len(rows) > 40
        assert all(row.image.shape == (16, 16) and row.image.dtype == np.uint8 for row in rows)
        again = list(open_source(self.CONFIG).rows())
        assert all(np.array_equal(a.image, b.image) and a.labels == b.labels for a, b in zip(rows, again, strict=True))

    def test_a_larger_cohort_extends_a_smaller_one(self):
        larger = {row.image_id: row for row in open_source(self.CONFIG.model_copy(update={"num_patients": 60})).rows()}
        for row in open_source(self.CONFIG).rows():
            np.testing.assert_array_equal(larger[row.image_id].image, row.image)


class Reader:
    def __init__(self, count):
        self.count = count

    def check(self):
        return None

    def rows(self):
        return (RawRow(row=i) for i in range(self.count))

    def fingerprint(self):
        return {"count": self.count}


class TestCustom:
    @pytest.fixture(autouse=True)
    def _module(self, monkeypatch):
        module = types.ModuleType("somebodys_reader")
        module.Reader, module.nothing = Reader, dict
        monkeypatch.setitem(sys.modules, "somebodys_reader", module)

    def test_is_called_with_its_options(self):
        source = open_source(CustomSource(kind="custom", factory="somebodys_reader:Reader", options={"count": 3}))
        assert len(list(source.rows())) == 3

    @pytest.mark.parametrize(
        ("factory", "options", "message"),
        [
            ("somebodys_reader", {}, "package.module:Class"),
            ("no_such_module_9:Reader", {}, "can't import"),
            ("somebodys_reader:Gone", {}, "can't import"),
            ("somebodys_reader:Reader", {"size": 3}, "doesn't take"),
            ("somebodys_reader:nothing", {}, "isn't a Source"),
        ],
    )
    def test_wrong_readers_are_errors_of_the_configuration(self, factory, options, message):
        with pytest.raises(ConfigError, match=message):
            open_source(CustomSource(kind="custom", factory=factory, options=options))


def test_nobody_waits_for_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    read = read_file(RawRow(0), "a.png", Store.open(str(tmp_path)))
    assert read.problem == ("missing_image", "is a pipe, not a file")
