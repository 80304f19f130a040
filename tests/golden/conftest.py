"""One whole run on the real engines, on a local S3 server: what the golden tests look at.

It starts on a local Ray, is killed twice, and is finished by `ray job submit` on a cluster of its own.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from raydistill.core.store import Store
from tests.conftest import PLANTED

ROOT = Path(__file__).parents[2]
RAY = Path(sys.executable).with_name("ray")
ENVIRONMENT = {
    "PYTHONPATH": str(ROOT),
    "PATH": f"{RAY.parent}{os.pathsep}{os.environ['PATH']}",
    # No address of a Ray that other tests have started in this process.
    "RAY_ADDRESS": "",
    "RAY_AUTH_MODE": "disabled",
    **dict.fromkeys(("HF_TOKEN", "WANDB_API_KEY", "MLFLOW_TRACKING_PASSWORD"), PLANTED),
}
MICRO = Path(__file__).parent / "micro.yaml"
SENT = "runtime_resources"
"""Where Ray unpacks the working directory, these tests among it."""
KILL_DURING = ("teacher", "teacher_samples")
LIMIT_S = 1500


def command(run_uri, *more, config=MICRO):
    return [sys.executable, "jobs/distill.py", "--config", str(config), "--run-dir", run_uri, *more]


def run_to_end(run_uri, *more, config=MICRO, **environment):
    return finished(command(run_uri, *more, config=config), **ENVIRONMENT | environment)


def finished(line, **environment):
    """Run a command in the project's folder to its end."""
    how = {"cwd": ROOT, "capture_output": True, "text": True, "timeout": LIMIT_S, "check": False}
    return subprocess.run(line, env=os.environ | environment, **how)


@contextmanager
def cluster(folder=None):
    """A Ray cluster of one node, as `ray start --head` makes it; gives the address that jobs are submitted to.

    Its session, with all of Ray's logs, is in that folder; a socket's path is short, so the folder's must be.
    """
    ports = [free_port() for _ in range(4)]
    line = [RAY, "start", "--head", "--block", "--num-cpus=4", f"--object-store-memory={200 * 2**20}"]
    line += [f"--temp-dir={folder}"] if folder else []
    line += ["--node-ip-address=127.0.0.1", f"--port={ports[0]}", "--dashboard-host=127.0.0.1"]
    # The agent's port too: where another Ray of this machine has the usual one, no agent takes a job.
    line += [f"--dashboard-port={ports[1]}", f"--ray-client-server-port={ports[2]}"]
    line += [f"--dashboard-agent-listen-port={ports[3]}"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True, "cwd": ROOT}
    settings = ENVIRONMENT | {"RAY_USAGE_STATS_ENABLED": "0"}
    process = subprocess.Popen(line, env=os.environ | settings, **quiet)
    try:
        yield wait_for(f"http://127.0.0.1:{ports[1]}", process)
    finally:
        process.terminate()
        process.wait(60)


def wait_for(address, process):
    deadline = time.monotonic() + 120
    while finished([RAY, "job", "list", f"--address={address}"], **ENVIRONMENT).returncode:
        assert process.poll() is None, "the cluster ended"
        assert time.monotonic() < deadline, "no cluster answers"
    return address


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def submit(address, run_uri):
    """Run the job as the README says, with the project's folder as working directory."""
    line = [RAY, "job", "submit", f"--address={address}", "--working-dir=.", "--", "python", *command(run_uri)[1:]]
    line[line.index(str(MICRO))] = str(MICRO.relative_to(ROOT))
    deadline = time.monotonic() + 120
    while True:
        done = finished(line, **ENVIRONMENT)
        # A cluster lists jobs before it has an agent that takes one.
        if "No available agent" not in done.stderr or time.monotonic() > deadline:
            return done
        time.sleep(1)


def run_and_kill(run_uri, node):
    """Start the job and SIGKILL its driver once a node is running."""
    settings = {"env": os.environ | ENVIRONMENT, "cwd": ROOT, "start_new_session": True}
    process = subprocess.Popen(command(run_uri, "--quiet"), **settings)
    store, deadline = Store.open(run_uri), time.monotonic() + LIMIT_S
    try:
        while time.monotonic() < deadline:
            assert process.poll() is None, f"the job ended before {node} ran"
            if store.exists("summary.json") and state(store, node) == "running":
                time.sleep(2)
                break
            time.sleep(0.5)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def artifact(golden, node):
    """The folder of a node's artifact in the finished run."""
    return golden["store"] / node / golden["summary"]["nodes"][node]["key"]


def state(store, node):
    try:
        return json.loads(store.read_bytes("summary.json"))["nodes"][node]["state"]
    except (json.JSONDecodeError, OSError):
        return None


@pytest.fixture(scope="session")
def golden(s3_server):
    """The finished run: its store, its summary, and what the last command said."""
    import boto3

    boto3.client("s3", endpoint_url=s3_server).create_bucket(Bucket="golden")
    uri = "s3://golden/run"
    for node in KILL_DURING:
        run_and_kill(uri, node)
    with tempfile.TemporaryDirectory(prefix="rd", ignore_cleanup_errors=True) as folder:
        with cluster(folder) as address:
            done = submit(address, uri)
        logs = {
            str(path): path.read_bytes()
            for path in Path(folder).rglob("*")
            if path.is_file() and SENT not in path.parts
        }
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    store = Store.open(uri)
    return {"uri": uri, "store": store, "summary": store.read_json("summary.json"), "said": done, "logs": logs}
