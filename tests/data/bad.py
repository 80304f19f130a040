"""Bad data of every kind in sources of every kind: what must come of a cohort with one such row in it."""

import gzip
import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image
from pydicom.encaps import encapsulate

from raydistill.core.columns import ROLES
from raydistill.data.images import decode, encode_png

from . import archives
from .built import A_FOLDER, BUILDERS, BY_PATH, FILES, NESTING, NO_FILE, WITH_FIELDS, cohort, picture
from .dicoms import dicom, ramp, shipped, written

KEPT = "kept"
MAX_PIXELS = 100_000


def saved(form, mode="L", pixels=None, **options):
    """Encode the damaged row's picture in another way."""
    image = Image.fromarray(decode(picture(99)) if pixels is None else pixels)
    buffer = io.BytesIO()
    (image if pixels is not None else image.convert(mode)).save(buffer, form, **options)
    return buffer.getvalue()


def animated(form):
    frames = [Image.fromarray(decode(picture(n))) for n in (97, 98, 99)]
    buffer = io.BytesIO()
    frames[0].save(buffer, form, save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def bomb(width, height):
    """Make a PNG that says it is so large, of a few bytes."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


def flipped(content, place):
    return content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :]


GOOD = picture(99)
DEEP = (decode(GOOD).astype(np.uint16) << 8) + 7
IMAGES = {
    "zero_bytes": (b"", "undecodable"),
    "truncated": (GOOD[: len(GOOD) // 2], "undecodable"),
    "without_its_end": (GOOD[:-30], "undecodable"),
    "signature_alone": (GOOD[:8], "undecodable"),
    "broken_header": (flipped(GOOD, 20), "undecodable"),
    "text": (b"patient moved, no image", "undecodable"),
    "page_of_a_proxy": (b"<html><body>403 Forbidden</body></html>", "undecodable"),
    "noise": (np.random.default_rng(0).bytes(500), "undecodable"),
    "pdf": (b"%PDF-1.7\n1 0 obj\n", "undecodable"),
    "zip": (b"PK\x03\x04" + bytes(60), "undecodable"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "undecodable"),
    "pointer_of_git_lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "undecodable"),
    "gif": (saved("GIF"), "undecodable"),
    "animated_png": (animated("PNG"), "undecodable"),
    "animated_webp": (animated("WEBP"), "undecodable"),
    "several_pages": (animated("TIFF"), "undecodable"),
    "not_a_number": (saved("TIFF", pixels=np.full((9, 9), np.nan, np.float32)), "undecodable"),
    "truncated_jpeg": (saved("JPEG")[:-200], "undecodable"),
    "decompression_bomb": (bomb(60_000, 60_000), "too_large"),
    "larger_than_allowed": (bomb(400, 400), "too_large"),
    "lies_about_its_size": (bomb(300, 300), "undecodable"),
    "wrong_extension": (saved("JPEG", quality=95), KEPT),
    "sixteen_bits": (saved("PNG", pixels=DEEP), KEPT),
    "cmyk": (saved("JPEG", "CMYK", quality=95), KEPT),
    "palette": (saved("PNG", "P"), KEPT),
    "transparent": (saved("PNG", "RGBA"), KEPT),
    "one_bit": (saved("PNG", "1"), KEPT),
    "one_pixel": (saved("PNG", pixels=np.full((1, 1), 5, np.uint8)), KEPT),
    "bytes_behind_its_end": (GOOD + b"<?php system($_GET['c']); ?>", KEPT),
}
"""A picture's bytes, and what must come of them."""

HOSTILE = {
    "html": "<script>alert(1)</script>", "bidi": "mass \u202egnp.exe", "emoji": "\U0001f480\u200d\U0001f4a9 mass",
    "combining": "Z\u0351\u0352a\u0350lgo", "sql": "'; DROP TABLE patients; --", "newlines": "mass\r\n\r\nedema",
    "template": "{{ 7*7 }} ${HOME} %s", "long": "mass " * 20_000, "quotes": '"mass", "edema"',
}  # fmt: skip


@dataclass
class Case:
    """A cohort and what must come of it.

    Args:
        kind: of the source.
        name: of the damage.
        build: fills a folder and returns the source's section.
        outcome: `KEPT`, a reason of the quarantine, or what the refusal says.
        rows: how many rows there are; of those `bad` don't become records.
    """

    kind: str
    name: str
    build: Callable[[Path], dict]
    outcome: str
    refused: bool = False
    rows: int = 0
    bad: int = 1

    def __str__(self):
        return f"{self.kind}-{self.name}"


def with_row(kind, name, outcome, *, more=(), bad=1, **damage):
    """Return the case of a cohort with such a row, and perhaps further ones."""
    rows = [*cohort(**damage), *more]
    return Case(kind, name, lambda folder: BUILDERS[kind](folder, rows), outcome, rows=len(rows), bad=bad)


def images():
    for kind in BUILDERS:
        for name, (content, outcome) in IMAGES.items():
            yield with_row(kind, name, outcome, image=content)
    for kind in FILES:
        yield with_row(kind, "missing_file", "missing_image", image=NO_FILE)
        yield with_row(kind, "folder_for_a_file", "missing_image", image=A_FOLDER)
    yield with_row("webdataset", "missing_file", "missing_image", image=NO_FILE)


OF_EVERY_FIELD = {
    "no_patient": ("missing_patient", {"patient_id": ""}),
    "blank_patient": ("missing_patient", {"patient_id": "  "}),
    "negative_age": ("bad_field", {"age": -1}),
    "age_of_a_tree": ("bad_field", {"age": 900}),
    "age_that_is_no_number": (KEPT, {"age": float("nan")}),
    "id_of_another": ("duplicate_id", {"image_id": "i002"}),
    **{f"{name}_in_labels": (KEPT, {"labels": [text]}) for name, text in HOSTILE.items()},
    **{f"{name}_in_text": (KEPT, {"text": text}) for name, text in HOSTILE.items()},
}
OF_TEXT = {
    "age_in_words": ("bad_field", {"age": "old"}),
    "infinite_age": ("bad_field", {"age": "inf"}),
    "index_in_words": ("bad_field", {"study_index": "first"}),
    "huge_index": ("bad_field", {"study_index": "1e300"}),
}
OF_ANY_TYPE = {
    **{
        f"patient_is_{name}": ("bad_field", {"patient_id": value})
        for name, value in {"a_list": ["a", ["b"]], "an_object": {"id": 1}, "true": True, "a_fraction": 1.5}.items()
    },
    "nested_labels": ("bad_field", {"labels": [["Mass"], ["Edema"]]}),
    "numbers_for_labels": ("bad_field", {"labels": [1, 2]}),
    "an_object_for_labels": ("bad_field", {"labels": {"Mass": 0, "Edema": 1}}),
    "half_a_character_in_an_id": ("bad_field", {"patient_id": "\ud800"}),
    "half_a_character_in_a_label": ("bad_field", {"labels": ["\udfff"]}),
    "number_beyond_all": ("bad_field", {"age": 10**400}),
    "nothing_said": ("empty_text", dict.fromkeys(("labels", "view", "sex", "age"))),
}
OF_ARCHIVES = {
    "padchest": {
        **{
            f"labels_{name}": ("bad_field", {"cell": cell})
            for name, cell in {
                "one_word": "normal", "a_string": "'normal'", "an_object": "{'a': 1}", "code": "__import__('os')",
                "open": "['a'", "numbers": "[1]",
            }.items()
        },
        "excluded": ("left_out", {"cell": "['exclude']"}),
    },
    "mimic_cxr_jpg": {f"mark_{mark}": ("bad_field", {"marks": {"Edema": mark}}) for mark in ("nan", "0.5", "yes")},
    "chexpert": {
        **{f"mark_{mark}": ("bad_field", {"marks": {"Edema": mark}}) for mark in ("2", "yes", "1.5")},
        "age_of_a_tree": ("bad_field", {"age": 900}),
    },
    "nih_cxr14": {"age_of_the_first_version": ("bad_field", {"age": 414}), "no_patient": ("missing_patient", {"patient_id": ""})},
}  # fmt: skip


def fields():
    of_kind = [(kind, OF_EVERY_FIELD) for kind in WITH_FIELDS]
    of_kind += [(kind, OF_TEXT) for kind in ("folder_csv", "folder_jsonl", "csv", "webdataset")]
    of_kind += [(kind, OF_ANY_TYPE) for kind in NESTING]
    for kind, damages in [*of_kind, *OF_ARCHIVES.items()]:
        for name, (outcome, damage) in damages.items():
            yield with_row(kind, name, outcome, **damage)
    for kind in ("csv", "webdataset", "datasets"):
        yield with_row(kind, "role_that_is_none", "bad_field", role="holdout")


def patients():
    for kind in BUILDERS:
        twin = {**cohort()[0], "image": picture(5), "patient_id": "10000099", "image_id": "i900"}
        yield with_row(kind, "one_picture_of_two_patients", "duplicate_image", more=[twin], bad=2)
        darker = encode_png((decode(picture(5)) * 0.9).astype(np.uint8))
        yield with_row(kind, "nearly_one_picture_of_two_patients", "near_duplicate", more=[twin | {"image": darker}])
        same = twin | {"patient_id": cohort()[5]["patient_id"]}
        yield with_row(kind, "one_picture_twice", "duplicate_image", more=[same])
    for kind, builder in WITH_FIELDS.items():
        rows = [row | {"role": ROLES[0] if i < 6 else ROLES[2 + i % 2]} for i, row in enumerate(cohort())]
        rows[10]["role"], rows[0]["role"] = "evaluation", "train"
        yield Case(
            kind, "a_patient_in_two_splits", lambda f, b=builder, r=rows: b(f, r), "in two of train, calibration", True
        )


def paths():
    escapes = {"above": "../../etc/passwd", "absolute": "/etc/passwd", "through": "a/../../secret.png", "drive": "C:\\x.png",
               "backslashes": "..\\secret.png", "share": "\\\\host\\share\\x.png"}  # fmt: skip
    for kind in BY_PATH:
        for name, path in escapes.items():
            expected = "path_outside|missing_image" if kind == "padchest" else "path_outside"
            yield with_row(kind, f"path_{name}", expected, file_name=path)
        yield with_row(kind, "path_too_long", "missing_image", file_name="x" * 5000)
    for name, path in escapes.items():
        yield with_row("chexpert", f"path_{name}", "bad_field", file_name=path)
    yield with_row("folder_jsonl", "path_of_half_a_character", "path_outside", file_name="\ud800.png")
    yield with_row("folder_jsonl", "path_with_a_nul", "path_outside", file_name="a\0b.png")


def edited(kind, name, outcome, edit, refused=True, **counts):
    """Return the case of a good cohort whose files were changed afterwards."""

    def build(folder):
        section = BUILDERS[kind](folder, cohort())
        edit(folder)
        return section

    return Case(kind, name, build, outcome, refused, **counts)


def on_table(pattern, change):
    """Change the content of the one file that is called so."""

    def edit(folder):
        (path,) = folder.rglob(pattern)
        packed = path.suffix == ".gz"
        content = gzip.decompress(path.read_bytes()) if packed else path.read_bytes()
        changed = change(content)
        path.write_bytes(gzip.compress(changed) if packed else changed)

    return edit


CSVS = {
    "folder_csv": "metadata.csv", "csv": "index.csv", "nih_cxr14": "Data_Entry*", "chexpert": "train.csv",
    "mimic_cxr_jpg": "*metadata.csv.gz", "padchest": "PADCHEST*",
}  # fmt: skip


def tables():
    for kind, pattern in CSVS.items():
        line = {"rows": 13, "bad": 1}
        yield edited(
            kind, "short_line", "bad_field", on_table(pattern, lambda c: c.rstrip() + b"\n1,2\n"), False, **line
        )
        yield edited(
            kind,
            "long_line",
            "bad_field",
            on_table(pattern, lambda c: c.rstrip() + b"\n" + b",".join([b"9"] * 80)),
            False,
            **line,
        )
        yield edited(kind, "line_in_latin1", "bad_field", on_table(pattern, _with_latin1), False, rows=13)
        yield edited(kind, "open_quote", "can't be read as CSV", on_table(pattern, lambda c: c.rstrip() + b'\n1,"2\n'))
        yield edited(kind, "empty_file", "the table is empty", on_table(pattern, lambda c: b""))
        yield edited(kind, "header_alone", "no rows", on_table(pattern, lambda c: c.splitlines()[0] + b"\n"))
        yield edited(kind, "utf_16", "isn't UTF-8 text", on_table(pattern, lambda c: c.decode().encode("utf-16")))
        yield edited(
            kind,
            "missing_column",
            "no column|names",
            on_table(pattern, lambda c: b"a" + c[3:])
            if kind != "padchest"
            else on_table(pattern, lambda c: c.replace(b"ImageID", b"Image")),
        )
        yield edited(kind, "blank_lines", KEPT, on_table(pattern, lambda c: c.replace(b"\n", b"\n\n")), False, rows=12)
        yield edited(kind, "byte_order_mark", KEPT, on_table(pattern, lambda c: b"\xef\xbb\xbf" + c), False, rows=12)
    for kind, pattern in {"mimic_cxr_jpg": "*metadata.csv.gz", "padchest": "PADCHEST*"}.items():

        def cut(folder, pattern=pattern):
            (path,) = folder.rglob(pattern)
            path.write_bytes(path.read_bytes()[:-40])

        yield edited(kind, "truncated_gzip", "can't be read", cut)
    for kind, pattern, message in (
        ("folder_jsonl", "metadata.jsonl", "isn't JSON|can't be read"), ("folder_parquet", "metadata.parquet", "can't be read"),
        ("parquet", "c.parquet", "can't be read"), ("datasets", "*.arrow", "broken"), ("webdataset", "a.tar", "isn't a whole tar"),
    ):  # fmt: skip
        yield edited(kind, "table_truncated", message, on_table(pattern, lambda c: c[: len(c) // 2 - 9]))
        yield edited(kind, "table_of_noise", message, on_table(pattern, lambda c: np.random.default_rng(1).bytes(900)))
    for kind, pattern in (("folder_parquet", "metadata.parquet"), ("parquet", "c.parquet"), ("datasets", "*.arrow")):
        yield edited(kind, "table_of_zero_bytes", "can't be read|broken", on_table(pattern, lambda c: b""))
    yield edited("webdataset", "table_of_zero_bytes", "isn't a whole tar", on_table("a.tar", lambda c: b""))
    yield edited("folder_jsonl", "table_of_zero_bytes", "no column", on_table("metadata.jsonl", lambda c: b""))
    for kind, name, value, message in (
        ("parquet", "nested_ids", [["a"]], "`patient_id` is list"), ("parquet", "fractions_for_ids", 1.5, "`patient_id` is double"),
        ("datasets", "fractions_for_ids", 1.5, "`patient_id` is double"), ("folder_parquet", "bytes_for_ids", b"2020", "`patient_id` is"),
    ):  # fmt: skip
        rows = [row | {"patient_id": value} for row in cohort()]
        yield Case(kind, name, lambda f, k=kind, r=rows: BUILDERS[k](f, r), message, True)
    for kind in ("parquet", "datasets", "folder_parquet", "folder_jsonl", "webdataset"):
        rows = [{k: v for k, v in row.items() if k != "patient_id"} for row in cohort()]
        yield Case(kind, "missing_column", lambda f, k=kind, r=rows: BUILDERS[k](f, r), "no column `patient_id`", True)


def _with_latin1(content):
    lines = content.rstrip().split(b"\n")
    return b"\n".join([*lines, lines[-1].rstrip(b"\r")[:-1] + "é".encode("latin-1")]) + b"\n"


def dicoms():
    pixels, good = ramp(255, np.uint8), dicom(ramp(4000), bits=12)
    no_pixels = _without(good, "PixelData")
    found = {
        "zero_bytes": (b"", "undecodable"), "text": (b"hello", "undecodable"), "png": (GOOD, "undecodable"),
        "preamble_alone": (good[:132], "left_out"), "cut_in_its_header": (good[:300], "left_out|undecodable|missing"),
        "cut_in_its_pixels": (good[:-100], "undecodable"), "noise": (np.random.default_rng(2).bytes(900), "undecodable"),
        "without_pixels": (no_pixels, "missing_image"), "without_rows": (_without(good, "Rows"), "undecodable"),
        "without_photometric": (_without(good, "PhotometricInterpretation"), "undecodable"),
        "without_bits": (_without(good, "BitsAllocated"), "undecodable"),
        "without_a_patient": (dicom(ramp(4001), PatientID=None), "missing_patient"),
        "blank_patient": (dicom(ramp(4002), PatientID="   "), "missing_patient"),
        "burned_in": (dicom(ramp(4003), BurnedInAnnotation="YES"), "burned_in"),
        "report": (dicom(ramp(4004), Modality="SR"), "left_out"), "computed_tomography": (dicom(ramp(4005), Modality="CT"), "left_out"),
        "frames": (dicom(np.stack([pixels, pixels.T])), "undecodable"),
        "bomb": (dicom(ramp(4006), Rows=65535, Columns=65535), "too_large"),
        "frames_without_end": (dicom(ramp(4007), NumberOfFrames=10**9), "undecodable"),
        "more_rows_than_pixels": (dicom(ramp(4008), Rows=400), "undecodable"), "no_rows": (dicom(ramp(4009), Rows=0), "undecodable"),
        "window_of_no_width": (dicom(ramp(4010), WindowCenter=1, WindowWidth=0), "undecodable"),
        "unknown_photometric": (dicom(ramp(4011), PhotometricInterpretation="MAGIC"), "undecodable"),
        "impossible_age": (dicom(ramp(4012), PatientAge="999Y"), "bad_field"),
        "age_in_words": (_raw(good, b"057Y", b"old "), "bad_field"),
        "born_after_the_study": (dicom(ramp(4013), PatientAge=None, PatientBirthDate="20300101", StudyDate="20200101"), "bad_field"),
        "noise_as_jpeg": (_with_pixels(dicom(pixels, "jpeg"), np.random.default_rng(3).bytes(200)), "undecodable"),
        "noise_as_jpeg2000": (_with_pixels(dicom(pixels, "jpeg2000"), np.random.default_rng(4).bytes(200)), "undecodable"),
        "noise_as_rle": (_with_pixels(dicom(pixels, "rle"), np.random.default_rng(5).bytes(200)), "undecodable"),
        "jpeg_cut": (_with_pixels(dicom(pixels, "jpeg"), b"\xff\xd8\xff"), "undecodable"),
        "nothing_said": (dicom(ramp(4014), PatientAge=None, PatientSex=None, ViewPosition=None), "empty_text"),
        "signed": (dicom(ramp(4015).astype(np.int16) - 2000), KEPT), "sixteen_bits": (dicom(ramp(60000)), KEPT),
        "monochrome1": (dicom(ramp(4016), PhotometricInterpretation="MONOCHROME1"), KEPT),
        "big_endian": (dicom(ramp(4017), "big"), KEPT), "deflated": (dicom(ramp(4018), "deflated"), KEPT),
        "jpeg_ls": (shipped("MR_small_jpeg_ls_lossless.dcm", PatientSex="F"), KEPT),
        "colour": (dicom(np.dstack([pixels] * 3)), KEPT),
    }  # fmt: skip
    for name, (content, outcome) in found.items():
        yield Case("dicom", name, lambda folder, content=content: dicom_folder(folder, content), outcome, rows=7)
    uid = {"SOPInstanceUID": "1.2.3.4"}
    twins = {
        "instance_twice": ([dicom(ramp(51), **uid), dicom(ramp(52).T, **uid)], "duplicate_id", 1),
        "one_picture_of_two_patients": ([dicom(_blocks(51)), dicom(_blocks(51), PatientID="p9")], "duplicate_image", 2),
        "nearly_one_picture_of_two": ([dicom(_blocks(51)), dicom(_blocks(51) + _blocks(51) // 20, PatientID="p9")], "near_duplicate", 1),
    }  # fmt: skip
    for name, (contents, outcome, bad) in twins.items():
        yield Case("dicom", name, lambda folder, both=contents: dicom_folder(folder, *both), outcome, rows=8, bad=bad)
    yield Case(
        "dicom",
        "no_dicom_at_all",
        lambda f: (archives.put(f / "a.txt", b"x"), {"kind": "dicom", "path": str(f)})[1],
        "no DICOM file",
        True,
    )
    yield Case(
        "dicom", "empty_folder", lambda f: (f.mkdir(), {"kind": "dicom", "path": str(f)})[1], "no DICOM file", True
    )


def _blocks(number):
    return decode(picture(number)).astype(np.uint16) * 16


def dicom_folder(folder, *damaged):
    for number in range(6):
        archives.put(folder / f"{number}.dcm", dicom(_blocks(number), bits=12, PatientID=f"p{number}"))
    for number, content in enumerate(damaged):
        archives.put(folder / f"z{number}.dcm", content)
    return {"kind": "dicom", "path": str(folder)}


def _read(content):
    return pydicom.dcmread(io.BytesIO(content))


def _without(content, name):
    dataset = _read(content)
    delattr(dataset, name)
    return written(dataset)


def _with_pixels(content, encoded):
    dataset = _read(content)
    dataset.PixelData = encapsulate([encoded])
    return written(dataset)


def _raw(content, old, new):
    assert old in content
    return content.replace(old, new)


CASES = [*images(), *fields(), *patients(), *paths(), *tables(), *dicoms()]
