"""Somebody's own metrics of a set of images, beside those that come with the package."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from raydistill.core.errors import InputError
from raydistill.core.imports import build
from raydistill.core.section import Import
from raydistill.metrics.result import MetricResult

Grey = npt.NDArray[np.uint8]


@runtime_checkable
class Metric(Protocol):
    """A number about a set of images. An extension point."""

    def measure(self, images: Grey, real: Grey, train: Grey) -> MetricResult:
        """Measure a set of images: real ones, teacher samples, kept samples or student samples, one call a set.

        Args:
            images: (N, R, R), 8-bit grey, those judged.
            real: (M, R, R), of evaluation patients, whom nothing was trained or tuned on.
            train: (T, R, R), what the teacher was trained on; between it and `real` stands a floor or control.
        """
        ...


def build_metrics(wanted: Mapping[str, Import]) -> dict[str, Metric]:
    """Make the configured metrics, by name.

    Raises:
        ConfigError: when a metric can't be imported or isn't one.
    """
    return {name: build(part, Metric, f"evaluate.metrics.{name}") for name, part in wanted.items()}


def measure(metrics: Mapping[str, Metric], images: Grey, real: Grey, train: Grey) -> dict[str, MetricResult]:
    """Measure a set of images with each metric.

    Returns:
        The results, a metric's under `own.<name>`.

    Raises:
        InputError: when one gives something else than a MetricResult.
    """
    results = {f"own.{name}": metric.measure(images, real, train) for name, metric in metrics.items()}
    for name, result in results.items():
        if not isinstance(result, MetricResult):
            raise InputError(f"evaluate.metrics: {name} gave a {type(result).__name__}, not a MetricResult")
    return results
