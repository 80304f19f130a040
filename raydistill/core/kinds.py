"""What kind of archive lies at a local path, by names and first bytes; and where nothing tells, why."""

import os
from collections.abc import Iterable, Iterator
from fnmatch import fnmatch
from itertools import islice
from pathlib import Path

from raydistill.core.errors import InputError
from raydistill.core.sources import METADATA
from raydistill.core.store import readable

CHEXPERT_HEADER = "Path,Sex,Age,Frontal/Lateral,AP/PA,"

DICOM_HEADER = 132
"""Bytes of a preamble and the magic. Source: DICOM PS3.10, 7.1."""

LOOKED_AT = 1000
"""Files of a folder of which one must be DICOM, if it is to be taken for one of DICOM: exports bring their viewer."""

IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
LEVELS = 3
"""Below a folder that is no archive, where one is looked for, and in this many folders at most:"""
FOLDERS_LOOKED_AT = 1000
FILES_COUNTED = 100_000

NAME_IT = "name the kind, such as --set source.kind=dicom (docs/data.md)"


def kind_of(path: str) -> str | None:
    """Return the kind of what lies at a local path, by its name and the names in it; None where nothing tells.

    Args:
        path: of a file or a folder; `~` and environment variables stand for what they are.

    Raises:
        InputError: when it may not be looked at.
    """
    place = _place(path)
    with readable(path):
        if path and place.is_dir():
            return _kind_of_folder(place) or ("dicom" if _is_dicom(place) else None)
    return _kind_of_file(place)


def is_dicom(content: bytes) -> bool:
    """Whether bytes are a DICOM file, or its first DICOM_HEADER bytes."""
    return content[:DICOM_HEADER].endswith(b"DICM") and len(content) >= DICOM_HEADER


def refuse_unknown(path: str) -> None:
    """Refuse a place of which nothing tells what it is.

    Raises:
        InputError: saying what is there instead, and what to do.
    """
    if kind_of(path) is None:
        with readable(path):
            raise InputError(f"{path}: {_what_is_there(path)}" if path else "the path of the cohort is empty")


def _what_is_there(path: str) -> str:
    place = _place(path)
    if "://" in path:
        return f"behind a URI nothing is looked at: {NAME_IT}"
    if not place.exists():
        return "no such file or folder"
    if not place.is_dir():
        if _has_magic(place):
            return "is one DICOM file: name the folder that it lies in"
        return f"a file that ends with none of {', '.join(FILES)}: {NAME_IT}"
    if tables := sorted(entry.name for entry in place.iterdir() if _kind_of_file(entry) == "csv"):
        return f"a folder with a table: name the table itself, such as {place / tables[0]}"
    names = [file.name for file in islice(_files_below(place), FILES_COUNTED)]
    if not names:
        return "the folder is empty"
    for folder, kind in _archives_below(place):
        return f"nothing in this folder itself says what it is, but {folder} looks like {kind}: name that one"
    count = f"{len(names)}{' or more' if len(names) == FILES_COUNTED else ''} file{'s' if len(names) > 1 else ''}"
    if all(name.lower().endswith(IMAGE_ENDINGS) for name in names):
        return f"holds {count} that are images and no table that describes them: see docs/howto/csv.md"
    return f"holds {count}, such as {names[0]}, and nothing says what they are: {NAME_IT}"


def _place(path: str) -> Path:
    return Path(os.path.expandvars(path)).expanduser()


def _archives_below(place: Path) -> Iterator[tuple[Path, str]]:
    """Yield folders that look like archives, and like which, the highest first."""
    level, looked_at = [place], 0
    for _ in range(LEVELS):
        level = sorted(folder for above in level for folder in above.iterdir() if folder.is_dir())
        level = level[: FOLDERS_LOOKED_AT - looked_at]
        looked_at += len(level)
        yield from ((folder, kind) for folder in level if (kind := _kind_of_folder(folder)))


def _kind_of_folder(folder: Path) -> str | None:
    names = sorted(entry.name for entry in os.scandir(folder))
    found = (kind for kind, patterns in FOLDERS.items() if any(_among(names, pattern) for pattern in patterns))
    return next(found, None) or ("chexpert" if _is_chexpert(folder) else None)


def _among(names: Iterable[str], pattern: str) -> bool:
    return any(fnmatch(name, pattern) for name in names)


def _kind_of_file(file: Path) -> str | None:
    return next((kind for ending, kind in FILES.items() if file.name.lower().endswith(ending)), None)


def _is_chexpert(folder: Path) -> bool:
    tables = [folder / name for name in ("train.csv", "valid.csv") if (folder / name).is_file()]
    return any(_first_bytes(table, len(CHEXPERT_HEADER)) == CHEXPERT_HEADER.encode() for table in tables)


def _is_dicom(folder: Path) -> bool:
    return any(map(_has_magic, islice(_files_below(folder), LOOKED_AT)))


def _has_magic(file: Path) -> bool:
    return is_dicom(_first_bytes(file, DICOM_HEADER))


def _files_below(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def _first_bytes(path: Path, count: int) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(count)
    except OSError:
        return b""


FILES = {".parquet": "parquet", ".csv": "csv", ".csv.gz": "csv", ".csv.bz2": "csv", ".tar": "webdataset"}
FOLDERS = {
    "image_folder": METADATA,
    "nih_cxr14": ("Data_Entry_2017*.csv",),
    "mimic_cxr_jpg": ("mimic-cxr-*-metadata.csv*",),
    "padchest": ("PADCHEST_*.csv*",),
    "datasets": ("state.json", "dataset_dict.json"),
    "webdataset": ("*.tar",),
    "parquet": ("*.parquet",),
    "dicom": ("DICOMDIR",),
}
