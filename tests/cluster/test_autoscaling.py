"""An autoscaler's nodes come for the sampling stage and go when there is nothing to do; what can't come is refused at once.

Ray's autoscaler v2, whose provider starts raylets on this machine instead of machines.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import psutil
import pyarrow as pa
import pytest
import yaml

from raydistill.core.columns import SAMPLES
from raydistill.core.config import ClusterConfig
from raydistill.core.generation import SampleConfig
from raydistill.core.section import Compute
from raydistill.core.store import Store
from raydistill.core.training import DiffusionConfig
from raydistill.data.prompts import FREQUENCIES
from raydistill.diffusion.components import prepare_initial
from raydistill.distributed.capacity import grown, lack, present
from raydistill.distributed.environment import prepare_libraries
from raydistill.distributed.session import session
from raydistill.stages.base import Context
from raydistill.stages.sample import Sample
from tests.cluster.test_nodes import SETTINGS, ended, said_by, without_ray

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]

HEAD_ID = 51 * "f" + "00000"
"""The name under which Ray's provider of pretended nodes knows the head."""
ROLE, MOST, PATIENCE_S, IDLE_MINUTES = {"role": "sampling"}, 2, 150.0, 0.1
ROWS = 96
COMMANDS = ("setup", "head_setup", "worker_setup", "initialization", "head_start_ray", "worker_start_ray")


def launcher(port):
    """What `ray up` would be given: a head, and up to two nodes for sampling."""
    return {
        "cluster_name": "pretended",
        "max_workers": MOST,
        "idle_timeout_minutes": IDLE_MINUTES,
        "provider": {
            "type": "external",
            "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
            "head_node_id": HEAD_ID,
            "launch_multiple": True,
            "gcs_address": f"127.0.0.1:{port}",
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
        },
        "auth": {},
        **{f"{name}_commands": [] for name in COMMANDS},
        "file_mounts": {},
        "cluster_synced_files": [],
        "docker": {},
        "head_node_type": "ray.head.default",
        "available_node_types": {
            "ray.head.default": {"resources": {"CPU": 1}, "node_config": {}, "max_workers": 0},
            "sampling": {
                "resources": {"CPU": 1, "object_store_memory": 100 * 2**20},
                "labels": ROLE,
                "node_config": {},
                "min_workers": 0,
                "max_workers": MOST,
            },
        },
    }


@contextmanager
def cluster(folder):
    """Start a head with an autoscaler; give its address and the launcher's file."""
    with socket.socket() as free, tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as own:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        file = folder / "cluster.yaml"
        file.write_text(yaml.safe_dump(launcher(port)))
        settings = without_ray()
        settings |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled", "OMP_NUM_THREADS": "1"}
        settings |= {"RAY_FAKE_CLUSTER": "1", "RAY_enable_autoscaler_v2": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1"}
        settings |= {"RAY_CLOUD_INSTANCE_ID": HEAD_ID, "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD_ID}
        ray = [Path(sys.executable).with_name("ray"), "start", "--head", f"--port={port}", f"--temp-dir={own}"]
        size = ["--num-cpus=1", f"--object-store-memory={100 * 2**20}", "--include-dashboard=false"]
        line = [*ray, *size, "--node-ip-address=127.0.0.1", f"--autoscaling-config={file}"]
        subprocess.run(line, env=settings, check=True, stdout=subprocess.DEVNULL, timeout=120)
        try:
            yield f"127.0.0.1:{port}", file
        finally:
            for process in psutil.process_iter(["cmdline"]):
                if any(own in word for word in process.info["cmdline"] or ()):
                    process.kill()


def sample(folder, address, file):
    """Join the cluster, refuse what it can't have, sample, and wait; say how many nodes there were at every moment."""
    os.environ["RAY_ADDRESS"] = address
    counts, stop, start = [], threading.Event(), time.monotonic()
    config = ClusterConfig(autoscaling_config=str(file))
    compute = Compute(num_workers=MOST, label_selector=ROLE)
    with session(config):
        import ray

        def watch():
            while not stop.wait(0.2):
                counts.append((time.monotonic() - start, sum(node["Alive"] for node in ray.nodes())))

        later = grown(config)
        said = {
            "waits": lack("samples", compute, False, present(), later),
            "never": lack("samples", compute.model_copy(update={"num_cpus": 2.0}), False, present(), later),
            "all": later.workers(Compute(num_workers=1)),
        }
        thread = threading.Thread(target=watch)
        thread.start()
        model = DiffusionConfig(block_out_channels=(32, 64), text_hidden_size=32)
        prepare_initial(model, resolution=16, seed=0, folder=folder / "model")
        store = Store.open(str(folder))
        asked = {"num_samples": ROWS, "num_inference_steps": 60, "batch_size": 4, "rows_per_piece": 4}
        stage = Sample("samples", SampleConfig(**asked, rows_per_shard=48, compute=compute), {}, seed=5)
        inputs = {"model": store / "model", "prompts": store / "prompts"}
        began = time.monotonic() - start
        stage.run(Context(inputs=inputs, out=store / "out", work=store / "work", seed=stage.seed))
        ended, deadline = time.monotonic() - start, time.monotonic() + PATIENCE_S
        while counts[-1][1] > 1 and time.monotonic() < deadline:
            time.sleep(0.5)
        stop.set()
        thread.join()
    lacks = {name: [lack.said, lack.never] for name, lack in said.items() if name != "all"}
    return lacks | {"error": None, "all": said["all"], "counts": counts, "began": began, "ended": ended}


def test_nodes_come_for_the_samples_and_go_when_there_is_nothing_to_do(tmp_path):
    prompts = pa.Table.from_pylist([{"prompt": "chest x-ray", "count": 9}], schema=FREQUENCIES)
    Store.open(str(tmp_path)).write_table("prompts/part-0.parquet", prompts)
    with cluster(tmp_path) as (address, file):
        line = [sys.executable, "-m", "tests.cluster.test_autoscaling", str(tmp_path), address, str(file)]
        said = said_by(ended(line, without_ray() | SETTINGS, tmp_path, 480), tmp_path)
    assert said["waits"] == [
        "samples asks for 1 worker of 1 CPU, label role=sampling, and there is room for 0 now",
        False,
    ]
    assert said["never"][0].endswith("and there is room for 0 at most")
    assert said["never"][1]
    assert said["all"] == 1 + MOST
    counts = said["counts"]
    seen = "\n".join(f"{at:.1f} s: {nodes} nodes" for at, nodes in counts)
    assert {nodes for at, nodes in counts if at < said["began"]} <= {1}, seen
    assert max(nodes for at, nodes in counts if said["began"] < at < said["ended"]) == 1 + MOST, seen
    assert counts[-1][1] == 1, seen
    made = Store.open(str(tmp_path)) / "out" / "samples"
    assert made.read_table().schema == SAMPLES
    assert made.read_table().num_rows == ROWS


if __name__ == "__main__":
    prepare_libraries()
    place = Path(sys.argv[1])
    (place / "said.json").write_text(json.dumps(sample(place, *sys.argv[2:])))
