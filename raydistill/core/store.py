"""Files behind a URI: a local folder, `s3://`, `gs://` or any fsspec address, through one small class.

A `Store` is a folder. It pickles, so Ray workers get it as it is. What is written appears whole or not at all:
local files are renamed into place, and an object store shows an object only when its upload is complete.
"""

import hashlib
import io
import json
import os
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from pyarrow import fs

from raydistill.core.errors import InputError
from raydistill.core.manifest import FileEntry
from raydistill.core.scratch import new_folder, temporary_folder

CHUNK_BYTES = 1 << 20
PARTIAL = ".partial"
"""How the name of a file ends that isn't written to its end."""

ATTEMPTS = 6
"""Of a request to S3, further apart each time (AWS's standard mode): up to half a minute until it is given up."""

PATIENCE = timedelta(seconds=30)
"""With a request to Google's storage, as without credentials too; an address may say another, `retry_limit_seconds`."""


@dataclass(frozen=True)
class Store:
    """A folder on some file system.

    Args:
        filesystem: a pyarrow file system.
        path: the folder on it, without a trailing slash.
        uri: the address to show and to record, without credentials.
    """

    filesystem: fs.FileSystem = field(repr=False, compare=False)
    path: str
    uri: str

    @classmethod
    def open(cls, uri: str) -> "Store":
        """Open a folder by URI or local path; the folder need not exist.

        Args:
            uri: a local path, `file://`, `s3://`, `gs://`, or an address that fsspec knows. Credentials come from
                the environment or the instance's role, never from here.

        Raises:
            InputError: when the scheme isn't known, the address can't be read as one, or holds a password.
        """
        if "://" not in uri:
            local = str(Path(uri).expanduser().resolve())
            return cls(fs.LocalFileSystem(), local, local)
        _refuse_password(uri)
        try:
            filesystem, path = fs.FileSystem.from_uri(uri)
        except (pa.ArrowInvalid, ValueError) as first:
            filesystem, path = _open_with_fsspec(uri, first)
        except OSError as error:
            raise InputError(f"can't open {uri}: {' '.join(str(error).split())}") from error
        return cls(_patient(filesystem), path.rstrip("/"), uri.split("?")[0].rstrip("/"))

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Unpickle; a file system's patience isn't pickled with it."""
        self.__dict__.update(state | {"filesystem": _patient(state["filesystem"])})

    @property
    def is_local(self) -> bool:
        """Whether this is a plain folder of this machine."""
        return isinstance(self.filesystem, fs.LocalFileSystem)

    def __truediv__(self, name: str) -> "Store":
        """Return the folder (or file address) `name` below this one."""
        return Store(self.filesystem, f"{self.path}/{name}", f"{self.uri}/{name}") if name else self

    def is_file(self, name: str = "") -> bool:
        """Whether there is a file at that place."""
        return bool(self._info(name).type == fs.FileType.File)

    def exists(self, name: str = "") -> bool:
        """Whether a file or folder is there."""
        return bool(self._info(name).type != fs.FileType.NotFound)

    def size(self, name: str) -> int:
        """Return the bytes of a file.

        Raises:
            FileNotFoundError: when there is no such file.
        """
        info = self._info(name)
        if info.type != fs.FileType.File:
            raise FileNotFoundError(f"no file {(self / name).uri}")
        return int(info.size)

    def read_bytes(self, name: str) -> bytes:
        """Read a whole file.

        Raises:
            FileNotFoundError: when there is no such file.
        """
        with self.filesystem.open_input_file(self._at(name)) as stream:
            return bytes(stream.read())

    def read_start(self, name: str, count: int) -> bytes:
        """Read the first bytes of a file; all of one that is shorter."""
        with self.filesystem.open_input_file(self._at(name)) as stream:
            return bytes(stream.read(count))

    def write_bytes(self, name: str, content: bytes | pa.Buffer) -> None:
        """Write a whole file so that it appears complete or not at all."""
        target = self._at(name)
        if not self.is_local:
            with self.filesystem.open_output_stream(target) as stream:
                stream.write(content)
            return
        os.makedirs(os.path.dirname(target), exist_ok=True)
        unfinished = f"{target}.{uuid.uuid4().hex[:8]}{PARTIAL}"
        with open(unfinished, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, target)

    def read_json(self, name: str) -> Any:
        """Read a JSON file."""
        return json.loads(self.read_bytes(name))

    def write_json(self, name: str, value: object) -> None:
        """Write a JSON file, indented for people; NaN is refused."""
        text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        self.write_bytes(name, text.encode())

    def write_table(self, name: str, table: pa.Table, rows_per_group: int | None = None) -> None:
        """Write one Parquet file, in row groups of so many rows where that is said."""
        buffer = io.BytesIO()
        pq.write_table(table, buffer, compression="zstd", row_group_size=rows_per_group)
        self.write_bytes(name, buffer.getvalue())

    def write_tables(self, name: str, tables: Iterable[pa.Table]) -> None:
        """Write one Parquet file, a row group a table, with no more than one of them in memory."""
        rest = iter(tables)
        first = next(rest)
        with temporary_folder() as folder:
            local = Path(folder) / "joined.parquet"
            with pq.ParquetWriter(local, first.schema, compression="zstd") as writer:
                for table in chain([first], rest):
                    writer.write_table(table, row_group_size=max(1, len(table)))
            # One write: an interrupted upload of several would be closed, and look complete.
            with pa.memory_map(str(local)) as file:
                self.write_bytes(name, file.read_buffer())

    def row_groups(self, name: str) -> list[int]:
        """Rows of each row group of a Parquet file, read from its footer."""
        with self.filesystem.open_input_file(self._at(name)) as stream:
            about = pq.ParquetFile(stream).metadata
        return [about.row_group(number).num_rows for number in range(about.num_row_groups)]

    def read_row_group(self, name: str, number: int, columns: list[str] | None = None) -> pa.Table:
        """Read one row group of a Parquet file; the first of a file without any has no rows."""
        with self.filesystem.open_input_file(self._at(name)) as stream:
            file = pq.ParquetFile(stream)
            if not file.num_row_groups:
                return self.read_table(name, columns)
            return file.read_row_group(number, columns=columns).replace_schema_metadata(None)

    def read_table(self, name: str = "", columns: list[str] | None = None) -> pa.Table:
        """Read one Parquet file, or every one below a folder in the order of their names.

        Args:
            name: a `.parquet` file or a folder.
            columns: only these.

        Raises:
            FileNotFoundError: when there is no Parquet file at that place.
        """
        names = [name] if name.endswith(".parquet") else [f"{name}/{n}" if name else n for n in self.shards(name)]
        if not names:
            raise FileNotFoundError(f"no Parquet file in {(self / name).uri}")
        paths = [self._at(n) for n in names]
        table = ds.dataset(paths, filesystem=self.filesystem, format="parquet").to_table(columns=columns)
        return table.replace_schema_metadata(None)

    def shards(self, name: str = "") -> list[str]:
        """Names of the Parquet files directly in a folder, sorted."""
        return [n for n in self.files(name) if n.endswith(".parquet") and "/" not in n]

    def files(self, name: str = "", *, with_partial: bool = False) -> list[str]:
        """Paths, relative to `name`, of every complete file below it, sorted; empty when it isn't there.

        Args:
            name: a folder.
            with_partial: list what interrupted writes left too.
        """
        base = self._at(name)
        selector = fs.FileSelector(base, recursive=True, allow_not_found=True)
        infos = self.filesystem.get_file_info(selector)
        found = (i.path[len(base) + 1 :] for i in infos if i.type == fs.FileType.File)
        return sorted(path for path in found if with_partial or not path.endswith(PARTIAL))

    def siblings(self) -> list[str]:
        """Names of the folders beside this one, itself among them even before anything is in it, sorted."""
        above, _, own = self.path.rpartition("/")
        infos = self.filesystem.get_file_info(fs.FileSelector(above, allow_not_found=True))
        return sorted({own} | {info.base_name for info in infos if info.type == fs.FileType.Directory})

    def delete(self, name: str = "") -> None:
        """Delete a file, or a folder with all it holds; nothing happens when it isn't there."""
        kind = self._info(name).type
        if kind == fs.FileType.File:
            self.filesystem.delete_file(self._at(name))
        elif kind == fs.FileType.Directory:
            # At Google a folder is nothing by itself, and pyarrow misses it once its files are gone.
            is_google = self.filesystem.type_name == "gcs"
            delete = self.filesystem.delete_dir_contents if is_google else self.filesystem.delete_dir
            delete(self._at(name))

    def make(self) -> None:
        """Make the folder where file systems have folders; object stores need none."""
        if self.is_local:
            os.makedirs(self.path, exist_ok=True)

    def column_names(self, name: str) -> list[str]:
        """Columns of one Parquet file, read from its footer."""
        return list(ds.dataset(self._at(name), filesystem=self.filesystem, format="parquet").schema.names)

    def delete_partial(self) -> None:
        """Delete what interrupted writes of a killed process left below this folder."""
        if self.is_local:
            for file in Path(self.path).rglob(f"*{PARTIAL}"):
                file.unlink()

    def keep_local(self, name: str = "") -> Path:
        """Return a local folder with the files of `name` that lives as long as the process."""
        if self.is_local:
            return Path(self._at(name))
        folder = new_folder()
        self.download(folder, name)
        return folder

    def upload(self, folder: str | Path, name: str = "") -> None:
        """Copy a local folder's files to `name`, each appearing whole."""
        root = Path(folder)
        for file in sorted(p for p in root.rglob("*") if p.is_file()):
            self.write_bytes(f"{name}/{file.relative_to(root)}".lstrip("/"), file.read_bytes())

    def download(self, folder: str | Path, name: str = "") -> None:
        """Copy every file below `name` into a local folder."""
        for path in self.files(name):
            target = Path(folder) / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(self.read_bytes(f"{name}/{path}".lstrip("/")))

    def fingerprint(self) -> list[FileEntry]:
        """Hash every file below this folder, the manifest excepted."""
        return [self.entry(path) for path in self.files() if path != "manifest.json"]

    def entry(self, path: str) -> FileEntry:
        """Hash a file, with no more than a part of it in memory."""
        digest, size = hashlib.sha256(), 0
        with self.filesystem.open_input_stream(self._at(path), compression=None) as stream:
            while chunk := stream.read(CHUNK_BYTES):
                digest.update(chunk)
                size += len(chunk)
        return FileEntry(path=path, size=size, sha256=digest.hexdigest())

    def _at(self, name: str) -> str:
        return f"{self.path}/{name}" if name else self.path

    def _info(self, name: str) -> fs.FileInfo:
        return self.filesystem.get_file_info(self._at(name))


def _patient(filesystem: fs.FileSystem) -> fs.FileSystem:
    """Return a file system that tries again when a store is busy: S3's gives up early, Google's in a quarter hour."""
    if filesystem.type_name not in ("s3", "gcs"):
        return filesystem
    _, (settings,) = filesystem.__reduce__()
    if filesystem.type_name == "s3":
        return fs.S3FileSystem(**settings, retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS))
    limit = settings.pop("retry_time_limit") or PATIENCE
    return fs.GcsFileSystem(**{name: value for name, value in settings.items() if value}, retry_time_limit=limit)


def holds_password(uri: str) -> bool:
    """Whether an address names who asks, and with which password: `scheme://KEY:SECRET@host`."""
    return ":" in _authority(uri)[0]


def _authority(uri: str) -> tuple[str, str]:
    """Return who asks, and the host, of an address; who is empty where it isn't said."""
    who, _, host = uri.partition("://")[2].split("/")[0].rpartition("@")
    return who, host


def _refuse_password(uri: str) -> None:
    """Refuse `s3://KEY:SECRET@bucket`, which pyarrow takes: configurations, manifests and logs hold addresses."""
    if holds_password(uri):
        raise InputError(
            f"{uri.partition('://')[0]}://…@{_authority(uri)[1]} holds a secret, and addresses are written into "
            "configurations and logs: leave it out; credentials come from the environment or the instance's role"
        )


def _open_with_fsspec(uri: str, first: Exception) -> tuple[fs.FileSystem, str]:
    import fsspec

    try:
        filesystem, path = fsspec.core.url_to_fs(uri)
    except (ImportError, ValueError) as error:
        raise InputError(f"can't open {uri}: {error} ({first})") from error
    return fs.PyFileSystem(fs.FSSpecHandler(filesystem)), path


@contextmanager
def readable(where: str) -> Iterator[None]:
    """Turn what pyarrow and the file system raise into one line that names the place.

    Raises:
        InputError: in their stead.
    """
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        # A time-out of fsspec's says nothing.
        said = str(error).splitlines() or [type(error).__name__]
        raise InputError(f"{where}: can't be read: {said[0]}") from error
