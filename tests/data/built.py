"""One and the same cohort as a source of every kind."""

import csv
import gzip
import io
import json
from functools import cache

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raydistill.core.loading import validate
from raydistill.data.images import encode_png

from . import archives
from .test_shards import shard

SIDE = 24

NO_FILE, A_FOLDER = object(), object()


@cache
def picture(number):
    """Return a picture with structure, of which a copy is told from another picture."""
    blocks = np.random.default_rng(number).integers(40, 215, (6, 6))
    return encode_png(np.kron(blocks, np.ones((SIDE // 6, SIDE // 6))).astype(np.uint8))


def cohort(**damage):
    """Good rows of ten patients, one of them damaged: what is None isn't there."""
    rows = []
    more = dict.fromkeys(damage.keys() - {"image", "file_name", "marks", "cell"})
    for number in range(12):
        patient = 10000010 + number % 10
        fields = {"labels": ["Mass"] if number % 2 else ["No Finding"], "view": "PA", "sex": "F", "age": 40 + number}
        rows.append(
            more | {"image": picture(number), "patient_id": str(patient), "image_id": f"i{number:03d}", **fields}
        )
    rows[5].update(damage)
    return rows


def said(rows):
    """Rows as a table has them, with names of files in place of pictures."""
    named = [{"file_name": f"i{number:03d}.png"} | row for number, row in enumerate(rows)]
    return [{name: value for name, value in row.items() if name != "image"} for row in named]


def put_images(folder, rows, name=lambda number, row: f"i{number:03d}.png"):
    for number, row in enumerate(rows):
        path = folder / name(number, row)
        path.unlink(missing_ok=True)
        if row["image"] is A_FOLDER:
            path.mkdir(parents=True)
        elif row["image"] is not NO_FILE:
            archives.put(path, row["image"])


def in_cells(rows):
    header = list(rows[0])
    cells = [
        ["|".join(v) if isinstance(v, list) else "" if v is None else v for v in map(row.get, header)] for row in rows
    ]
    text = io.StringIO()
    csv.writer(text).writerows([header, *cells])
    return text.getvalue().encode(errors="surrogatepass")


def folder_of(table):
    """Return the builder of an image folder with such a table."""

    def build(folder, rows):
        put_images(folder, rows)
        lines = said(rows)
        if table == "csv":
            archives.put(folder / "metadata.csv", in_cells(lines))
        elif table == "jsonl":
            archives.put(folder / "metadata.jsonl", "\n".join(map(json.dumps, lines)).encode())
        else:
            pq.write_table(pa.Table.from_pylist(lines), folder / "metadata.parquet")
        return {"kind": "image_folder", "path": str(folder)}

    return build


def parquet(folder, rows):
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), folder / "c.parquet")
    return {"kind": "parquet", "path": str(folder)}


def own_table(folder, rows):
    put_images(folder, rows)
    names = {"file_name": "Path", "patient_id": "MRN", "labels": "Findings"}
    lines = [{names.get(name, name): value for name, value in line.items()} for line in said(rows)]
    archives.put(folder / "index.csv", in_cells(lines))
    return {"kind": "csv", "path": str(folder / "index.csv"), "columns": names}


def nih(folder, rows):
    lines = [
        (f"{row['image_id']}.png", "|".join(row["labels"]), 0, row["patient_id"], row["age"], row["sex"], row["view"])
        for row in rows
    ]
    archives.nih(folder, lines)
    put_images(folder, rows, lambda number, row: f"images_{1 + number % 12:03d}/images/{row['image_id']}.png")
    table = folder / "Data_Entry_2017.csv"
    content = table.read_text()
    for row in rows:
        content = content.replace(f"{row['image_id']}.png", row.get("file_name", f"{row['image_id']}.png"))
    archives.put(table, content.encode())
    return {"kind": "nih_cxr14", "path": str(folder)}


def chexpert(folder, rows):
    def place(number, row):
        return f"train/patient{row['patient_id']}/study{number}/view1_frontal.jpg"

    fields = [
        (place(i, row), "Female", row["age"], "Frontal", row["view"], {"No Finding": "1.0", **row.get("marks", {})})
        for i, row in enumerate(rows)
    ]
    archives.chexpert(folder, fields)
    put_images(folder, rows, place)
    table = folder / "train.csv"
    content = table.read_text()
    for number, row in enumerate(rows):
        content = content.replace(place(number, row), row.get("file_name", place(number, row)))
    table.write_text(content)
    return {"kind": "chexpert", "path": str(folder)}


def mimic(folder, rows):
    def study(number):
        return 50000000 + number

    lines = [(row["image_id"], row["patient_id"], study(i), row["view"], 21800506) for i, row in enumerate(rows)]
    marks = {study(i): {"No Finding": "1.0", **row.get("marks", {})} for i, row in enumerate(rows)}
    archives.mimic(folder, lines, marks)
    put_images(
        folder, rows,
        lambda i, row: f"files/p{str(row['patient_id'])[:2]}/p{row['patient_id']}/s{study(i)}/{row['image_id']}.jpg",
    )  # fmt: skip
    return {"kind": "mimic_cxr_jpg", "path": str(folder)}


def padchest(folder, rows):
    lines = [
        {
            "ImageID": f"{row['image_id']}.png", "PatientID": row["patient_id"], "Projection": row["view"],
            "Labels": row.get("cell", "['normal']"), "ImageDir": "0",
        }
        for row in rows
    ]  # fmt: skip
    archives.padchest(folder, lines)
    put_images(folder, rows, lambda number, row: f"0/{row['image_id']}.png")
    (table,) = folder.glob("PADCHEST*")
    content = gzip.decompress(table.read_bytes()).decode()
    for row in rows:
        content = content.replace(f"{row['image_id']}.png", row.get("file_name", f"{row['image_id']}.png"))
    archives.put(table, gzip.compress(content.encode()))
    return {"kind": "padchest", "path": str(folder)}


def saved_to_disk(folder, rows):
    values = {name: [row.get(name) for row in rows] for name in rows[0]}
    values["image"] = [{"bytes": content, "path": None} for content in values["image"]]
    plain = datasets.Dataset.from_dict({name: column for name, column in values.items() if name != "image"})
    features = datasets.Features({**plain.features, "image": datasets.Image()})
    datasets.Dataset.from_dict(values, features=features).save_to_disk(str(folder))
    return {"kind": "datasets", "path": str(folder)}


def webdataset(folder, rows):
    files = []
    for number, row in enumerate(rows):
        fields = {name: value for name, value in row.items() if name != "image"}
        files += [(f"{number:03d}.png", row["image"])] if row["image"] is not NO_FILE else []
        files.append((f"{number:03d}.json", json.dumps(fields).encode()))
    shard(folder / "a.tar", files)
    return {"kind": "webdataset", "path": str(folder)}


TABLES = {"folder_csv": folder_of("csv"), "folder_jsonl": folder_of("jsonl"), "folder_parquet": folder_of("parquet")}
FILES = {
    **TABLES,
    "csv": own_table,
    "nih_cxr14": nih,
    "chexpert": chexpert,
    "mimic_cxr_jpg": mimic,
    "padchest": padchest,
}
INSIDE = {"parquet": parquet, "datasets": saved_to_disk, "webdataset": webdataset}
BUILDERS = FILES | INSIDE
WITH_FIELDS = {**TABLES, "csv": own_table, **INSIDE}
"""Those whose rows have raydistill's own fields."""
NESTING = {name: WITH_FIELDS[name] for name in ("folder_jsonl", "webdataset")}
"""Those in which a value can be of any type."""
BY_PATH = {**TABLES, "csv": own_table, "nih_cxr14": nih, "padchest": padchest}
"""Those whose tables name files by path."""


def source_section(section):
    return validate({"source": section}).source
