"""What Hugging Face `datasets` saved to disk: Arrow files, and what their columns mean."""

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from raydistill.core.errors import InputError
from raydistill.core.sources import DatasetsSource
from raydistill.core.store import Store, readable
from raydistill.data.rows import RawRow, parse_row
from raydistill.data.schema import check_columns, check_types
from raydistill.data.sources.columns import by_our_names, called_by_us
from raydistill.data.sources.csv_table import RENAMING
from raydistill.data.sources.files import digest_below, with_image

BATCH_ROWS = 64
UNLABELLED = -1
"""The class of a row without one. Source: Hugging Face datasets, documentation of `ClassLabel`."""

EXTRA = "this needs Hugging Face's datasets: pip install 'raydistill[datasets]'"


class DatasetsReader:
    """One `Dataset`, or the splits of a `DatasetDict` in the order of their names, mapped from disk.

    What lies elsewhere is copied to this machine's disk first, once: only what is there can be mapped.
    """

    def __init__(self, config: DatasetsSource) -> None:
        """Take the address; nothing is read."""
        self.config = config
        self.store = Store.open(config.path)

    def check(self) -> None:
        """Read what the columns are, and no row.

        Raises:
            InputError: no such folder, none of `save_to_disk`, columns that are missing or of another type, or the
                package isn't installed.
        """
        parts = self._parts()
        for part in parts:
            names = called_by_us(part.column_names, self.config.columns, self.store.uri)
            check_columns(names, "image", self.store.uri, RENAMING)
            check_types(self._schema(part), self.store.uri)
        if not sum(map(len, parts)):
            raise InputError(f"{self.store.uri}: the data set has no rows")

    def rows(self) -> Iterator[RawRow]:
        """Yield split by split, a few rows at a time."""
        row = 0
        for part in self._parts():
            words = {name: found for name in part.column_names if (found := _words(part.features[name]))}
            with readable(self.store.uri):
                for batch in part.with_format("arrow").iter(BATCH_ROWS):
                    # What is mapped is taken as it is: a damaged offset would end the process.
                    batch.validate(full=True)
                    for values in batch.to_pylist():
                        yield self._row(row, {name: _said(values[name], words.get(name)) for name in values})
                        row += 1

    def fingerprint(self) -> dict[str, Any]:
        """Digest every file in the folder."""
        return {"kind": "datasets", **digest_below(self.store)}

    @cached_property
    def _here(self) -> Path:
        with readable(self.store.uri):
            return self.store.keep_local()

    def _row(self, row: int, values: Mapping[str, Any]) -> RawRow:
        ours = by_our_names(values, self.config.columns)
        return with_image(parse_row(row, ours, "role"), ours.get("image"), self.store)

    def _parts(self) -> list[Any]:
        try:
            import datasets
        except ImportError as error:
            raise InputError(f"{EXTRA} ({error})") from None
        if not self.store.exists():
            raise InputError(f"{self.store.uri}: no such folder; set source.path to what save_to_disk wrote")
        try:
            found = datasets.load_from_disk(str(self._here))
        except (OSError, ValueError, TypeError, LookupError, AttributeError, pa.ArrowException) as error:
            said = " ".join(str(error).split())[:300]
            raise InputError(f"{self.store.uri}: isn't what save_to_disk writes, or broken: {said}") from error
        return [found[name] for name in sorted(found)] if isinstance(found, dict) else [found]

    def _schema(self, part: Any) -> pa.Schema:
        """Return the columns as they are stored, under raydistill's names; classes are words."""
        schema = part.features.arrow_schema
        names = {theirs: ours for ours, theirs in self.config.columns.items()}
        kinds = {name: pa.string() if _words(part.features[name]) else schema.field(name).type for name in schema.names}
        return pa.schema([pa.field(names.get(name, name), kind) for name, kind in kinds.items()])


def _words(feature: Any) -> list[str] | None:
    """Return the words of a column of classes, or of lists of them."""
    return getattr(feature, "names", None) or getattr(getattr(feature, "feature", None), "names", None)


def _said(value: Any, words: list[str] | None) -> Any:
    """Write a class as its word: -1 stands for one that nobody gave, and any other number without a word stays one."""
    if words is None or value is None:
        return value
    if isinstance(value, list):
        return None if UNLABELLED in value else [_said(inner, words) for inner in value]
    return None if value == UNLABELLED else words[value] if 0 <= value < len(words) else value
