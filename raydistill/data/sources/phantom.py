"""The embedded phantoms as a cohort."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from raydistill.core.sources import PhantomSource
from raydistill.data.rows import RawRow

PHANTOM_BATCH = 64


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
