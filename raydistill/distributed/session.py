"""Joining a Ray cluster, or starting a local Ray that listens on loopback only.

A cluster is joined when `RAY_ADDRESS` names one that answers (`ray job submit` sets it). Otherwise a local Ray starts.
"""

import logging
import os
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from raydistill.core.config import ClusterConfig
from raydistill.core.errors import ConfigError, RaydistillError
from raydistill.core.interrupt import end_as_by_interrupt
from raydistill.core.scratch import sweep
from raydistill.distributed.environment import LOCAL_ENVIRONMENT

CONNECT_TIMEOUT_S = 5.0
HEARD = b"Set ray log level from environment variable RAY_BACKEND_LOG_LEVEL"


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


def _quiet() -> None:
    """Send Ray Data's and Ray Train's chatter to their log files; raydistill has its own progress line."""
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    for name in ("ray.data", "ray.train", "ray.tune"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
