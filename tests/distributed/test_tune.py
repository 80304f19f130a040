"""Searches on real Ray Tune and Optuna: reproducible, and resumable after a SIGKILL of the driver."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from raydistill.core.progress import silent
from raydistill.core.store import Store
from raydistill.distributed.tune import Search, search
from tests.distributed.toys import bowl

pytestmark = pytest.mark.ray

ROOT = Path(__file__).parents[2]
TRIALS, LIMIT_S = 5, 120
STARTUP = 10
"""Trials that TPE draws at random; what comes after them depends on how they went."""
DRIVER = """
import sys
from raydistill.core.config import ClusterConfig
from raydistill.core.progress import silent
from raydistill.core.store import Store
from raydistill.distributed.session import session
from tests.distributed.test_tune import TRIALS, searched
with session(ClusterConfig(num_cpus=2, object_store_mb=100)):
    searched(sys.argv[1], trials=TRIALS, seconds=1.5, log=sys.argv[2])
"""


def searched(folder, trials=TRIALS, progress=silent, **arguments):
    space = Search(bounds={"x": (0.01, 1.0)}, num_trials=trials, max_concurrent=2, seed=1)
    return search(bowl, arguments, 0.3, space, Store.open(str(folder)), progress)


def settings(found):
    return sorted(trial["x"] for trial in found)


def test_the_same_search_tries_the_same_settings_whichever_trial_ends_first(local_ray, tmp_path):
    told = []
    first = searched(tmp_path / "a", trials=STARTUP + 6, progress=lambda *news: told.append(news))
    again = searched(tmp_path / "b", trials=STARTUP + 6, uneven=3.0)
    assert settings(first) == settings(again)
    assert len(set(settings(first))) == STARTUP + 6
    assert told[-1] == (STARTUP + 6, STARTUP + 6, "trials")


def test_a_killed_search_goes_on_with_the_trials_it_has(local_ray, tmp_path):
    log = tmp_path / "log"
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, tmp_path / "run", log], cwd=ROOT, start_new_session=True)
    deadline = time.monotonic() + LIMIT_S
    while not (log.exists() and len(log.read_text().splitlines()) >= 2) and time.monotonic() < deadline:
        assert driver.poll() is None, "the search ended before it could be killed"
        time.sleep(0.2)
    time.sleep(1)
    os.killpg(driver.pid, signal.SIGKILL)
    driver.wait()
    before = log.read_text().splitlines()
    found = searched(tmp_path / "run", log=str(log))
    assert len(found) == TRIALS
    assert len(before) < TRIALS
    tried = [f"{trial['x']:.6f}" for trial in found]
    assert len(set(tried)) == TRIALS
    assert set(before[:2]) <= set(tried)


@pytest.mark.parametrize("left", [b"", b"half a pick"])
def test_what_a_kill_left_of_a_search_that_was_being_set_up_is_thrown_away(local_ray, tmp_path, left):
    store = Store.open(str(tmp_path))
    store.write_bytes("search/tuner.pkl", left)
    store.write_bytes("search/experiment_state-x.json", b"{}")
    assert len(searched(tmp_path, trials=2)) == 2
