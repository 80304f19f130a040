"""Tables as they lie in files, line by line: CSV, plain or compressed, JSON lines, Parquet.

A line that can't be read as one of its table is handed on with the problem; where nobody can say where lines begin and
end, as behind a quotation mark that isn't closed, the table is refused.
"""

import codecs
import csv
import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import pyarrow.parquet as pq

from raydistill.core.errors import InputError
from raydistill.core.store import Store, readable
from raydistill.data.rows import RawRow, is_text, parse_row
from raydistill.data.schema import check_columns, check_types, choose_role_column

BATCH_ROWS = 256


class Line(NamedTuple):
    """One line of a table: its cells by column, or a reason and a detail why there are none."""

    values: Mapping[str, Any]
    problem: tuple[str, str] | None = None

    def raw(self, values: Mapping[str, Any], roles: str | None = None) -> RawRow:
        """Make the source's row of it, without an image and numbered 0: `Parts` numbers rows.

        Args:
            values: by raydistill's columns.
            roles: the column that holds roles, if there is one.
        """
        return RawRow(row=0, problem=self.problem) if self.problem else parse_row(0, values, roles)


def csv_lines(store: Store, name: str, delimiter: str = ",", encoding: str = "utf-8") -> Iterator[Line]:
    """Yield the lines of a CSV file below its header, every cell as text: a guessed type would turn `007` into 7.

    Args:
        store: the folder.
        name: the file; `.gz`, `.bz2` and such are decompressed.
        delimiter: between cells.
        encoding: of the text; a byte order mark is passed over.

    Raises:
        InputError: when it can't be read, or a quotation mark isn't closed.
    """
    where = (store / name).uri
    with _csv_reader(store, name, delimiter, encoding) as reader:
        header = _header(reader, where)
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(header):
                yield Line({}, ("bad_field", f"{len(cells)} cells, the table has {len(header)} columns"))
            elif not all(map(is_text, cells)):
                yield Line({}, ("bad_field", f"a cell that isn't {encoding} text"))
            else:
                yield Line(dict(zip(header, cells, strict=True)))


def whole_lines(store: Store, name: str) -> Iterator[Mapping[str, str]]:
    """Yield the lines of a CSV file of which none may be broken: what it says belongs to rows of another.

    Raises:
        InputError: when one is, or it can't be read.
    """
    for number, line in enumerate(csv_lines(store, name), start=1):
        if line.problem:
            raise InputError(f"{(store / name).uri}: line {number} below the header: {line.problem[1]}; mend it")
        yield line.values


def csv_columns(store: Store, name: str, delimiter: str = ",", encoding: str = "utf-8") -> list[str]:
    """Return the header of a CSV file; arguments and errors as those of `csv_lines`."""
    with _csv_reader(store, name, delimiter, encoding) as reader:
        return _header(reader, (store / name).uri)


def json_lines(store: Store, name: str) -> Iterator[Line]:
    """Yield the objects of a file of JSON lines.

    Raises:
        InputError: when it can't be read, or a line isn't a JSON object.
    """
    where = (store / name).uri
    with readable(where), _text(store, name, "utf-8-sig", "strict") as text:
        for number, line in enumerate(text, start=1):
            if line.strip():
                yield Line(_json_object(line, f"{where}: line {number}"))


def parquet_lines(store: Store, name: str) -> Iterator[Line]:
    """Yield the rows of a Parquet file, a few at a time."""
    with readable((store / name).uri), store.filesystem.open_input_file(f"{store.path}/{name}") as stream:
        for batch in pq.ParquetFile(stream).iter_batches(BATCH_ROWS):
            yield from (Line(values) for values in batch.to_pylist())


LINES = {"csv": csv_lines, "jsonl": json_lines, "parquet": parquet_lines}


def check_table(store: Store, name: str) -> None:
    """Refuse a table of images that lacks columns, has them of wrong types, or has no rows.

    Raises:
        InputError: naming the table, the column, and what to do.
    """
    where = (store / name).uri
    ending = name.rpartition(".")[2]
    with readable(where):
        if ending == "parquet":
            with store.filesystem.open_input_file(f"{store.path}/{name}") as stream:
                schema = pq.ParquetFile(stream).schema_arrow
            check_columns(schema.names, "file_name", where)
            check_types(schema, where)
        elif ending == "csv":
            check_columns(csv_columns(store, name), "file_name", where)
        else:
            keys = dict.fromkeys(key for line in json_lines(store, name) for key in line.values)
            check_columns(keys, "file_name", where)
    if next(LINES[ending](store, name), None) is None:
        raise InputError(f"{where}: the table has no rows")


def roles_in(lines: Iterator[Line], where: str) -> str | None:
    """Return the column of a table that holds roles, if there is one."""
    values: dict[str, set[str | None]] = {}
    for line in lines:
        for name in {"role", "split"} & line.values.keys():
            values.setdefault(name, set()).add(str(found) if (found := line.values[name]) else None)
    return choose_role_column(values, where)


@contextmanager
def _csv_reader(store: Store, name: str, delimiter: str, encoding: str) -> Iterator[Any]:
    where = (store / name).uri
    with readable(where), _text(store, name, encoding, "surrogateescape") as text:
        reader = csv.reader(text, delimiter=delimiter, strict=True)
        try:
            yield reader
        except csv.Error as error:
            raise InputError(f"{where}: line {reader.line_num} can't be read as CSV: {error}") from error
        except UnicodeError as error:
            said = f"can't be read as {encoding} text: {error}; source.encoding says in which one the table was saved"
            raise InputError(f"{where}: {said}") from error


@contextmanager
def _text(store: Store, name: str, encoding: str, errors: str) -> Iterator[io.TextIOWrapper]:
    at = f"{store.path}/{name}" if name else store.path
    try:
        encoding = "utf-8-sig" if codecs.lookup(encoding).name == "utf-8" else encoding
        with store.filesystem.open_input_stream(at) as stream:
            yield io.TextIOWrapper(stream, encoding=encoding, errors=errors, newline="")
    except LookupError:
        raise InputError(f"source.encoding {encoding!r} isn't one that Python knows") from None


def _header(reader: Iterator[list[str]], where: str) -> list[str]:
    header = next(reader, None)
    if header and header[0].lower().startswith("sep="):
        # What Excel puts above a table for itself.
        header = next(reader, None)
    if not header:
        raise InputError(f"{where}: the table is empty: its first line must name the columns")
    if not all(map(is_text, header)):
        raise InputError(f"{where}: its first line isn't UTF-8 text; save the table as UTF-8")
    return [name.strip() for name in header]


def _json_object(line: str, where: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} isn't JSON: {error}") from error
    if not isinstance(value, dict):
        raise InputError(f"{where} isn't a JSON object; write one object a line")
    return value
