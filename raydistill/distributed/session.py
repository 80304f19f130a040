"""Joining a Ray cluster, or starting a local Ray that listens on loopback only, and hearing from its workers.

A cluster is joined when `RAY_ADDRESS` names one that answers (`ray job submit` sets it). Otherwise a local Ray starts.
"""

import logging
import os
import re
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from raydistill.core.config import ClusterConfig
from raydistill.core.errors import ConfigError, RaydistillError
from raydistill.core.interrupt import end_as_by_interrupt
from raydistill.core.progress import Progress
from raydistill.core.scratch import sweep
from raydistill.core.section import Compute

CONNECT_TIMEOUT_S = 5.0
POLL_S = 0.5
HEARD = b"Set ray log level from environment variable RAY_BACKEND_LOG_LEVEL"
RAISED = re.compile(r"[A-Za-z_][\w.]*(Error|Exception|Exit|Interrupt)\b.*")
"""The line that ends a Python traceback."""

LIBRARY_ENVIRONMENT = {
    "TRANSFORMERS_VERBOSITY": "error",
    "DIFFUSERS_VERBOSITY": "error",
    # Importing DeepSpeed on the driver looks for a device and warns; workers are told theirs by configuration.
    "DS_ACCELERATOR": "cpu",
    # Several libraries each bring a pool of spinning threads; on few cores they are ten times slower than one thread.
    "OMP_NUM_THREADS": "1",
    # Ray Data's actors make Ray's core warn at every pool.
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    # What was asked of a host that is cut off without a word is given up, and asked elsewhere, after this much; Ray's
    # own seven minutes look as if a run hung.
    "RAY_grpc_client_keepalive_time_ms": "10000",
    "RAY_grpc_client_keepalive_timeout_ms": "60000",
    # Ray Tune's newer reporter prints a box whatever its verbosity.
    "RAY_AIR_NEW_OUTPUT": "0",
    # Ctrl-C would end a search early and go on with the trials that there are.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # TensorBoard would show a run of its own for every trial beside the search's HParams.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
}

LOCAL_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # A Ray that stays on this machine binds to loopback; the variable's name is Ray's, the effect is not OS-bound.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_AUTH_MODE": "disabled",
    "RAY_DEDUP_LOGS": "0",
    # Nobody gives notice that a laptop is about to be taken away; a process less to start.
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
}


def prepare_libraries() -> None:
    """Keep libraries from chattering and from spinning; call it before they are imported. A set variable wins."""
    for name, value in LIBRARY_ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def reachable_address() -> str | None:
    """Return `RAY_ADDRESS` if a cluster answers there, else None."""
    address = os.environ.get("RAY_ADDRESS", "")
    if address in ("", "local"):
        return None
    if address == "auto" or "://" in address:
        return address
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_TIMEOUT_S).close()
    except (OSError, ValueError):
        logging.getLogger(__name__).warning("no Ray cluster answers at %s: starting a local Ray", address)
        os.environ.pop("RAY_ADDRESS")
        return None
    return address


CLUSTER: ContextVar[ClusterConfig | None] = ContextVar("CLUSTER", default=None)
"""What is said of the cluster that this process is connected to."""


@contextmanager
def session(config: ClusterConfig) -> Iterator[dict[str, Any]]:
    """Join or start Ray for the time of a run.

    Args:
        config: size of the local Ray; not used when a cluster is joined.

    Yields:
        `{"address", "nodes", "cpus", "gpus", "is_local"}` as the cluster says.
    """
    address = reachable_address()
    CLUSTER.set(config)
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", str(config.health_check_interval_s))
    with _joined(address) if address else _started(config):
        _quiet()
        # Ray's own handler dumps a stack and aborts.
        end_as_by_interrupt()
        yield {**describe(), "is_local": address is None}
    # Ray ends its workers without asking: what they kept on this machine is left to us.
    sweep()


@contextmanager
def _joined(address: str) -> Iterator[None]:
    import ray

    try:
        with _unheard():
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, ignore_reinit_error=True)
    except ConnectionError as error:
        raise RaydistillError(
            f"no Ray cluster answers at RAY_ADDRESS={address}: start one, or unset the variable for a local Ray"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _started(config: ClusterConfig) -> Iterator[None]:
    # Else Ray Train's cleaner asks the Ray last started on this machine, and ends a training unknown to it.
    os.environ["RAY_ADDRESS"] = "local"
    # A stage starts a process a CPU, and a few that need none: no cause for a warning.
    at_once = {"RAY_worker_maximum_startup_concurrency": str(2 * config.num_cpus)}
    for name, value in (LOCAL_ENVIRONMENT | at_once).items():
        os.environ.setdefault(name, value)
    import ray
    from ray._private import ray_constants

    # The variable above for this process, should Ray have been imported before it was set.
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        _start(config)
        yield
    finally:
        ray.shutdown()
        os.environ.pop("RAY_ADDRESS")


def _start(config: ClusterConfig) -> None:
    import ray

    try:
        with _unheard():
            ray.init(
                address="local",
                num_cpus=config.num_cpus,
                object_store_memory=config.object_store_mb * 2**20,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
    except ValueError as error:
        # This machine has less memory than that.
        said = " ".join(str(error).split())
        raise ConfigError(
            f"no Ray can be started here with cluster.object_store_mb {config.object_store_mb}: {said} Lower it, take "
            "another preset, or join a larger cluster through RAY_ADDRESS"
        ) from error


@contextmanager
def _unheard() -> Iterator[None]:
    """Leave out of standard error that Ray's core heard which level to log at: it says so past Python, always."""
    sys.stderr.flush()
    with os.fdopen(os.dup(2), "wb") as real, tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(real.fileno(), 2)
            said.seek(0)
            real.writelines(line for line in said if HEARD not in line)


def describe() -> dict[str, Any]:
    """What the connected cluster has: its address, living nodes, CPUs and GPUs."""
    import ray

    resources = ray.cluster_resources()
    return {
        "address": ray.get_runtime_context().gcs_address,
        "nodes": sum(node["Alive"] for node in ray.nodes()),
        "cpus": resources.get("CPU", 0.0),
        "gpus": resources.get("GPU", 0.0),
    }


def require_shared(is_local: bool, uri: str, now: int, later: int | None) -> None:
    """Refuse a local run folder on a cluster of several nodes, or one that can become that.

    Args:
        is_local: whether the run folder is a local path.
        uri: it, to show.
        now: nodes that there are.
        later: nodes that there can be; None where nobody can say.

    Raises:
        ConfigError: when workers on other nodes could not see what is written there.
    """
    if not is_local or (now == 1 and later == 1) or os.environ.get("RAYDISTILL_SHARED_DISK"):
        return
    how = f"has {now} nodes" if now > 1 else f"can grow to {later} nodes" if later else "can grow"
    raise ConfigError(
        f"the run folder {uri} is a local path and the cluster {how}: use a URI all of them reach "
        "(s3://…, gs://…), or set RAYDISTILL_SHARED_DISK=1 if the path is on a shared disk"
    )


def root_cause(error: BaseException) -> str:
    """Return in one line what a worker's failure was about: Ray's messages carry the worker's traceback as text."""
    said = [line.strip() for line in str(error).splitlines()]
    named = [line for line in said if RAISED.match(line) and not line.startswith("ray.")]
    return (named or [line for line in said if line] or [type(error).__name__])[-1]


def claims(compute: Compute) -> dict[str, Any]:
    """Translate a stage's compute section into what Ray reserves for one worker, as options of a task or an actor."""
    wanted = {
        "num_cpus": compute.num_cpus,
        "num_gpus": compute.num_gpus,
        "accelerator_type": compute.accelerator_type,
        "memory": compute.memory_bytes,
        "label_selector": dict(compute.label_selector),
        "scheduling_strategy": "SPREAD" if compute.placement == "spread" else None,
    }
    return {name: value for name, value in wanted.items() if value}


def here() -> Any:
    """The scheduling strategy of what must live where the driver does; Ray itself puts what claims nothing anywhere."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)


class _Board:
    """An actor that keeps the last word of a running job."""

    def __init__(self) -> None:
        self.last: tuple[int, int, str] | None = None
        self.rows: list[Any] = []

    def post(self, done: int, total: int, unit: str) -> None:
        self.last = (done, total, unit)

    def add(self, total: int, unit: str) -> None:
        self.last = (1 + (self.last[0] if self.last else 0), total, unit)

    def tell(self, row: Any) -> None:
        self.rows.append(row)

    def read(self) -> tuple[tuple[int, int, str] | None, list[Any]]:
        return self.last, self.rows


@contextmanager
def board(progress: Progress, found: Callable[[list[Any]], None] | None = None) -> Iterator[Any]:
    """Give workers a handle through which they reach the driver.

    It has `post.remote(done, total, unit)`, `add.remote(total, unit)` for one more done, and `tell.remote(row)`.

    Args:
        progress: called on a thread of the driver, about twice a second while something changes.
        found: called there with all rows that were told, when there are more.

    Yields:
        A Ray actor handle; pass it to workers.
    """
    import ray

    actor = ray.remote(num_cpus=0, scheduling_strategy=here())(_Board).remote()
    stop = threading.Event()

    def poll() -> None:
        seen, told, over = None, 0, False
        while not over:
            over = stop.wait(POLL_S)
            try:
                last, rows = ray.get(actor.read.remote())
            except ray.exceptions.RayError:  # the job has its own way of saying that its cluster is gone
                return
            if last and last != seen:
                seen = last
                progress(*last)
            if found and len(rows) > told:
                told = len(rows)
                found(rows)

    thread = threading.Thread(target=poll, daemon=True)
    thread.start()
    try:
        yield actor
    finally:
        stop.set()
        thread.join()
        ray.kill(actor)


def _quiet() -> None:
    """Send Ray Data's and Ray Train's chatter to their log files; raydistill has its own progress line."""
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    for name in ("ray.data", "ray.train", "ray.tune"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
