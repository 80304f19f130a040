"""Somebody's own cohort, metric and embedder, found by their import strings on whatever worker needs them."""

from dataclasses import replace

import numpy as np

from raydistill.core.sources import PhantomSource
from raydistill.data.sources import PhantomReader
from raydistill.metrics.result import MetricResult

RARE = "zqx dextrocardia"
"""What three patients alone have, two of train and one of evaluation: among their findings, and as their view."""
WITH_RARE = [f"phantom-000000{number}" for number in (1, 3, 4)]


class Cohort(PhantomReader):
    """Phantoms, three of whom can be told from all others by what is said of them."""

    def __init__(self, num_patients, max_visits, resolution):
        super().__init__(
            PhantomSource(kind="phantom", num_patients=num_patients, max_visits=max_visits, resolution=resolution)
        )

    def rows(self):
        for row in super().rows():
            is_rare = row.patient_id in WITH_RARE
            yield replace(row, labels=[*row.labels, RARE], view=RARE) if is_rare else row

    def fingerprint(self):
        return {**super().fingerprint(), "rare": RARE}


class Contrast:
    """The mean over images of the standard deviation of their grey levels."""

    def measure(self, images, real, train):
        contrast, control = (float(grey.std(axis=(1, 2)).mean()) for grey in (images, train))
        return MetricResult(value=contrast, n=len(images), unit="grey levels", estimator="mean", control=control)


class Shades:
    """The picture itself as a vector, its shades centred: an eye that nobody trained."""

    def __init__(self, device):
        self.device = device

    def embed(self, images, batch_size):
        rows = images.reshape(len(images), -1).astype(np.float32)
        rows = np.pad(rows - rows.mean(axis=1, keepdims=True), ((0, 0), (0, 1)), constant_values=1.0)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def fingerprint(self):
        return 1
