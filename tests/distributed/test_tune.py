"""Searches on real Ray Tune and Optuna: reproducible, and resumable after a SIGKILL of the driver."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ray.tune import Tuner

from raydistill.core.errors import TrainingError
from raydistill.core.progress import silent
from raydistill.core.store import Store
from raydistill.distributed.tune import MAX_FAILURES, Bounds, Search, search
from tests.distributed.toys import bowl, fragile, slope

pytestmark = pytest.mark.ray

ROOT = Path(__file__).parents[2]
TRIALS, BEFORE, LIMIT_S = 16, 5, 120
OBJECTIVE = {"objective": "max"}
X = Bounds(0.01, 1.0)
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
    searched(sys.argv[1], trials=TRIALS, seconds=0.6, log=sys.argv[2])
"""


def searched(folder, trials=TRIALS, progress=silent, shown=None, **arguments):
    space = Search(bounds={"x": X}, goals=OBJECTIVE, num_trials=trials, batch=2, seed=1)
    store = Store.open(str(folder))
    return search(bowl, arguments, 0.3, space, store / "work", store / "logs", progress, shown)


def climbed(folder, algorithm, trials, goals=OBJECTIVE, most=0.3, **bounds):
    space = Search(bounds=bounds, goals=goals, num_trials=trials, batch=4, seed=1, algorithm=algorithm)
    store = Store.open(str(folder))
    return search(slope, {}, most, space, store, store, silent)


def settings(found):
    return sorted(trial["x"] for trial in found)


def test_the_same_search_tries_the_same_settings_whichever_trial_ends_first(local_ray, tmp_path):
    told, shown = [], []
    first = searched(tmp_path / "a", STARTUP + 6, lambda *news: told.append(news), shown.append)
    again = searched(tmp_path / "b", trials=STARTUP + 6, uneven=3.0)
    assert settings(first) == settings(again)
    assert len(set(settings(first))) == STARTUP + 6
    assert told[-1] == (STARTUP + 6, STARTUP + 6, "trials")
    assert settings(shown[-1]) == settings(first)
    # As docs/metrics.md says.
    grid = Tuner.restore(str(tmp_path / "a/logs/search"), "_trial").get_results()
    assert sorted(result.metrics["measured"]["x"] for result in grid) == settings(first)
    assert {file.split("/")[0] for file in Store.open(str(tmp_path / "a")).files("logs")} == {"search"}


def test_a_killed_search_goes_on_with_the_trials_it_has(local_ray, tmp_path):
    log = tmp_path / "log"
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, tmp_path / "run", log], cwd=ROOT, start_new_session=True)
    deadline = time.monotonic() + LIMIT_S
    while not (log.exists() and len(log.read_text().splitlines()) >= BEFORE) and time.monotonic() < deadline:
        assert driver.poll() is None, "the search ended before it could be killed"
        time.sleep(0.05)
    os.killpg(driver.pid, signal.SIGKILL)
    driver.wait()
    before = log.read_text().splitlines()
    shown = []
    found = searched(tmp_path / "run", shown=shown.append, log=str(log))
    assert len(found) == TRIALS
    assert settings(shown[-1]) == settings(found), "what was found before the kill is shown too"
    assert len(before) < TRIALS
    tried = [f"{trial['x']:.6f}" for trial in found]
    assert len(set(tried)) == TRIALS
    assert set(before) <= set(tried)
    # Again comes what was under way: two at most.
    assert len(log.read_text().splitlines()) <= TRIALS + 2 < TRIALS + len(before)
    assert settings(found) == settings(searched(tmp_path / "never killed"))


def test_a_trial_whose_worker_dies_is_tried_again(local_ray, tmp_path):
    log, space = tmp_path / "log", Search({"x": X}, OBJECTIVE, num_trials=1, batch=1, seed=1)
    store = Store.open(str(tmp_path / "run"))
    found = search(fragile, {"log": str(log), "deaths": 2}, 0.3, space, store, store, silent)
    assert found[0]["objective"] == 0.3
    assert len(log.read_text().splitlines()) == 3


def test_a_trial_that_dies_every_time_ends_the_search_in_one_line(local_ray, tmp_path):
    log, space = tmp_path / "log", Search({"x": X}, OBJECTIVE, num_trials=1, batch=1, seed=1)
    store = Store.open(str(tmp_path / "run"))
    with pytest.raises(TrainingError, match="1 trials failed, the first: ") as raised:
        search(fragile, {"log": str(log), "deaths": 99}, 0.3, space, store, store, silent)
    assert "\n" not in str(raised.value)
    assert len(log.read_text().splitlines()) == 1 + MAX_FAILURES


def test_a_search_that_is_begun_again_measures_nothing_twice_whatever_ray_remembers(local_ray, tmp_path):
    log = tmp_path / "log"
    first = searched(tmp_path / "run", log=str(log))
    work, logs = (Store.open(str(tmp_path / "run" / folder)) for folder in ("work", "logs"))
    for number, name in enumerate((logs / "search").files()):
        (logs / "search" / name).delete() if number % 2 else logs.write_bytes(f"search/{name}", b"half a")
    # As one that was killed leaves it: a setting not measured yet, and another half written.
    (work / "measured" / work.files("measured")[0]).delete()
    work.write_bytes("measured/0.json.1.partial", b"half a")
    assert searched(tmp_path / "run", log=str(log)) == first
    assert len(log.read_text().splitlines()) == TRIALS + 1


@pytest.mark.parametrize("algorithm", ["tpe", "nsga2"])
def test_what_learns_stays_where_it_is_allowed(local_ray, tmp_path, algorithm):
    """The objective pulls over the bound; the same search where nothing is forbidden goes there."""
    x, trials = Bounds(0.0, 1.2, is_log=False), STARTUP + 22
    goals = OBJECTIVE if algorithm == "tpe" else {"objective": "max", "cost": "min"}
    told, free = (
        sum(trial["x"] <= 0.3 for trial in climbed(tmp_path / str(most), algorithm, trials, goals, most, x=x))
        for most in (0.3, 2.0)
    )
    assert told > free + 4


def test_a_grid_is_spread_evenly_and_no_larger_than_asked_for(local_ray, tmp_path):
    n = Bounds(1, 16, is_whole=True)
    found = climbed(tmp_path, "grid", 10, x=X, n=n)
    assert sorted({trial["n"] for trial in found}) == [1, 4, 16]
    assert sorted({round(trial["x"], 6) for trial in found}) == [0.01, 0.1, 1.0]
    assert len(found) == 9


def test_a_space_of_one_setting_is_measured_once(local_ray, tmp_path):
    assert [trial["x"] for trial in climbed(tmp_path, "tpe", 10)] == [0.5]
