"""Rows of a source become records of one form, or go to quarantine with a reason. None is lost."""

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import pyarrow as pa

from raydistill.core.columns import QUARANTINE, ROLES
from raydistill.core.config import IngestConfig
from raydistill.core.errors import InputError
from raydistill.core.spool import Kept, Spool
from raydistill.data.ahead import ahead
from raydistill.data.rows import RawRow, Square, Unusable
from raydistill.data.squares import square_of
from raydistill.data.vocabulary import MAX_AGE, SEXES, VIEWS, findings, plain_words

LEFT_OUT = "left_out"
"""Why a row isn't used that the configuration excludes."""

REASONS = (
    "missing_image", "undecodable", "too_large", "missing_patient", "duplicate_id", "duplicate_image", "near_duplicate",
    "empty_text", "bad_field", "path_outside", "burned_in", LEFT_OUT,
)  # fmt: skip
"""Why a row is quarantined."""
SHOWN_EXAMPLES = 3

Entry = dict[str, Any]
"""A row of the quarantine."""


@dataclass(frozen=True)
class Record:
    """One usable image.

    Args:
        row: its row in the source, from 0.
        image_id: unique in the cohort.
        patient_id: whose image it is.
        study_index: number of the study among the patient's: the source's own, or by the order of appearance; where
            nothing is known of studies, each image is one.
        kept: where its image lies.
        labels: finding words, sorted; None when nothing is known.
        view: a word of `vocabulary.VIEWS`; another word of the source in lower case.
        sex: a word of `vocabulary.SEXES`; another word of the source in lower case.
        age: in years, in [0, 120].
        text: free text as it was.
        role: the source's own, where it has one.
        sha256: of the source's encoded bytes.
    """

    row: int
    image_id: str
    patient_id: str
    study_index: int
    kept: Kept = field(repr=False)
    labels: list[str] | None
    view: str | None
    sex: str | None
    age: float | None
    text: str | None
    role: str | None
    sha256: str

    @property
    def image(self) -> bytes:
        """PNG, 8-bit grey, square; read from disk."""
        return self.kept.read()


@dataclass(frozen=True)
class Cleaned:
    """What came of a source: `rows` = records + quarantined, always.

    Args:
        records: in the order of the source.
        quarantine: schema `columns.QUARANTINE`, sorted by row.
        rows: rows that were read.
        shared: quarantined rows with a picture that several patients have.
        bad: quarantined rows that count to `max_bad_rows`.
    """

    records: list[Record]
    quarantine: pa.Table
    rows: int
    shared: int = 0
    bad: int = 0

    def without(self, details: Mapping[int, str], reason: str) -> "Cleaned":
        """Quarantine further records.

        Args:
            details: by place in `records`, for a person.
            reason: one of `REASONS`.
        """
        thrown = [_entry(self.records[i].row, self.records[i].image_id, reason, why) for i, why in details.items()]
        kept = [record for i, record in enumerate(self.records) if i not in details]
        return replace(self, records=kept, quarantine=_table([*self.quarantine.to_pylist(), *thrown]))

    def images(self) -> "Images":
        """Return the records' images, each read when it is its turn."""
        return Images(self.records)

    def reasons(self) -> dict[str, int]:
        """Count the quarantined rows by reason, the most frequent first."""
        return dict(Counter(self.quarantine["reason"].to_pylist()).most_common())


class Images(Collection[bytes]):
    """The images of records, in their order."""

    def __init__(self, records: Sequence[Record]) -> None:
        """Read nothing yet."""
        self.records = records

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[bytes]:
        return (record.image for record in self.records)

    def __contains__(self, image: object) -> bool:
        return any(image == own for own in self)


class Unneeded(Unusable):
    """A row with which nothing is wrong: it repeats a kept one of the same patient, or the configuration excludes it.

    It is no bad row.
    """


def clean(rows: Iterable[RawRow], ingest: IngestConfig) -> Cleaned:
    """Check and convert every row; originals are dropped one by one, the small squares are kept on disk.

    Args:
        rows: a source's rows.
        ingest: resolution, the largest image, and how many bad rows are too many.

    Returns:
        Records and quarantine.

    Raises:
        InputError: past `max_bad_rows`, to which unneeded rows don't count, with reasons and the first examples.
    """
    cleaner = _Cleaner(ingest)
    for raw, square in ahead(rows, partial(square_of, ingest=ingest)):
        try:
            cleaner.accept(raw, square)
        except Unusable as error:
            cleaner.reject(raw.row, raw.image_id, error, raw.origin)
        cleaner.rows += 1
        cleaner.refuse_too_many()
    return cleaner.cleaned()


@dataclass
class _Cleaner:
    ingest: IngestConfig
    spool: Spool = field(default_factory=Spool)
    rows: int = 0
    records: dict[int, Record] = field(default_factory=dict)
    bad: dict[int, Entry] = field(default_factory=dict)
    unneeded: dict[int, Entry] = field(default_factory=dict)
    ids: set[str] = field(default_factory=set)
    by_content: dict[str, Record] = field(default_factory=dict)
    studies: dict[str, dict[str, int]] = field(default_factory=lambda: defaultdict(dict))

    def accept(self, raw: RawRow, square: Square) -> None:
        patient = _patient(raw)
        _check_fields(raw)
        image_id = raw.image_id or f"{square.sha256[:16]}-{raw.row}"
        if image_id in self.ids:
            raise Unusable("duplicate_id", f"an earlier row has the image_id {image_id!r} too")
        self._refuse_duplicate(square.sha256, patient)
        if square.problem:
            raise square.problem
        self._refuse_duplicate(square.drawn, patient)
        record = self._record(raw, patient, image_id, square)
        self.ids.add(image_id)
        self.by_content |= {square.sha256: record, square.drawn: record}
        self.records[raw.row] = record

    def reject(self, row: int, image_id: str | None, error: Unusable, origin: str | None = None) -> None:
        entries = self.unneeded if isinstance(error, Unneeded) else self.bad
        detail = f"{origin}: {error.detail}" if origin else error.detail
        entries[row] = _entry(row, image_id, error.reason, detail)

    def _record(self, raw: RawRow, patient: str, image_id: str, square: Square) -> Record:
        known = self.studies[patient]
        seen = known.setdefault(raw.study_id or image_id, len(known))
        return Record(
            row=raw.row,
            image_id=image_id,
            patient_id=patient,
            study_index=seen if raw.study_index is None else raw.study_index,
            kept=self.spool.keep(square.image),
            labels=None if raw.labels is None else findings(raw.labels),
            view=_word(raw.view, VIEWS),
            sex=_word(raw.sex, SEXES),
            age=raw.age,
            text=raw.text or None,
            role=raw.role or None,
            sha256=square.sha256,
        )

    def _refuse_duplicate(self, content: str, patient: str) -> None:
        """Keep the first of one patient's equal images; of two patients' nobody knows whose it is, so keep none."""
        first = self.by_content.get(content)
        if first is None:
            return
        if first.patient_id == patient and first.row in self.records:
            raise Unneeded("duplicate_image", f"the same picture as row {first.row}")
        shared = Unusable("duplicate_image", f"rows of several patients have this picture, such as row {first.row}")
        if self.records.pop(first.row, None):
            self.reject(first.row, first.image_id, shared)
        raise shared

    def refuse_too_many(self) -> None:
        if len(self.bad) <= self.ingest.max_bad_rows:
            return
        counted = Counter(entry["reason"] for entry in self.bad.values()).most_common()
        reasons = ", ".join(f"{count} {reason}" for reason, count in counted)
        first = [self.bad[row] for row in sorted(self.bad)[:SHOWN_EXAMPLES]]
        examples = "; ".join(f"row {entry['row']}: {entry['reason']} ({entry['detail']})" for entry in first)
        raise InputError(
            f"{len(self.bad)} of the first {self.rows} rows of the source can't be used, more than "
            f"ingest.max_bad_rows = {self.ingest.max_bad_rows}: {reasons}. First: {examples}. "
            "Mend the source or raise the limit"
        )

    def cleaned(self) -> Cleaned:
        quarantine = _table([*self.bad.values(), *self.unneeded.values()])
        shared = sum(entry["reason"] == "duplicate_image" for entry in self.bad.values())
        return Cleaned(list(self.records.values()), quarantine, self.rows, shared, len(self.bad))


def _entry(row: int, image_id: str | None, reason: str, detail: str) -> Entry:
    return {"row": row, "image_id": image_id, "reason": reason, "detail": detail}


def _table(entries: Sequence[Entry]) -> pa.Table:
    return pa.Table.from_pylist(sorted(entries, key=lambda entry: entry["row"]), schema=QUARANTINE)


def _patient(raw: RawRow) -> str:
    if raw.problem:
        raise (Unneeded if raw.problem[0] == LEFT_OUT else Unusable)(*raw.problem)
    patient = (raw.patient_id or "").strip()
    if not patient:
        raise Unusable("missing_patient", "no patient_id")
    if raw.image is None:
        raise Unusable("missing_image", "no image")
    return patient


def _check_fields(raw: RawRow) -> None:
    if not raw.text and raw.labels is None and raw.age is None and not raw.view and not raw.sex:
        raise Unusable("empty_text", "neither text nor any of labels, view, sex, age (write `No Finding` for none)")
    if raw.age is not None and not (math.isfinite(raw.age) and 0 <= raw.age <= MAX_AGE):
        raise Unusable("bad_field", f"age is {raw.age}, outside 0 to {MAX_AGE}")
    if raw.role and raw.role not in ROLES:
        raise Unusable("bad_field", f"role is {raw.role[:60]!r}, none of {', '.join(ROLES)}")


def _word(value: str | None, words: Mapping[str, str]) -> str | None:
    return words.get(plain_words(value), value.lower()) if value else None
