"""Rows of tables and arrays."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Rows = Mapping[str, NDArray[Any]]
"""Columns of a few rows, by name, each (rows, …)."""


def turns(names: NDArray[Any]) -> NDArray[np.int64]:
    """Return for each of (N,) names how many of the same come before it."""
    column = pd.Series(names)
    return np.asarray(column.groupby(column.to_numpy(), dropna=False).cumcount(), np.int64)
