"""Public archives as their downloads lie on disk: tables whose lines name image files."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from raydistill.core.errors import InputError
from raydistill.core.store import Store
from raydistill.data.rows import RawRow, Unusable
from raydistill.data.sources.files import digest_below, names_in
from raydistill.data.sources.parts import Parts, parts_of_files
from raydistill.data.sources.tables import Line, csv_columns, csv_lines


class TableArchive(ABC):
    """What the readers of such archives have in common.

    Args:
        path: the folder that the download was unpacked to.
    """

    kind: ClassVar[str]
    needed: ClassVar[Sequence[str]]
    """Columns without which a table isn't this archive's."""

    def __init__(self, path: str) -> None:
        """Take the address; nothing is read."""
        self.store = Store.open(path)

    @abstractmethod
    def tables(self) -> list[str]:
        """Return the names of the tables of images, at least one.

        Raises:
            InputError: when there is none.
        """

    @abstractmethod
    def describe(self, values: Mapping[str, str]) -> dict[str, Any]:
        """Return a line's values by raydistill's columns, and `file_name`: a path below the archive's folder.

        Raises:
            Unusable: when it can't be read.
        """

    def check(self) -> None:
        """Read the tables' headers.

        Raises:
            InputError: no such folder, no table, or columns that are missing.
        """
        for name in self.tables():
            require_columns(self.store, name, self.needed, self.kind)
        if not any(next(csv_lines(self.store, name), None) for name in self.tables()):
            raise InputError(f"{self.store.uri}: the tables of this archive have no rows")

    def rows(self) -> Iterator[RawRow]:
        """Yield the tables' lines, each with the bytes of its file."""
        return self.parts().rows()

    def parts(self) -> Parts:
        """Return the tables' lines; the files are what is slow."""
        return parts_of_files(self.named(), self.store)

    def named(self) -> Iterator[tuple[RawRow, str | None]]:
        """Yield the tables' lines, and what their files are called."""
        return (self._row(line) for name in self.tables() for line in csv_lines(self.store, name))

    def fingerprint(self) -> dict[str, Any]:
        """Digest every file in the folder."""
        return {"kind": self.kind, **digest_below(self.store)}

    def _row(self, line: Line) -> tuple[RawRow, str | None]:
        if line.problem:
            return RawRow(0, problem=line.problem), None
        try:
            values = self.describe(line.values)
        except Unusable as error:
            return RawRow(0, problem=(error.reason, error.detail)), None
        return line.raw(values), values["file_name"]


def named_like(store: Store, start: str, ends: Sequence[str], what: str) -> list[str]:
    """Return the files directly in a folder whose names begin and end so, sorted.

    Raises:
        InputError: when there is no such folder, or no such file; `what` says of which archive they would be.
    """
    found = [name for name in names_in(store) if name.startswith(start) and name.endswith(tuple(ends))]
    if not found:
        raise InputError(f"{store.uri}: no {start}*{ends[0]} in this folder, as {what} has one")
    return found


def require_columns(store: Store, name: str, needed: Sequence[str], what: str) -> None:
    """Refuse a table that lacks columns.

    Raises:
        InputError: naming them, and those that are there.
    """
    present = csv_columns(store, name)
    if missing := [column for column in needed if column not in present]:
        raise InputError(
            f"{(store / name).uri}: no column {', '.join(missing)}, as {what} has it; the columns are "
            f"{', '.join(present)[:300]}"
        )


def labelled(values: Mapping[str, str], findings: Sequence[str], uncertain: str) -> list[str] | None:
    """Read the findings of a line with one column each, as the CheXpert labeler writes them.

    Args:
        values: 1 for there, 0 for not there, -1 for uncertain, nothing where the report says nothing.
        findings: the columns; `No Finding` among them.
        uncertain: `negative` or `positive`, what an uncertain finding counts as; with `unknown` nothing is known of the
            image's findings where one is uncertain.

    Returns:
        What is there; None where the report says nothing of any finding, or nothing is known.

    Raises:
        Unusable: when a cell holds something else.

    Source: Irvin et al., CheXpert, arXiv 1901.07031, section 3; the policies U-Zeros and U-Ones there, section 4.1.
    """
    found = {name: _mark(name, values.get(name) or "") for name in findings}
    said = {mark for mark in found.values() if mark is not None}
    if not said or (uncertain == "unknown" and -1 in said):
        return None
    there = {1, -1} if uncertain == "positive" else {1}
    return [name for name, mark in found.items() if mark in there]


def _mark(name: str, cell: str) -> int | None:
    if not cell.strip():
        return None
    try:
        return {1.0: 1, 0.0: 0, -1.0: -1}[float(cell)]
    except (ValueError, KeyError):
        raise Unusable("bad_field", f"{name} is {cell[:60]!r}, not 1, 0, -1 or empty") from None
