"""One whole run on the real engines, on a local S3 server, killed on the way: what the golden tests look at."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from raydistill.core.store import Store

ROOT = Path(__file__).parents[2]
MICRO = Path(__file__).parent / "micro.yaml"
KILL_DURING = ("teacher", "teacher_samples")
LIMIT_S = 900


def command(run_uri, *more):
    return [sys.executable, "jobs/distill.py", "--config", str(MICRO), "--run-dir", run_uri, *more]


def run_to_end(run_uri, *more):
    return subprocess.run(
        command(run_uri, *more), cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )


def run_and_kill(run_uri, node):
    """Start the job and SIGKILL its driver once a node is running."""
    process = subprocess.Popen(command(run_uri, "--quiet"), cwd=ROOT, start_new_session=True)
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
    done = run_to_end(uri)
    assert done.returncode == 0, done.stderr[-3000:]
    store = Store.open(uri)
    return {"uri": uri, "store": store, "summary": store.read_json("summary.json"), "said": done}
