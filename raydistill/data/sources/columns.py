"""Columns that a source calls otherwise than raydistill does."""

from collections.abc import Iterable, Mapping
from typing import Any

from raydistill.core.errors import InputError


def called_by_us(present: Iterable[str], columns: Mapping[Any, str], where: str) -> list[str]:
    """Return a source's columns by raydistill's names; those that nobody maps keep their own.

    Args:
        present: the columns that are there.
        columns: the source's name by raydistill's.
        where: the source, for the message.

    Raises:
        InputError: when one that is mapped isn't there.
    """
    names = list(present)
    missing = [f"{ours}: {theirs}" for ours, theirs in columns.items() if theirs not in names]
    if missing:
        raise InputError(
            f"{where}: source.columns names {', '.join(missing)}, and the columns are {', '.join(names)[:300]}"
        )
    ours_by_theirs = {theirs: ours for ours, theirs in columns.items()}
    shadowed = set(columns) - set(columns.values())
    return [ours_by_theirs.get(name, name) for name in names if name in ours_by_theirs or name not in shadowed]


def by_our_names(values: Mapping[str, Any], columns: Mapping[Any, str]) -> dict[str, Any]:
    """Return a row's values by raydistill's names of their columns; arguments as those of `called_by_us`."""
    return {**values, **{ours: values.get(theirs) for ours, theirs in columns.items()}}
