"""Nodes that come and go while a training, or a pool of actors, runs: several raylets on this machine, one scene a process.

`python -m tests.cluster.driver SCENE FOLDER` writes into `FOLDER/said.json` what went wrong, and at which step the cluster
changed. A process of its own, as a process has one Ray. Its main thread holds the nodes, so the training has another.
"""

import json
import sys
import threading
import time
from functools import partial
from pathlib import Path

import ray
from ray.cluster_utils import Cluster
from ray.core.generated.autoscaler_pb2 import DRAIN_NODE_REASON_PREEMPTION

from raydistill.core.errors import RaydistillError
from raydistill.core.section import Compute
from raydistill.core.store import Store
from raydistill.distributed import watch
from raydistill.distributed.data import map_shards
from raydistill.distributed.environment import prepare_libraries
from raydistill.distributed.shards import cut
from raydistill.distributed.train import train
from tests.distributed.jobs import curve_job, options
from tests.distributed.toys import Curve, Numbers

BATCH, PAUSE_S, PATIENCE_S, RESIZE_S = 12, 0.15, 240.0, 2.0
NOTICE_S, HEARD_S = 12, 4
"""From the announcement to the end of a node, and until every worker has surely heard of it."""
RARE = {"checkpoint_every": 1000, "checkpoint_minutes": 1000, "log_every": 40}
HOW = {
    "lost": options(BATCH, steps=80),
    "grown": options(BATCH, steps=60),
    # Long enough for the notice to run out.
    "moved": options(BATCH, steps=160, **RARE),
    "shrunk": options(BATCH, steps=160, **RARE),
    "early": options(BATCH, steps=60, **RARE),
}
"""The optimizer's options of each scene."""
FAST = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 4}
"""Ray notices a dead node after two seconds instead of half a minute."""


def read(log):
    """(step, rows) of each part that was learned from, in the order of the log."""
    parts = [[int(word) for word in line.split()] for line in Path(log).read_text().splitlines()]
    return [(step, stop - start) for step, start, stop in parts]


class Gated(Curve):
    """A curve whose workers wait at some steps until a file is there."""

    def __init__(self, gates, **more):
        super().__init__(BATCH, pause=PAUSE_S, **more)
        self.gates = gates

    def loss(self, model, step, part, rows):
        loss = super().loss(model, step, part, rows)
        while step in self.gates and not Path(f"{self.log}.{step}").exists():
            time.sleep(0.05)
        return loss


class Scene:
    """A cluster whose head has one CPU, and a training on it."""

    def __init__(self, name, folder, workers, gates=(), max_failures=1, zero_stage=2):
        self.log, self.error, self.max_failures = folder / "log", None, max_failures
        make = partial(Gated, gates, log=str(self.log))
        self.job = curve_job(folder, workers, make, HOW[name], zero_stage=zero_stage)
        self.thread = threading.Thread(target=self._train, daemon=True)

    def __enter__(self):
        head = {"num_cpus": 1, "include_dashboard": False, "_system_config": FAST}
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        ray.init(address=self.cluster.address, log_to_driver=False)
        return self

    def __exit__(self, *_):
        ray.shutdown()
        self.cluster.shutdown()

    def _train(self):
        try:
            train(self.job, self.max_failures, resize_s=RESIZE_S)
        except RaydistillError as error:
            self.error = repr(error)

    def until(self, happened):
        """Wait until the parts say so; give the last step."""
        deadline = time.monotonic() + PATIENCE_S
        while not (self.log.exists() and (parts := read(self.log)) and happened(parts)):
            if time.monotonic() > deadline or not self.thread.is_alive():
                raise RuntimeError(f"the training didn't get that far: {self.error}")
            time.sleep(0.05)
        return parts[-1][0]

    def reach(self, step):
        return self.until(lambda parts: max(reached for reached, _ in parts) >= step)

    def open(self, gate):
        Path(f"{self.log}.{gate}").touch()

    def add(self):
        return self.cluster.add_node(num_cpus=1)

    def kill(self, node):
        self.cluster.remove_node(node, allow_graceful=False)

    def announce(self, node):
        """Say that a node will be taken away, as a cloud does; it's ours to kill when its time is over."""
        client = ray._raylet.GcsClient(address=self.cluster.gcs_address)
        deadline_ms = int(1000 * (time.time() + NOTICE_S))
        accepted, why = client.drain_node(node.node_id, DRAIN_NODE_REASON_PREEMPTION, "spot", deadline_ms)
        assert accepted, why

    def end(self, **said):
        self.thread.join(PATIENCE_S)
        return said | {"error": "the training hangs" if self.thread.is_alive() else self.error}


def lost(folder):
    """One of two nodes dies without a word; another comes."""
    with Scene("lost", folder, workers=2, zero_stage=3) as scene:
        second = scene.add()
        scene.thread.start()
        at = scene.reach(38)
        scene.kill(second)
        scene.add()
        return scene.end(at=at)


def grown(folder):
    """A node comes, and is lost later on."""
    with Scene("grown", folder, workers=(1, 2), gates=(15, 40)) as scene:
        scene.thread.start()
        scene.reach(15)
        second = scene.add()
        scene.until(lambda parts: min(rows for _, rows in parts) < BATCH)
        scene.open(15)
        scene.reach(40)
        scene.kill(second)
        scene.open(40)
        return scene.end()


def moved(folder):
    """A node is announced to go while another is free."""
    with Scene("moved", folder, workers=2, gates=(20,), max_failures=0) as scene:
        return _announced(scene, spares=1, gone_s=NOTICE_S + 3)


def shrunk(folder):
    """A node is announced to go, and nothing replaces it."""
    with Scene("shrunk", folder, workers=(1, 2), gates=(20,), max_failures=0) as scene:
        return _announced(scene, spares=0, gone_s=NOTICE_S + 3)


def early(folder):
    """A node goes before its time is over. Ray counts that as a failure, but the checkpoint is there."""
    with Scene("early", folder, workers=(1, 2), gates=(20,), max_failures=1) as scene:
        return _announced(scene, spares=0, gone_s=HEARD_S + 3)


def _announced(scene, spares, gone_s):
    second = scene.add()
    scene.thread.start()
    at = scene.reach(20)
    for _ in range(spares):
        scene.add()
    scene.announce(second)
    time.sleep(HEARD_S)
    scene.open(20)
    time.sleep(gone_s - HEARD_S)
    scene.kill(second)
    return scene.end(at=at)


class Slow(Numbers):
    """Takes its time over a piece and says on which node; after some pieces it waits until enough nodes have said so."""

    def __init__(self, log, nodes, pieces):
        super().__init__(log=log)
        self.nodes, self.pieces = nodes, pieces

    def __call__(self, piece):
        time.sleep(PAUSE_S)
        with open(f"{self.log}.nodes", "a") as lines:
            lines.write(f"{ray.get_runtime_context().get_node_id()}\n")
        while len(said := nodes_of(self.log)) > self.pieces and len(set(said)) < self.nodes:
            time.sleep(0.05)
        return super().__call__(piece)


def nodes_of(log):
    """The node of each piece that was begun."""
    nodes = Path(f"{log}.nodes")
    return nodes.read_text().split() if nodes.exists() else []


def pieces(folder, rows, nodes):
    """Compute pieces on whatever cluster there is, the last quarter not before so many nodes took part."""
    store = Store.open(str(folder))
    places = {"out": store / "out", "work": store / "work"}
    how = {"compute": Compute(num_workers=2, num_cpus=1), "progress": lambda *_: None}
    try:
        work = {"log": str(folder / "log"), "nodes": nodes, "pieces": 0.75 * rows / 10}
        map_shards(Slow, work, cut(rows, 250, 10), **places, **how)
    except RaydistillError as error:
        return repr(error)
    return None


def sampled(folder, spares):
    """A node is lost while pieces are computed on it; another comes, or none."""
    watch.STALL_S = 3.0
    error, seen = [], partial(nodes_of, folder / "log")
    head = {"num_cpus": 1, "include_dashboard": False, "_system_config": FAST}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    second = cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, log_to_driver=False)
    thread = threading.Thread(target=lambda: error.append(pieces(folder, 1000, 2 + spares)), daemon=True)
    thread.start()
    deadline = time.monotonic() + PATIENCE_S
    while len(set(seen())) < 2 or len(seen()) < 30:
        if time.monotonic() > deadline or not thread.is_alive():
            raise RuntimeError(f"the pieces didn't get that far: {error}")
        time.sleep(0.05)
    cluster.remove_node(second, allow_graceful=False)
    for _ in range(spares):
        cluster.add_node(num_cpus=1)
    thread.join(PATIENCE_S)
    ray.shutdown()
    cluster.shutdown()
    return {"nodes": seen(), "error": error[0] if error else "the job hangs"}


def joined(folder, address, rows):
    """Compute pieces on a cluster that others make and unmake."""
    ray.init(address=address, log_to_driver=False)
    error = pieces(folder, int(rows), 3)
    addresses = sorted({node["NodeManagerAddress"] for node in ray.nodes()})
    ray.shutdown()
    return {"addresses": addresses, "error": error}


replaced, unreplaced = partial(sampled, spares=1), partial(sampled, spares=0)

if __name__ == "__main__":
    prepare_libraries()
    place = Path(sys.argv[2])
    (place / "said.json").write_text(json.dumps(globals()[sys.argv[1]](place, *sys.argv[3:])))
