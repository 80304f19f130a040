"""An object store that is busy, slow, or loses its writer half-way."""

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pyarrow as pa
import pytest

from raydistill.core.store import ATTEMPTS, Store

BUSY = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
IN_A_ROW = 3
"""Pyarrow's own patience ends after as many; a third of a second, one and two lie between ours."""


class Faults:
    """What a server does to the requests that come next."""

    def __init__(self, app):
        self.app, self.busy, self.pause, self.seen = app, 0, 0.0, []

    def __call__(self, environ, start_response):
        self.seen.append((environ["REQUEST_METHOD"], environ.get("QUERY_STRING", "")))
        time.sleep(self.pause)
        if not self.busy:
            return self.app(environ, start_response)
        self.busy -= 1
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        headers = [("Content-Type", "application/xml"), ("Content-Length", str(len(BUSY)))]
        start_response("503 Slow Down", headers)
        return [BUSY]


@pytest.fixture(scope="module")
def faulty():
    """Start an S3 server with faults; give these, and a store as a worker gets it."""
    import boto3
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    faults = Faults(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, faults, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    here = f"127.0.0.1:{server.server_port}"
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "test")
        boto3.client("s3", endpoint_url=f"http://{here}", region_name="us-east-1").create_bucket(Bucket="faulty")
        uri = f"s3://faulty/run?endpoint_override={here}&scheme=http&region=us-east-1"
        yield faults, pickle.loads(pickle.dumps(Store.open(uri))), uri
    server.shutdown()


def test_a_busy_store_is_asked_again_by_workers_too(faulty):
    faults, store, _ = faulty
    assert ATTEMPTS > IN_A_ROW
    table = pa.table({"x": range(3)})
    faults.busy = IN_A_ROW
    store.write_table("part-0.parquet", table)
    assert faults.busy == 0
    faults.busy = IN_A_ROW
    assert store.read_table().equals(table)
    assert faults.busy == 0


def test_a_slow_store_is_waited_for(faulty):
    faults, store, _ = faulty
    faults.pause = 1.5
    try:
        store.write_bytes("slow", b"content")
        assert store.read_bytes("slow") == b"content"
    finally:
        faults.pause = 0.0


def test_of_an_upload_whose_process_is_killed_nothing_is_there(faulty):
    faults, store, uri = faulty
    faults.seen.clear()
    faults.pause = 0.3
    code = f"from raydistill.core.store import Store; Store.open({uri!r}).write_bytes('large', bytes(64 << 20))"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[2], env=os.environ)
    try:
        deadline = time.monotonic() + 60
        while not any("partNumber=" in query for _, query in faults.seen):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
        faults.pause = 0.0
    assert not any(method == "POST" and "uploadId=" in query for method, query in faults.seen)
    assert not store.exists("large")
    assert "large" not in store.files()
    store.write_bytes("large", b"small")
    assert store.read_bytes("large") == b"small"
