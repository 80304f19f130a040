"""Cohorts in Parquet files."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs, types

from raydistill.core.errors import InputError
from raydistill.core.store import Store, readable
from raydistill.data.rows import RawRow, parse_row
from raydistill.data.schema import KNOWN, check_columns, check_types, choose_role_column
from raydistill.data.sources.files import digest, escapes, with_image

BATCH_ROWS = 64


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
                        yield with_image(parse_row(row, values, role_column), values["image"], folder)
                        row += 1

    def fingerprint(self) -> dict[str, Any]:
        """Digest the files, and those that an image struct names by path."""
        files = [self._at(name) for name in self._files()]
        beside = [path for name in self._files() for path in self._paths_beside(name)]
        return {"kind": "parquet", **digest(self.store, [*files, *beside])}

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
        return choose_role_column(values, self.store.uri)

    def _paths_beside(self, name: str) -> list[str]:
        folder = self._folder(name)
        with readable(self._where(name)), self._open(name) as file:
            kind = file.schema_arrow.field("image").type if "image" in file.schema_arrow.names else pa.null()
            if not types.is_struct(kind) or kind.get_field_index("path") < 0:
                return []
            paths = file.read(columns=["image.path"])["image"].combine_chunks().field("path").to_pylist()
        full = [f"{folder.path}/{path}" for path in paths if path and not escapes(path)]
        infos = self.store.filesystem.get_file_info(full)
        return [info.path for info in infos if info.type == fs.FileType.File]
