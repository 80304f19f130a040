"""Readers of cohorts that lie in files: Parquet, and image folders with a table beside them."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from pyarrow import fs, types

from raydistill.core.columns import ROLES
from raydistill.core.errors import InputError
from raydistill.core.loading import METADATA
from raydistill.core.manifest import FileEntry, digest_files
from raydistill.core.store import Store, readable
from raydistill.data.rows import DESCRIBING, OPTIONAL, RawRow, check_columns, check_types, parse_row

KNOWN = ("patient_id", *DESCRIBING, *OPTIONAL)
BATCH_ROWS = 64
HASHED_BYTES = 4 << 30
"""Local cohorts up to this size are fingerprinted by content; larger and remote ones by sizes and times of change."""


class ParquetReader:
    """A Parquet file, or every one below a folder in the order of their names."""

    def __init__(self, path: str) -> None:
        """Take the address; nothing is read."""
        self.store = Store.open(path)

    def check(self) -> None:
        """Read the footers, and the roles where there are some.

        Raises:
            InputError: no such file, not Parquet, or columns that are missing or of another type.
        """
        for name in self._files():
            where = self._where(name)
            with readable(where), self._open(name) as file:
                check_columns(file.schema_arrow.names, "image", where)
                check_types(file.schema_arrow, where)
                if not file.metadata.num_rows and len(self._files()) == 1:
                    raise InputError(f"{where}: the table has no rows")
        self._role_column()

    def rows(self) -> Iterator[RawRow]:
        """Yield the rows file by file, a few at a time."""
        role_column, row = self._role_column(), 0
        for name in self._files():
            folder = self._folder(name)
            with readable(self._where(name)), self._open(name) as file:
                columns = [column for column in file.schema_arrow.names if column in (*KNOWN, "image")]
                for batch in file.iter_batches(BATCH_ROWS, columns=columns):
                    for values in batch.to_pylist():
                        yield _with_image(parse_row(row, values, role_column), values["image"], folder)
                        row += 1

    def fingerprint(self) -> dict[str, Any]:
        """Digest the files, and those that an image struct names by path."""
        files = [self._at(name) for name in self._files()]
        beside = [path for name in self._files() for path in self._paths_beside(name)]
        return {"kind": "parquet", **_digest(self.store, [*files, *beside])}

    def _files(self) -> list[str]:
        """Names below the store; the empty name where the address is one file."""
        with readable(self.store.uri):
            if not self.store.exists():
                raise InputError(f"{self.store.uri}: no such file or folder; set source.path to the cohort's Parquet")
            names = [""] if self.store.is_file() else [n for n in self.store.files() if n.endswith(".parquet")]
        if not names:
            raise InputError(f"{self.store.uri}: no .parquet file in this folder")
        return names

    def _open(self, name: str) -> pq.ParquetFile:
        return pq.ParquetFile(self.store.filesystem.open_input_file(self._at(name)), pre_buffer=False)

    def _at(self, name: str) -> str:
        return f"{self.store.path}/{name}" if name else self.store.path

    def _where(self, name: str) -> str:
        return (self.store / name).uri

    def _folder(self, name: str) -> Store:
        """Return the folder the file lies in; paths of images are relative to it."""
        address = self.store / name
        return Store(address.filesystem, address.path.rpartition("/")[0], address.uri.rpartition("/")[0])

    def _role_column(self) -> str | None:
        """Return `role` if it is there, else `split` where its values are roles beyond `train`."""
        values: dict[str, set[str | None]] = {}
        for name in self._files():
            with readable(self._where(name)), self._open(name) as file:
                for column in {"role", "split"} & set(file.schema_arrow.names):
                    found = file.read(columns=[column])[column].unique().to_pylist()
                    values.setdefault(column, set()).update(found)
        return _role_column(values, self.store.uri)

    def _paths_beside(self, name: str) -> list[str]:
        folder = self._folder(name)
        with readable(self._where(name)), self._open(name) as file:
            kind = file.schema_arrow.field("image").type if "image" in file.schema_arrow.names else pa.null()
            if not types.is_struct(kind) or kind.get_field_index("path") < 0:
                return []
            paths = file.read(columns=["image.path"])["image"].combine_chunks().field("path").to_pylist()
        full = [f"{folder.path}/{path}" for path in paths if path and not _escapes(path)]
        infos = self.store.filesystem.get_file_info(full)
        return [info.path for info in infos if info.type == fs.FileType.File]


class ImageFolderReader:
    """A folder of image files with one of `metadata.csv`, `metadata.jsonl` or `metadata.parquet`."""

    def __init__(self, path: str) -> None:
        """Take the address; nothing is read."""
        self.store = Store.open(path)

    def check(self) -> None:
        """Read the table, not the images.

        Raises:
            InputError: no such folder, no table or several, or columns that are missing or of another type.
        """
        values = self._table()
        if not values:
            raise InputError(f"{self._where()}: the table has no rows")

    def rows(self) -> Iterator[RawRow]:
        """Yield the rows of the table with the bytes of their files, one file at a time."""
        table = self._table()
        role_column = self._role_column(table)
        for row, values in enumerate(table):
            raw = parse_row(row, values, role_column)
            yield _with_file(raw, values.get("file_name"), self.store)

    def fingerprint(self) -> dict[str, Any]:
        """Digest every file in the folder."""
        with readable(self.store.uri):
            files = [f"{self.store.path}/{name}" for name in self.store.files()]
        return {"kind": "image_folder", **_digest(self.store, files)}

    def _name(self) -> str:
        with readable(self.store.uri):
            if not self.store.exists():
                raise InputError(f"{self.store.uri}: no such folder; set source.path to the cohort's images")
            found = [name for name in METADATA if self.store.exists(name)]
        if len(found) != 1:
            had = " and ".join(found) or f"none of {', '.join(METADATA)}"
            raise InputError(f"{self.store.uri}: {had} in this folder; exactly one table must describe the images")
        return found[0]

    def _where(self) -> str:
        return (self.store / self._name()).uri

    def _table(self) -> list[dict[str, Any]]:
        name = self._name()
        read = {"csv": _read_csv, "jsonl": _read_jsonl, "parquet": _read_parquet}[name.rpartition(".")[2]]
        with readable(self._where()):
            table = read(self.store.read_bytes(name), self._where())
        self._role_column(table)
        return table

    def _role_column(self, table: list[dict[str, Any]]) -> str | None:
        columns = {name for name in ("role", "split") if any(name in values for values in table)}
        values = {name: {str(v) if (v := row.get(name)) else None for row in table} for name in columns}
        return _role_column(values, self._where())


def _read_csv(content: bytes, where: str) -> list[dict[str, Any]]:
    """Read every cell as text: a guessed type would turn the patient `007` into 7."""
    names = pa.csv.read_csv(pa.BufferReader(content.split(b"\n", 1)[0] + b"\n")).column_names
    check_columns(names, "file_name", where)
    kinds = {name: pa.string() for name in names}
    options = pa.csv.ConvertOptions(column_types=kinds, strings_can_be_null=True, null_values=[""])
    parsing = pa.csv.ParseOptions(newlines_in_values=True)
    return list(pa.csv.read_csv(pa.BufferReader(content), convert_options=options, parse_options=parsing).to_pylist())


def _read_jsonl(content: bytes, where: str) -> list[dict[str, Any]]:
    rows = []
    for number, line in enumerate(content.decode("utf-8-sig").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(f"{where}: line {number} isn't JSON: {error}") from error
        if not isinstance(value, dict):
            raise InputError(f"{where}: line {number} isn't a JSON object; write one object a line")
        rows.append(value)
    check_columns(dict.fromkeys(name for row in rows for name in row), "file_name", where)
    return rows


def _read_parquet(content: bytes, where: str) -> list[dict[str, Any]]:
    table = pq.read_table(pa.BufferReader(content))
    check_columns(table.column_names, "file_name", where)
    check_types(table.schema, where)
    return list(table.select([name for name in table.column_names if name in (*KNOWN, "file_name")]).to_pylist())


def _with_image(raw: RawRow, image: Any, folder: Store) -> RawRow:
    """Add the image of a Parquet row: bytes, or a struct of bytes and path."""
    if not isinstance(image, dict):
        return replace(raw, image=image)
    if image.get("bytes") is not None or image.get("path") is None:
        return replace(raw, image=image.get("bytes"))
    return _with_file(raw, image["path"], folder)


def _with_file(raw: RawRow, name: Any, folder: Store) -> RawRow:
    if raw.problem or not name:
        return raw
    if not isinstance(name, str) or _escapes(name):
        return replace(raw, problem=("path_outside", f"{name!r} isn't a path below the source's folder"))
    try:
        return replace(raw, image=folder.read_bytes(name))
    except OSError as error:
        return replace(raw, problem=("missing_image", f"{name}: {error.strerror or type(error).__name__}"))


def _escapes(name: str) -> bool:
    windows, posix = PureWindowsPath(name), PurePosixPath(name)
    rooted = posix.is_absolute() or windows.drive or windows.root
    return bool(rooted or ".." in windows.parts or "\0" in name)


def _role_column(values: Mapping[str, Iterable[str | None]], where: str) -> str | None:
    """Choose the column with roles. `split` is often a mere `train` or has other words; then it says nothing here."""
    unknown = sorted(set(values.get("role", ())) - {*ROLES, None, ""}, key=str)
    if unknown:
        shown = ", ".join(map(repr, unknown[:3]))
        raise InputError(f"{where}: column `role` holds {shown}; it may hold {', '.join(ROLES)}")
    if set(values.get("role", ())) - {None, ""}:
        return "role"
    split = set(values.get("split", ())) - {None, ""}
    return "split" if split <= set(ROLES) and split & {"calibration", "evaluation"} else None


def _digest(store: Store, files: list[str]) -> dict[str, Any]:
    """Digest files by their paths below a source's folder, so that a cohort may be moved."""
    with readable(store.uri):
        infos = store.filesystem.get_file_info(sorted(set(files)))
        total = sum(info.size for info in infos)
        by_content = store.is_local and total <= HASHED_BYTES
        entries = [
            FileEntry(
                path=info.path.removeprefix(store.path).lstrip("/"),
                size=info.size,
                sha256=_sha256(info.path) if by_content else f"changed {info.mtime_ns}",
            )
            for info in infos
        ]
    return {"files": len(entries), "bytes": total, "by_content": by_content, "digest": digest_files(entries)}


def _sha256(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
