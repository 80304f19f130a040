"""Hosts with addresses of their own: one is cut off, another comes. A job goes on, and so does a whole run."""

import json
import os
import subprocess
import sys
import tempfile
import time
from functools import partial

import pytest

from raydistill.core.store import Store
from tests.cluster.driver import nodes_of
from tests.cluster.hosts import DASHBOARD, PORT, RAY, Hosts, needs_namespaces
from tests.cluster.test_nodes import said_by

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(1500)]

PATIENCE_S, WHOLE_RUN_S = 300.0, 1200.0
ROWS = 1000
STORAGE_HOST = 100
CHANGED = {
    "teacher.compute": "{num_workers: [1, 2], num_cpus: 1}",
    "teacher.optimizer.steps": "400",
    "teacher_samples": "{num_samples: 320, target_kept: null, max_samples: null, num_inference_steps: 8, batch_size: 8, rows_per_piece: 8, rows_per_shard: 32, "
    "compute: {num_workers: [1, 3], num_cpus: 1}}",
}
"""Long enough to be cut in, and shared by hosts of one CPU each."""


@needs_namespaces
def test_a_host_is_cut_off_and_another_comes(tmp_path):
    with (
        tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as temporary,
        Hosts(temporary) as hosts,
        open(tmp_path / "errors", "w") as errors,
    ):
        hosts.add(0)
        hosts.add(1)
        line = [sys.executable, "-m", "tests.cluster.driver", "joined", tmp_path, f"{hosts.address(0)}:{PORT}", ROWS]
        driver, deadline = hosts.start(0, line, errors), time.monotonic() + PATIENCE_S

        seen = partial(nodes_of, tmp_path / "log")
        while len(set(seen())) < 2 or len(seen()) < 30:
            assert driver.poll() is None, (tmp_path / "errors").read_text()[-3000:]
            assert time.monotonic() < deadline, (tmp_path / "errors").read_text()[-3000:]
            time.sleep(0.1)
        hosts.cut(1)
        hosts.add(2)
        try:
            driver.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            pytest.fail(f"{len(seen())} pieces begun on {len(set(seen()))} hosts, then nothing\n{hosts.said()}")
        said = said_by(driver, tmp_path)
        assert len(set(seen())) == 3, "the third host did nothing"
        assert said["addresses"] == sorted(map(hosts.address, (0, 1, 2)))
        out = Store.open(str(tmp_path / "out"))
        assert out.read_table()["number"].to_pylist() == list(range(ROWS))
        assert len(seen()) <= ROWS / 10 + 4


class Watched:
    """A run folder on an S3 server on another host, looked at from there."""

    def __init__(self, hosts, folder):
        self.hosts, self.folder = hosts, folder

    def summary(self):
        """Return the summary, or nothing while there is none."""
        line = [sys.executable, "-m", "tests.cluster.look", "s3://hosts/run", "summary.json"]
        code, said = self.hosts.run(STORAGE_HOST, line, self.folder / "look")
        return json.loads(said.splitlines()[-1]) if code == 0 else {"nodes": {}}

    def wait(self, node, job):
        """Wait until a node runs."""
        deadline = time.monotonic() + WHOLE_RUN_S
        while self.summary()["nodes"].get(node, {}).get("state") not in ("running", "done"):
            assert job.poll() is None, (self.folder / "job").read_text()[-3000:]
            assert time.monotonic() < deadline, (self.folder / "job").read_text()[-3000:]
            time.sleep(1)


@pytest.mark.skipif("RAYDISTILL_LONG" not in os.environ, reason="takes twelve minutes: make test-long")
@needs_namespaces
def test_a_whole_run_ends_in_a_verdict_though_hosts_are_lost(tmp_path):
    """Nothing is shared but the S3 server; nobody lends a hand."""
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as temporary, Hosts(temporary) as hosts:
        keys = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_DEFAULT_REGION": "us-east-1"}
        hosts.environment = keys | {"AWS_ENDPOINT_URL": hosts.store(STORAGE_HOST)}
        for host in range(3):
            hosts.add(host, jobs=host == 0)
        assert (
            hosts.run(STORAGE_HOST, [sys.executable, "-m", "tests.cluster.look", "s3://hosts"], tmp_path / "look")[0]
            == 0
        )
        address = f"http://{hosts.address(0)}:{DASHBOARD}"
        line = ["python", "jobs/distill.py", "--config", "tests/golden/micro.yaml", "--run-dir", "s3://hosts/run"]
        line += [word for pair in CHANGED.items() for word in ("--set", "=".join(pair))]
        submit = [RAY, "job", "submit", f"--address={address}", "--working-dir=.", "--"]
        deadline = time.monotonic() + PATIENCE_S
        while hosts.run(0, [RAY, "job", "list", f"--address={address}"], tmp_path / "list")[0]:
            assert time.monotonic() < deadline, hosts.said()
        with open(tmp_path / "job", "w") as log:
            job = hosts.start(0, [*submit, *line], log)
        run = Watched(hosts, tmp_path)
        run.wait("teacher", job)
        time.sleep(5)
        hosts.cut(1)
        run.wait("teacher_samples", job)
        time.sleep(5)
        hosts.cut(2)
        hosts.add(3)
        try:
            code = job.wait(WHOLE_RUN_S)
        except subprocess.TimeoutExpired:
            pytest.fail(f"{(tmp_path / 'job').read_text()[-2000:]}\n{hosts.said()}")
        said = (tmp_path / "job").read_text()
        assert code == 0, said[-3000:]
        summary = run.summary()
        assert summary["verdict"] in ("pass", "fail", "insufficient_evidence")
        assert {node["state"] for node in summary["nodes"].values()} <= {"done", "cached"}
        ids = [sys.executable, "-m", "tests.cluster.look", "s3://hosts/run", "teacher_samples"]
        found = json.loads(hosts.run(STORAGE_HOST, ids, tmp_path / "look")[1].splitlines()[-1])
        assert found == [f"teacher_samples-{number:08d}" for number in range(320)]
