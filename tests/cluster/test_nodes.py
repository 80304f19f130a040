"""Nodes are lost, come, and are announced to go; the loss curve and the weights are those of one process that saw it all."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest

from raydistill.core.store import Store
from raydistill.distributed.environment import LOCAL_ENVIRONMENT
from raydistill.distributed.worker import NOTICE_EVERY_S
from tests.cluster.driver import BATCH, HOW, PAUSE_S, read
from tests.distributed.jobs import losses, plain, weights

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
TOLERANCE = 2e-5
"""Relative, of every loss and averaged weight."""
SETTINGS = LOCAL_ENVIRONMENT | {
    # Else Ray Train asks whichever Ray was started last on this machine whether its controller lives.
    "RAY_ADDRESS": "local",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "15",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "1",
    "RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S": "0.2",
    "OMP_NUM_THREADS": "1",
}


def play(scene, folder):
    """Let a scene happen in a process of its own; give what it says."""
    command = [sys.executable, "-m", "tests.cluster.driver", scene, str(folder)]
    environment = without_ray() | SETTINGS
    # A cluster leaves its address for others to find, and names sockets after its folder: its own, and a short one.
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as own:
        environment["RAY_TMPDIR"] = own
        return said_by(ended(command, environment, folder, 560), folder)


def without_ray():
    """Return the environment without what it says of a Ray."""
    return {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}


def ended(command, environment, folder, limit_s):
    """Run a driver to its end, or kill it and its children; what it says goes into `folder/errors`."""
    with open(folder / "errors", "w") as errors:
        how = {"cwd": ROOT, "env": environment, "stdout": errors, "stderr": errors, "start_new_session": True}
        driver = subprocess.Popen(command, **how)
        try:
            driver.wait(limit_s)
        finally:
            if driver.poll() is None:
                os.killpg(driver.pid, signal.SIGKILL)
    return driver


def said_by(driver, folder):
    """Make sure that a driver ended well; give what it says."""
    assert driver.returncode == 0, (folder / "errors").read_text()[-3000:]
    said = json.loads((folder / "said.json").read_text())
    assert said["error"] is None
    return said


def check_numbers(scene, folder):
    """Hold what was trained against a plain loop of PyTorch."""
    expected = plain(how=HOW[scene])
    history = Store.open(str(folder)).read_json("out/history.json")
    np.testing.assert_allclose(losses(history), expected[0], rtol=TOLERANCE)
    got = weights(folder)
    assert got.keys() == expected[1].keys()
    for name, value in expected[1].items():
        np.testing.assert_allclose(got[name], value, rtol=TOLERANCE, atol=1e-6, err_msg=name)


def workers(parts):
    """How many workers there were, one number for each time that it changed."""
    return [BATCH // rows for rows, _ in groupby(rows for _, rows in parts)]


def repeated(parts):
    """Steps that were taken again, at least by some worker."""
    rows = Counter()
    for step, count in parts:
        rows[step] += count
    assert set(rows) == set(range(max(rows) + 1))
    return sorted(step for step, count in rows.items() if count > BATCH)


def test_a_lost_node_is_replaced(tmp_path):
    said, parts = play("lost", tmp_path), read(tmp_path / "log")
    assert workers(parts) == [2]
    again = repeated(parts)
    assert again, "no step was taken again: the node wasn't lost in the middle"
    assert again[0] > 0
    assert again[0] % HOW["lost"].checkpoint_every == 0
    assert said["at"] - again[0] < 2 * HOW["lost"].checkpoint_every
    check_numbers("lost", tmp_path)


def test_a_training_grows_and_shrinks_with_the_cluster(tmp_path):
    play("grown", tmp_path)
    parts = read(tmp_path / "log")
    assert workers(parts) == [1, 2, 1]
    check_numbers("grown", tmp_path)


@pytest.mark.parametrize(("scene", "seen"), [("moved", [2]), ("shrunk", [2, 1]), ("early", [2, 1])])
def test_an_announced_loss_costs_no_step_from_before_the_announcement(tmp_path, scene, seen):
    said, parts = play(scene, tmp_path), read(tmp_path / "log")
    assert workers(parts) == seen
    again = repeated(parts)
    assert again, "nothing was taken again: the training didn't start anew"
    soon = 1 + int(NOTICE_EVERY_S / PAUSE_S)
    assert said["at"] < again[0] <= said["at"] + soon, "the checkpoint isn't that of the announcement"
    check_numbers(scene, tmp_path)


@pytest.mark.parametrize(("scene", "nodes"), [("replaced", 3), ("unreplaced", 2)])
def test_pieces_of_a_lost_node_are_computed_by_others(tmp_path, scene, nodes):
    from tests.cluster.hosts import can_make_namespaces

    if scene == "replaced" and can_make_namespaces():
        pytest.skip("test_hosts.py shows the same on hosts of their own")
    said = play(scene, tmp_path)
    assert len(set(said["nodes"])) == nodes
    out = Store.open(str(tmp_path / "out"))
    assert out.read_table()["number"].to_pylist() == list(range(1000))
    # What was in hand is lost, no more: a piece each of two actors, and what the stall gave up.
    assert len(said["nodes"]) <= 100 + 4
