"""The one training loop on real Ray Train and DeepSpeed: when it must refuse, and when it must stop."""

from functools import partial

import pytest

from raydistill.core.errors import ConfigError, TrainingError
from raydistill.distributed.train import train, train_here
from tests.distributed.jobs import curve_job, losses, options, plain
from tests.distributed.toys import Curve, Line

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]


def test_a_loss_that_is_not_finite_stops_with_a_reason_and_the_last_good_checkpoint(local_ray, tmp_path):
    make = partial(Line, nan_at=13, log=str(tmp_path / "log"))
    with pytest.raises(TrainingError, match=r"loss was nan at step 14: lower the learning rate.* is of step 10, in /"):
        train(curve_job(tmp_path, make=make, optimizer=options(batch=8)), max_failures=3)
    assert (tmp_path / "log").read_text().count("13 ") == 1, "a training that diverged was tried again"


def test_a_loss_that_explodes_stops_before_it_is_saved(local_ray, tmp_path):
    make = partial(Curve, grow=1e4)
    with pytest.raises(TrainingError, match=r"exploded to .* at step 30, over 20 times its median.* is of step 20"):
        train(curve_job(tmp_path, make=make, optimizer=options(steps=40)), max_failures=3)


def test_what_cannot_work_is_refused_before_anything_starts(tmp_path):
    few = curve_job(tmp_path, workers=8, optimizer=options(batch=8), gradient_accumulation_steps=2)
    with pytest.raises(ConfigError, match=r"batch_size 8 has no row for each of 8 workers x 2"):
        train(few, max_failures=0)
    with pytest.raises(ConfigError, match="precision fp16 needs a GPU"):
        train(curve_job(tmp_path, precision="fp16"), max_failures=0)


def test_the_same_loop_in_this_process(tmp_path):
    expected, _ = plain()
    assert losses(train_here(curve_job(tmp_path / "a"))) == pytest.approx(expected, rel=2e-5)
    assert losses(train_here(curve_job(tmp_path / "b", zero_stage=3))) == pytest.approx(expected, rel=2e-5)


def test_deepspeed_takes_any_key_of_its_own(tmp_path):
    with pytest.raises(Exception, match="reduce_bucket_size"):
        train_here(curve_job(tmp_path, override={"zero_optimization": {"reduce_bucket_size": "many"}}))
