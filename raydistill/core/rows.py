"""Rows of numbers, as they travel between a set on disk and a training."""

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

Rows = Mapping[str, NDArray[Any]]
"""Columns of a few rows, by name, each (rows, …)."""
