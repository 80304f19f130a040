"""Columns that a source may have, and which of them a table must have, of which types."""

import difflib
from collections.abc import Callable, Iterable, Mapping

import pyarrow as pa
from pyarrow import types

from raydistill.core.columns import ROLES
from raydistill.core.errors import InputError

DESCRIBING = ("text", "labels", "view", "sex", "age")
"""A source has at least one of these columns."""
OPTIONAL = ("image_id", "study_index", "study_id", "role", "split")
KNOWN = ("patient_id", *DESCRIBING, *OPTIONAL)
IDS = ("patient_id", "image_id", "study_id")


def check_columns(names: Iterable[str], image: str, where: str, remedy: str = "rename or add") -> None:
    """Refuse a table that lacks what every source needs.

    Args:
        names: the columns that are there.
        image: name of the column that holds or names the image.
        where: the table, for the message.
        remedy: what to do about a missing one, for the message.

    Raises:
        InputError: when a column is missing or there twice; it names the nearest of those that are there.
    """
    present = list(names)
    twice = sorted({name for name in present if name and present.count(name) > 1})
    if twice:
        raise InputError(f"{where}: two columns are called {', '.join(twice)}; keep one")
    missing = [name for name in (image, "patient_id") if name not in present]
    if missing:
        wanted = " and ".join(f"`{name}`{_nearest(name, present)}" for name in missing)
        raise InputError(f"{where}: no column {wanted}; the columns are {', '.join(present) or '(none)'}; {remedy}")
    if not set(DESCRIBING) & set(present):
        raise InputError(
            f"{where}: nothing describes the images; add at least one of the columns {', '.join(DESCRIBING)}; "
            f"the columns are {', '.join(present)}"
        )


def check_types(schema: pa.Schema, where: str) -> None:
    """Refuse known columns of types that can't hold what they should.

    Raises:
        InputError: naming the column, its type and what it should be.
    """
    for field in schema:
        fits, wanted = TYPES.get(field.name, (_anything, ""))
        if not fits(field.type) and not types.is_null(field.type):
            raise InputError(f"{where}: column `{field.name}` is {field.type} and should be {wanted}; convert it")


def choose_role_column(values: Mapping[str, Iterable[str | None]], where: str) -> str | None:
    """Choose the column with roles. `split` is often a mere `train` or has other words; then it says nothing here.

    Args:
        values: what each of the columns `role` and `split` holds, of those that are there.
        where: the table, for the message.

    Raises:
        InputError: when `role` holds what isn't one.
    """
    unknown = sorted(set(values.get("role", ())) - {*ROLES, None, ""}, key=str)
    if unknown:
        shown = ", ".join(map(repr, unknown[:3]))
        raise InputError(f"{where}: column `role` holds {shown}; it may hold {', '.join(ROLES)}")
    if set(values.get("role", ())) - {None, ""}:
        return "role"
    split = set(values.get("split", ())) - {None, ""}
    return "split" if split <= set(ROLES) and split & {"calibration", "evaluation"} else None


def _nearest(name: str, present: list[str]) -> str:
    known = {"patient_id", *DESCRIBING, *OPTIONAL}
    by_lower = {other.lower(): other for other in present if other not in known}
    near = difflib.get_close_matches(name, by_lower, n=1, cutoff=0.5)
    return f" (perhaps `{by_lower[near[0]]}`)" if near else ""


def _anything(kind: pa.DataType) -> bool:
    return True


def _is_text(kind: pa.DataType) -> bool:
    inner = kind.value_type if types.is_dictionary(kind) else kind
    return bool(types.is_string(inner) or types.is_large_string(inner) or types.is_string_view(inner))


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _is_image(kind: pa.DataType) -> bool:
    if not types.is_struct(kind):
        return _is_bytes(kind)
    fields = {field.name: field.type for field in kind}
    known = _is_bytes(fields.get("bytes", pa.null())), _is_text(fields.get("path", pa.null()))
    return any(known)


def _is_id(kind: pa.DataType) -> bool:
    return _is_text(kind) or types.is_integer(kind)


def _is_number(kind: pa.DataType) -> bool:
    return types.is_integer(kind) or types.is_floating(kind) or _is_text(kind)


def _is_labels(kind: pa.DataType) -> bool:
    is_list = types.is_list(kind) or types.is_large_list(kind)
    return _is_text(kind) or (is_list and (_is_text(kind.value_type) or types.is_null(kind.value_type)))


TYPES: Mapping[str, tuple[Callable[[pa.DataType], bool], str]] = {
    "image": (_is_image, "binary (encoded bytes) or a struct of `bytes` and `path`"),
    "file_name": (_is_text, "string"),
    "patient_id": (_is_id, "string or integer"),
    "image_id": (_is_id, "string or integer"),
    "study_index": (_is_number, "integer"),
    "study_id": (_is_id, "string or integer"),
    "text": (_is_text, "string"),
    "labels": (_is_labels, "a list of strings, or one string with `|` between findings"),
    "view": (_is_text, "string"),
    "sex": (_is_text, "string"),
    "age": (_is_number, "a number of years, or such as `057Y`"),
    "role": (_is_text, "string"),
}
"""What the columns that are known may be of, and how that is said."""
