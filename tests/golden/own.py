"""Somebody's own metric, found by its import string on whatever worker needs it."""

from raydistill.metrics.result import MetricResult


class Contrast:
    """The mean over images of the standard deviation of their grey levels."""

    def measure(self, images, real, train):
        contrast, control = (float(grey.std(axis=(1, 2)).mean()) for grey in (images, train))
        return MetricResult(value=contrast, n=len(images), unit="grey levels", estimator="mean", control=control)
