"""A job that was handed to a cluster: followed to its own exit code, and left running where who follows goes away."""

import os
import signal
import subprocess
import sys
import time

import pytest
from ray.job_submission import JobStatus, JobSubmissionClient

from raydistill.core.errors import ConfigError, InputError
from raydistill.submitting import INTERRUPTED, environment_of, submit
from tests.golden.conftest import ENVIRONMENT, ROOT, cluster, finished

LIMIT_S = 240


@pytest.fixture(scope="module")
def address():
    with cluster() as found, pytest.MonkeyPatch.context() as here:
        # This process may have a Ray of its own, which a client would ask instead.
        here.setenv("RAY_API_SERVER_ADDRESS", found)
        yield found


def line(address, *job):
    return [sys.executable, "-m", "raydistill", "submit", "--address", address, *job]


@pytest.mark.ray
@pytest.mark.slow
def test_a_job_s_own_exit_code_and_log_come_back(address, tmp_path):
    # Of two clusters the one that was named is meant.
    elsewhere = ENVIRONMENT | {"RAY_ADDRESS": "127.0.0.1:1"}
    said = finished(line(address, "audit", "--set", "nmae=x", "--images", str(tmp_path)), **elsewhere)
    assert said.returncode == 2, said.stderr
    assert "nmae: unknown key; did you mean name?" in said.stdout
    job = said.stdout.split()[1]
    assert f"job {job} ended with exit code 2" in said.stdout
    assert JobSubmissionClient(address).get_job_info(job).entrypoint.startswith("python jobs/audit.py --set nmae=x")


@pytest.mark.ray
@pytest.mark.slow
def test_who_stops_following_leaves_the_job_running(address, tmp_path):
    job = ["distill", "--config", "tests/golden/micro.yaml", "--run-dir", str(tmp_path / "run")]
    how = {"stdout": subprocess.PIPE, "text": True, "cwd": ROOT, "env": os.environ | ENVIRONMENT}
    process = subprocess.Popen(line(address, *job), **how)
    client = JobSubmissionClient(address)
    try:
        name = process.stdout.readline().split()[1]
        deadline = time.monotonic() + LIMIT_S
        while client.get_job_status(name) != JobStatus.RUNNING and time.monotonic() < deadline:
            time.sleep(1)
        process.send_signal(signal.SIGINT)
        rest = process.communicate(timeout=60)[0]
        assert process.returncode == INTERRUPTED
        assert f"job {name} goes on" in rest
        assert f"ray job stop --address {address} {name}" in rest
        assert client.get_job_status(name) == JobStatus.RUNNING
        assert client.stop_job(name)
    finally:
        process.kill()


def test_what_looks_like_a_secret_is_not_handed_over(tmp_path):
    file = tmp_path / "env.yaml"
    file.write_text("env_vars: {RAYDISTILL_LOG_FORMAT: json, AWS_SECRET_ACCESS_KEY: x}")
    with pytest.raises(ConfigError, match=r"env_vars\.AWS_SECRET_ACCESS_KEY looks like a secret"):
        environment_of(file)
    file.write_text("env_vars: {RAYDISTILL_LOG_FORMAT: json}")
    assert environment_of(file) == {"env_vars": {"RAYDISTILL_LOG_FORMAT": "json"}}
    file.write_text("[a")
    with pytest.raises(InputError, match=r"env\.yaml"):
        environment_of(file)


def test_a_folder_without_jobs_and_an_address_that_does_not_answer_are_said(tmp_path, monkeypatch):
    for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(InputError, match=r"holds no jobs/distill\.py"):
        submit("http://127.0.0.1:1", "distill", [], tmp_path, None, print)
    with pytest.raises(InputError, match=r"no job could be submitted to http://127\.0\.0\.1:1"):
        submit("http://127.0.0.1:1", "distill", [], ROOT, None, print)
