"""Where a cohort comes from: Parquet, an image folder, the embedded phantoms, or anybody's own reader."""

from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

import numpy as np

from raydistill.core.config import CustomSource, ImageFolderSource, ParquetSource, PhantomSource, SourceConfig
from raydistill.core.imports import build
from raydistill.data.rows import RawRow

__all__ = ["PhantomReader", "RawRow", "Source", "open_source"]

PHANTOM_BATCH = 64


@runtime_checkable
class Source(Protocol):
    """A cohort that can be read."""

    def check(self) -> None:
        """Say cheaply whether the cohort is there and has the columns it needs.

        Raises:
            InputError: what is wrong, where, and what to do.
        """

    def rows(self) -> Iterator[RawRow]:
        """Yield every row, numbered from 0, always in the same order, without holding the whole set."""

    def fingerprint(self) -> dict[str, Any]:
        """Return what changes whenever the rows would, and doesn't depend on where they lie; plain JSON values."""


class PhantomReader:
    """The embedded cohort; a visit is an image."""

    def __init__(self, config: PhantomSource) -> None:
        """Take the cohort's size and seed."""
        self.config = config

    def check(self) -> None:
        """Refuse a resolution that can't be drawn."""
        self._render(np.zeros(1, np.int64), np.zeros(1, np.int64))

    def rows(self) -> Iterator[RawRow]:
        """Yield patient after patient, visit after visit."""
        from raydistill.data.phantom import num_visits

        everyone = np.arange(self.config.num_patients, dtype=np.int64)
        visits = num_visits(everyone, seed=self.config.seed, max_visits=self.config.max_visits)
        patients = np.repeat(everyone, visits)
        order = np.arange(len(patients)) - np.repeat(np.cumsum(visits) - visits, visits)
        for start in range(0, len(patients), PHANTOM_BATCH):
            part = slice(start, start + PHANTOM_BATCH)
            yield from self._rows(start, patients[part], order[part])

    def fingerprint(self) -> dict[str, Any]:
        """Return the configuration: it decides every pixel."""
        return self.config.model_dump(mode="json")

    def _rows(self, start: int, patients: np.ndarray[Any, Any], visits: np.ndarray[Any, Any]) -> Iterator[RawRow]:
        made = self._render(patients, visits)
        for i, (patient, visit) in enumerate(zip(patients.tolist(), visits.tolist(), strict=True)):
            yield RawRow(
                row=start + i,
                image=made.images[i],
                patient_id=f"phantom-{patient:07d}",
                image_id=f"phantom-{patient:07d}-{visit:03d}",
                study_index=visit,
                labels=list(made.labels[i]),
                view=made.view[i],
                sex=made.sex[i],
                age=float(made.age[i]),
            )

    def _render(self, patients: np.ndarray[Any, Any], visits: np.ndarray[Any, Any]) -> Any:
        from raydistill.data.phantom import render

        return render(patients, visits, seed=self.config.seed, resolution=self.config.resolution)


def open_source(config: SourceConfig) -> Source:
    """Return the reader of a cohort; nothing of the cohort is read yet.

    Raises:
        ConfigError: when a custom reader can't be imported or isn't one.
        InputError: when the address can't be read as one.
    """
    from raydistill.data.readers import ImageFolderReader, ParquetReader

    match config:
        case ParquetSource():
            return ParquetReader(config.path)
        case ImageFolderSource():
            return ImageFolderReader(config.path)
        case PhantomSource():
            return PhantomReader(config)
        case CustomSource():
            return build(config, Source, "source")
