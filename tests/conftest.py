"""One local Ray for all tests that need it."""

import os
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# A busy machine isn't a failure.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")
os.environ |= {"RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
os.environ.pop("RAY_ADDRESS", None)


@pytest.fixture(scope="session")
def local_ray():
    from raydistill.core.config import ClusterConfig
    from raydistill.distributed.session import session

    with session(ClusterConfig(num_cpus=4, object_store_mb=200)) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def gpu(local_ray):
    """Fail, rather than skip, where a GPU was asked for and there is none."""
    if not local_ray["gpus"]:
        pytest.fail("Ray sees no GPU here")


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    """Lay a folder into an empty cache of the Hugging Face hub, as a download leaves it: `lay(folder, id, revision)`."""
    from huggingface_hub import constants

    from raydistill.diffusion import folder as folders
    from tests.diffusion import hub

    # What was found once in a process is remembered.
    folders._of_hub.cache_clear()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return partial(hub.lay, tmp_path / "hub")


PLANTED = "planted-5ecret"
"""In every variable that holds a secret: it must not turn up in anything that a run writes."""


@pytest.fixture(scope="session")
def s3_server():
    """Start a local S3 server and point this process and its workers at it."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    settings = {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": PLANTED,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
    }
    before = {name: os.environ.get(name) for name in settings}
    os.environ |= settings
    yield settings["AWS_ENDPOINT_URL"]
    server.stop()
    for name, value in before.items():
        os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)


@pytest.fixture
def s3_bucket(s3_server, request):
    """Make a fresh bucket and give its URI."""
    import boto3

    name = "test-" + "".join(c for c in request.node.name.lower() if c.isalnum())[:40]
    boto3.client("s3", endpoint_url=s3_server).create_bucket(Bucket=name)
    return f"s3://{name}"


@pytest.fixture(scope="session")
def gs_server():
    """Start a local server of Google's storage and point this process and its workers at it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    line = [Path(sys.executable).with_name("gcp-storage-emulator"), "start", "--in-memory", "--host=127.0.0.1"]
    server = subprocess.Popen([*line, f"--port={port}"], stderr=subprocess.DEVNULL)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("CLOUD_STORAGE_EMULATOR_ENDPOINT", f"http://127.0.0.1:{port}")
            yield
    finally:
        server.kill()
        server.wait()


@pytest.fixture
def gs_bucket(gs_server, request):
    """Make a fresh bucket of Google's and give its URI."""
    from pyarrow import fs

    name = "test-" + "".join(c for c in request.node.name.lower() if c.isalnum())[:40]
    fs.GcsFileSystem(anonymous=True, project_id="test").create_dir(name)
    return f"gs://anonymous@{name}"


@pytest.fixture(params=["s3", "gs"])
def bucket(request):
    """Give the URI of a fresh bucket on either."""
    return request.getfixturevalue(f"{request.param}_bucket")
