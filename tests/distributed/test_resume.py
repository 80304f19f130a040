"""What is lost when workers or the driver are killed: nothing that a loss curve could show."""

import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from raydistill.core.errors import TrainingError
from raydistill.core.training import GuardConfig
from raydistill.distributed.checkpoint import BUFFERS, FACTS, STATE
from raydistill.distributed.job import RUN, Guard
from raydistill.distributed.train import SNAPSHOT, export_checkpoint, train
from tests.distributed.jobs import curve_job, losses, options, plain, weights
from tests.distributed.toys import Curve

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
TOLERANCE = 2e-5
"""Relative, of every loss and averaged weight after a resumption."""

DRIVER = """
import signal
import sys
from raydistill.core.config import ClusterConfig
from raydistill.distributed.session import session
from raydistill.distributed.train import train
from tests.distributed.test_resume import slow_job
with session(ClusterConfig(num_cpus=2, object_store_mb=100)):
    try:
        train(slow_job(sys.argv[1]), max_failures=0)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    signal.raise_signal(signal.SIGINT)
"""


def steps_seen(log):
    return [int(line.split()[0]) for line in Path(log).read_text().splitlines()]


def same(got, expected):
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(got[name], value, rtol=TOLERANCE, atol=1e-6, err_msg=name)


def test_a_killed_worker_goes_on_as_if_nothing_had_happened(local_ray, tmp_path):
    rows = {"train": {"x": np.zeros(1)}, "calibration": {"x": np.zeros(1)}}
    guard = Guard(partial(dict, rows), GuardConfig(every=10, draws=1))
    how = {"zero_stage": 2, "gradient_accumulation_steps": 2, "ema": 0.9, "more": {"guard": guard}}
    whole = train(curve_job(tmp_path / "whole", make=partial(Curve, dropout=0.3), **how), max_failures=0)
    dying = partial(Curve, dropout=0.3, pause=0.1, die_at=25, scar=str(tmp_path / "scar"), log=str(tmp_path / "log"))
    broken = train(curve_job(tmp_path / "broken", make=dying, **how), max_failures=1)
    seen = steps_seen(tmp_path / "log")
    assert seen.count(24) == 4, "the steps after the checkpoint of step 20 were not taken again"
    assert seen.count(19) == 2, "steps before the checkpoint were taken again"
    np.testing.assert_allclose(losses(broken), losses(whole), rtol=TOLERANCE)
    assert [step for step, *_ in whole["gap"]] == [10, 20, 30]
    np.testing.assert_allclose(broken["gap"], whole["gap"], rtol=TOLERANCE)
    same(weights(tmp_path / "broken"), weights(tmp_path / "whole"))


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ({"workers": 2, "zero_stage": 1}, {"workers": 1, "zero_stage": 3}),
        ({"workers": 1, "zero_stage": 0}, {"workers": 2, "zero_stage": 2}),
        ({"workers": 2, "zero_stage": 3}, {"workers": 1, "zero_stage": 0}),
    ],
    ids=["2-to-1", "1-to-2", "2-to-1-from-zero-3"],
)
def test_another_number_of_workers_takes_up_the_checkpoint(local_ray, tmp_path, first, then):
    dying = partial(Curve, pause=0.1, die_at=25, scar=str(tmp_path / "scar"), log=str(tmp_path / "log"))
    with pytest.raises(TrainingError, match="training failed"):
        train(curve_job(tmp_path, make=dying, **first), max_failures=0)
    (tmp_path / "log").unlink()
    history = train(curve_job(tmp_path, make=dying, **then), max_failures=0)
    assert min(steps_seen(tmp_path / "log")) == 20
    expected = plain()
    np.testing.assert_allclose(losses(history), expected[0], rtol=TOLERANCE)
    same(weights(tmp_path), expected[1])


def slow_job(folder):
    make = partial(Curve, pause=0.15, log=f"{folder}/log")
    return curve_job(Path(folder), make=make, optimizer=options(checkpoint_every=5), zero_stage=2)


def start_driver(folder):
    """Start a training in a process of its own and wait until it is well under way."""
    how = {"cwd": ROOT, "start_new_session": True, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, folder], **how)
    log, deadline = folder / "log", time.monotonic() + 300
    while not (log.exists() and max(steps_seen(log), default=0) >= 12):
        assert driver.poll() is None, "the training ended before it could be stopped"
        assert time.monotonic() < deadline, "the training doesn't start"
        time.sleep(0.05)
    return driver, log


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_interrupts_a_training_and_what_comes_after_it(tmp_path, sent):
    driver, _ = start_driver(tmp_path)
    driver.send_signal(sent)
    said, errors = driver.communicate(timeout=300)
    assert said == "interrupted\n"
    assert errors.splitlines()[-1] == "KeyboardInterrupt"
    assert driver.returncode == -signal.SIGINT


def test_a_killed_driver_goes_on_with_the_same_command(local_ray, tmp_path):
    driver, log = start_driver(tmp_path)
    os.killpg(driver.pid, signal.SIGKILL)
    driver.wait()
    time.sleep(2)
    log.unlink()
    history = train(slow_job(tmp_path), max_failures=0)
    assert 0 < min(steps_seen(log)) < 30
    expected = plain()
    np.testing.assert_allclose(losses(history), expected[0], rtol=TOLERANCE)
    same(weights(tmp_path), expected[1])


def cut_short(file):
    file.write_bytes(file.read_bytes()[:-7])


@pytest.mark.parametrize("harm", ["a list cut short", "no list", "and a newer checkpoint that isn't whole"])
def test_a_kill_while_a_checkpoint_is_written_costs_what_came_after_the_one_before(local_ray, tmp_path, harm):
    dying = partial(Curve, die_at=25, scar=str(tmp_path / "scar"), log=str(tmp_path / "log"), pause=0.05)
    job = curve_job(tmp_path, workers=2, make=dying, zero_stage=1)
    with pytest.raises(TrainingError, match="training failed"):
        train(job, max_failures=0)
    run = tmp_path / "work" / RUN
    if harm == "no list":
        (run / SNAPSHOT).unlink()
    else:
        cut_short(run / SNAPSHOT)
    if "newer" in harm:
        (whole,) = (file.parent for file in run.glob(f"*/{FACTS}"))
        for name, torn in (("x-0", BUFFERS), ("x-1", STATE.format(1)), ("x-2", FACTS)):
            shutil.copytree(whole, run / f"checkpoint_{name}")
            cut_short(run / f"checkpoint_{name}" / torn)
        shutil.copytree(whole, run / "checkpoint_x-3")
        (run / "checkpoint_x-3" / STATE.format(0)).unlink()
    (tmp_path / "log").unlink()
    assert export_checkpoint(Curve(), job.work, tmp_path / "model") == 20
    history = train(job, max_failures=0)
    assert min(steps_seen(tmp_path / "log")) == 20
    expected = plain()
    np.testing.assert_allclose(losses(history), expected[0], rtol=TOLERANCE)
    same(weights(tmp_path), expected[1])


def test_a_checkpoint_can_be_written_as_what_was_learned(local_ray, tmp_path):
    dying = partial(Curve, die_at=25, scar=str(tmp_path / "scar"), log=str(tmp_path / "log"), pause=0.05)
    job = curve_job(tmp_path, workers=2, make=dying, zero_stage=3)
    with pytest.raises(TrainingError, match="training failed"):
        train(job, max_failures=0)
    assert export_checkpoint(Curve(), job.work, tmp_path / "model") == 20
    with np.load(tmp_path / "model/weights.npz") as saved:
        same({name: saved[name] for name in saved.files}, plain(until=20)[1])


def test_minutes_make_checkpoints_too(local_ray, tmp_path):
    scar, log = str(tmp_path / "scar"), str(tmp_path / "log")
    dying = partial(Curve, die_at=28, scar=scar, log=log, pause=0.1)
    rarely = options(checkpoint_every=1000, checkpoint_minutes=0.5 / 60, log_every=5)
    train(curve_job(tmp_path, make=dying, optimizer=rarely), max_failures=1)
    seen = steps_seen(log)
    assert seen.count(4) == 1
    assert seen.count(27) == 2
