"""A table of anybody's that names image files, DICOM among them."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from raydistill.core.errors import InputError
from raydistill.core.kinds import is_dicom
from raydistill.core.sources import CsvSource
from raydistill.core.store import Store, readable
from raydistill.data.dicom import read_instance, require_pydicom
from raydistill.data.rows import RawRow, Unusable, parse_row
from raydistill.data.schema import check_columns
from raydistill.data.sources.columns import by_our_names, called_by_us
from raydistill.data.sources.files import digest, digest_below, with_file
from raydistill.data.sources.parts import Parts
from raydistill.data.sources.tables import Line, csv_columns, csv_lines


class CsvReader:
    """A CSV file whose columns may be called anything, and a folder of images."""

    def __init__(self, config: CsvSource) -> None:
        """Take the addresses; nothing is read."""
        self.config = config
        self.table = Store.open(config.path)
        folder = Store(self.table.filesystem, *(at.rpartition("/")[0] for at in (self.table.path, self.table.uri)))
        self.folder, self.name = folder, self.table.path.rpartition("/")[2]
        self.images = Store.open(config.images) if config.images else folder

    def check(self) -> None:
        """Read the header, not the images.

        Raises:
            InputError: no such table or folder, or columns that are missing.
        """
        where = self.table.uri
        with readable(where):
            if not self.table.is_file():
                raise InputError(f"{where}: no such file; set source.path to the table of the images")
            if not self.images.exists():
                raise InputError(f"source.images {self.images.uri}: no such folder")
        header = csv_columns(self.folder, self.name, self.config.delimiter, self.config.encoding)
        if len(header) == 1 and (found := {";", "\t", ",", "|"} & set(header[0])):
            raise InputError(f"{where}: one column, {header[0][:100]!r}; perhaps source.delimiter is {found.pop()!r}")
        check_columns(called_by_us(header, self.config.columns, where), "file_name", where, RENAMING)
        if next(self._lines(), None) is None:
            raise InputError(f"{where}: the table has no rows")

    def rows(self) -> Iterator[RawRow]:
        """Yield the lines of the table with their images; of DICOM files also what only they say."""
        return self.parts().rows()

    def parts(self) -> Parts:
        """Return the lines of the table; the files are what is slow."""
        return Parts(self._lines(), self._row)

    def fingerprint(self) -> dict[str, Any]:
        """Digest the table, and every file in the folder of images."""
        table, images = digest(self.folder, [self.table.path]), digest_below(self.images)
        return {"kind": "csv", **images, "table": table["digest"]}

    def _lines(self) -> Iterator[Line]:
        return csv_lines(self.folder, self.name, self.config.delimiter, self.config.encoding)

    def _row(self, line: Line) -> list[RawRow]:
        values = by_our_names(line.values, self.config.columns)
        raw = with_file(line.raw(values, "role"), values.get("file_name"), self.images)
        if isinstance(raw.image, bytes) and is_dicom(raw.image):
            return [self._shown(raw, raw.image)]
        return [raw]

    def _shown(self, raw: RawRow, content: bytes) -> RawRow:
        require_pydicom()
        try:
            found = read_instance(content, self.config)
        except Unusable as error:
            return replace(raw, image=None, problem=(error.reason, error.detail))
        said = parse_row(raw.row, found.fields, None)
        own = {name: getattr(said, name) for name in found.fields if getattr(raw, name) is None}
        return replace(raw, image=found.frames[0], problem=said.problem, **own)


RENAMING = "name them in source.columns, such as {patient_id: MRN}, or add"
