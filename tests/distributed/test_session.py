"""A local Ray: who can reach it, and who can't end what it runs."""

import subprocess
import sys

import pytest

from raydistill.core.errors import ConfigError
from raydistill.distributed.session import require_shared

PORTS = """
import ipaddress, ray
from raydistill.core.config import ClusterConfig
from raydistill.core.errors import ConfigError
from raydistill.distributed.environment import prepare_libraries
from raydistill.distributed.session import session
import psutil

prepare_libraries()
try:
    with session(ClusterConfig(num_cpus=1, object_store_mb=10**8)):
        raise SystemExit("a hundred terabytes were found")
except ConfigError as error:
    print(error)
with session(ClusterConfig(num_cpus=1, object_store_mb=100)):
    ray.get(ray.remote(num_cpus=0)(lambda: None).remote())
    family = [psutil.Process(), *psutil.Process().children(recursive=True)]
    held = [place.laddr for process in family for place in process.net_connections() if place.status == "LISTEN"]
    hosts = {ipaddress.ip_address(host) for host, _ in held}
    mapped = {getattr(host, "ipv4_mapped", None) or host for host in hosts}
    print(len(held), sorted(str(host) for host in mapped if not host.is_loopback))
"""


def ran(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=280, check=True)
    # Each line of a log is ours.
    assert done.stderr == ""
    return done.stdout


@pytest.mark.ray
def test_ports_are_on_loopback_even_if_ray_was_imported_before():
    refused, said = ran(PORTS).splitlines()
    assert refused.startswith("no Ray can be started here with cluster.object_store_mb 100000000: ")
    count, others = said.split(maxsplit=1)
    assert int(count) > 4
    assert others.strip() == "[]"


@pytest.mark.parametrize(
    ("now", "later", "said"),
    [(2, 2, "has 2 nodes"), (1, 35, "can grow to 35 nodes"), (1, None, "can grow: ")],
)
def test_a_local_run_folder_is_refused_where_others_will_be_on_other_nodes(monkeypatch, now, later, said):
    monkeypatch.delenv("RAYDISTILL_SHARED_DISK", raising=False)
    with pytest.raises(ConfigError, match=f"/runs/x is a local path and the cluster {said}"):
        require_shared(True, "/runs/x", now, later)
    require_shared(False, "s3://bucket/x", now, later)
    require_shared(True, "/runs/x", 1, 1)
    monkeypatch.setenv("RAYDISTILL_SHARED_DISK", "1")
    require_shared(True, "/runs/x", now, later)


def test_planning_does_not_import_ray():
    assert ran("import raydistill.pipeline, sys; print('ray' in sys.modules)").strip() == "False"
