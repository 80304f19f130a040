import numpy as np
import pytest

from raydistill.core.errors import ConfigError, InputError
from raydistill.core.section import Import
from raydistill.metrics.custom import build_metrics, measure
from raydistill.metrics.result import MetricResult

GREY = [np.full((count, 4, 4), level, np.uint8) for count, level in ((3, 10), (5, 30), (7, 50))]


class Brightness:
    def measure(self, images, real, train):
        return MetricResult(
            value=float(images.mean()), n=len(images), unit="grey level", estimator="mean",
            control=float(train.mean()), baseline=float(real.mean()),
        )  # fmt: skip


class Bare:
    def measure(self, images, real, train):
        return 0.5


def test_results_stand_under_their_own_names():
    results = measure(build_metrics({"brightness": Import(factory=f"{__name__}:Brightness")}), *GREY)
    result = results["own.brightness"]
    assert (result.value, result.baseline, result.control, result.n) == (10, 30, 50, 3)


def test_a_bare_number_is_refused():
    with pytest.raises(InputError, match=r"own\.bare gave a float"):
        measure(build_metrics({"bare": Import(factory=f"{__name__}:Bare")}), *GREY)


def test_what_is_no_metric_is_an_error_of_the_configuration():
    with pytest.raises(ConfigError, match=r"evaluate\.metrics\.x\.factory"):
        build_metrics({"x": Import(factory="builtins:dict")})
