"""One row of a source as it was found, and how the columns of a table become one."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from raydistill.data.schema import IDS, TYPES

T = TypeVar("T")

LABEL_SEPARATORS = r"[|;,]"
"""What separates findings where they are one string; names of findings hold none of these."""

AGE = re.compile(r"(\d{1,3}) ?(d|days?|w|weeks?|m|months?|y|yrs?|years?)( old)?", re.IGNORECASE)
"""An age with its unit."""


class Unusable(Exception):
    """A row that can't be used.

    Args:
        reason: one of `records.REASONS`.
        detail: what exactly, for a person.
    """

    def __init__(self, reason: str, detail: str) -> None:
        """Remember reason and detail."""
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"


@dataclass(frozen=True)
class Square:
    """What is kept of a picture.

    Args:
        sha256: of its encoded bytes; empty where there is none.
        drawn: hash of its pixels.
        image: PNG, 8-bit grey, square.
        problem: why there are neither pixels nor square.
    """

    sha256: str = ""
    drawn: str = ""
    image: bytes = b""
    problem: Unusable | None = None


@dataclass(frozen=True)
class RawRow:
    """One row of a source. What is missing is None.

    Args:
        row: number of the row in the source, from 0.
        image: encoded bytes, or (H, W) uint8 grey; or what is kept of either, where a worker has worked that out.
        patient_id: whose image it is.
        image_id: the source's own name of the image.
        study_index: order of the patient's studies.
        study_id: the source's own name of the study, where it knows no order; never written.
        text: a report or a caption.
        labels: findings; empty says that there are none.
        view: projection, in the source's words.
        sex: in the source's words.
        age: in years.
        role: one of `columns.ROLES`, where the source brings its own split.
        origin: where in the source it lies, for a person; never written where ids are hashed.
        problem: reason and detail, where the reader knows already that the row can't be used; no id in it.
    """

    row: int
    image: bytes | NDArray[np.uint8] | Square | None = None
    patient_id: str | None = None
    image_id: str | None = None
    study_index: int | None = None
    study_id: str | None = None
    text: str | None = None
    labels: list[str] | None = None
    view: str | None = None
    sex: str | None = None
    age: float | None = None
    role: str | None = None
    origin: str | None = None
    problem: tuple[str, str] | None = None


def parse_row(row: int, values: Mapping[str, Any], role_column: str | None) -> RawRow:
    """Turn one table row into a `RawRow` without an image.

    Args:
        row: its number.
        values: by column; None is missing. Unknown columns are left alone.
        role_column: the column that holds roles, if there is one.

    Returns:
        The row; where a value can't be read as what it should be, with the problem `bad_field`.
    """
    try:
        return RawRow(
            row=row,
            patient_id=_read(values, "patient_id", _to_id),
            image_id=_read(values, "image_id", _to_id),
            study_index=_read(values, "study_index", _to_index),
            study_id=_read(values, "study_id", _to_id),
            text=_read(values, "text", _to_text),
            labels=_read(values, "labels", _to_labels),
            view=_read(values, "view", _to_text),
            sex=_read(values, "sex", _to_text),
            age=_read(values, "age", _to_years),
            role=_read(values, role_column, _to_text) if role_column else None,
        )
    except _BadField as error:
        return RawRow(row=row, problem=("bad_field", str(error)))


def is_text(value: str) -> bool:
    """Whether every character is a whole one: JSON can hold halves, and undecodable bytes become such.

    They can't be written anywhere.
    """
    return value.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in value)


class _BadField(Exception):
    """A value that isn't what its column should hold."""


def _read(values: Mapping[str, Any], name: str, convert: Callable[[Any], T]) -> T | None:
    value = values.get(name)
    if value is None or _is_nan(value) or (isinstance(value, str) and not value.strip()):
        return None
    try:
        found = convert(value)
    except (ValueError, TypeError, OverflowError) as error:
        wanted = TYPES.get(name, (None, ""))[1]
        # What stands in place of an id may be one.
        shown = f"is a {type(value).__name__}" if name in IDS else f"is {str(value)[:60]!r}"
        raise _BadField(f"{name} {shown}" + (f", not {wanted}" if wanted else "")) from error
    return None if _is_nan(found) else found


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _to_id(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise TypeError
    return _to_text(str(value))


def _to_text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    if not is_text(value):
        raise ValueError
    return value.strip()


def _to_labels(value: Any) -> list[str]:
    parts = re.split(LABEL_SEPARATORS, value) if isinstance(value, str) else value
    if not isinstance(parts, list):
        # Of an object such as {"Mass": 0} the names alone would say the contrary.
        raise TypeError
    return [_to_text(part) for part in parts if part is not None]


def _to_index(value: Any) -> int:
    number = float(value)
    if isinstance(value, bool) or not number.is_integer() or not -(2**31) <= number < 2**31:
        raise ValueError
    return int(number)


def _to_years(value: Any) -> float:
    """Read years, or an Age String such as `057Y` or `6M`, also as people write it: `57y`, `6 months`.

    Source: DICOM PS3.5, 6.2, value representation AS.
    """
    if isinstance(value, bool):
        raise TypeError
    if isinstance(value, str) and (match := AGE.fullmatch(value.strip())):
        return int(match[1]) / {"d": 365.25, "w": 52.18, "m": 12, "y": 1}[match[2][0].lower()]
    return float(value)
