"""Folders of images with a table beside them."""

from collections.abc import Iterator
from typing import Any

from raydistill.core.errors import InputError
from raydistill.core.sources import METADATA
from raydistill.core.store import Store, readable
from raydistill.data.rows import RawRow
from raydistill.data.sources.files import digest_below
from raydistill.data.sources.parts import Parts, parts_of_files
from raydistill.data.sources.tables import LINES, Line, check_table, roles_in


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
        check_table(self.store, self._name())
        self._roles()

    def rows(self) -> Iterator[RawRow]:
        """Yield the rows of the table with the bytes of their files."""
        return self.parts().rows()

    def parts(self) -> Parts:
        """Return the rows of the table; the files are what is slow."""
        roles = self._roles()
        named = ((line.raw(line.values, roles), line.values.get("file_name")) for line in self._lines())
        return parts_of_files(named, self.store)

    def fingerprint(self) -> dict[str, Any]:
        """Digest every file in the folder."""
        return {"kind": "image_folder", **digest_below(self.store)}

    def _name(self) -> str:
        with readable(self.store.uri):
            if not self.store.exists():
                raise InputError(f"{self.store.uri}: no such folder; set source.path to the cohort's images")
            found = [name for name in METADATA if self.store.exists(name)]
        if len(found) != 1:
            had = " and ".join(found) or f"none of {', '.join(METADATA)}"
            raise InputError(f"{self.store.uri}: {had} in this folder; exactly one table must describe the images")
        return found[0]

    def _lines(self) -> Iterator[Line]:
        name = self._name()
        return LINES[name.rpartition(".")[2]](self.store, name)

    def _roles(self) -> str | None:
        return roles_in(self._lines(), (self.store / self._name()).uri)
