"""Hosts with addresses of their own: network namespaces, joined by a bridge. One is cut off, another comes."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import pytest

from raydistill.core.store import Store
from raydistill.distributed.session import LOCAL_ENVIRONMENT
from tests.cluster.driver import nodes_of
from tests.cluster.test_nodes import ROOT, SETTINGS, said_by, without_ray

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]

RAY = Path(sys.executable).with_name("ray")
PORT, PATIENCE_S = 6379, 240.0
ROWS = 1000
HEALTH = {
    # Ray notices a host that doesn't answer after seconds instead of half a minute.
    "RAY_health_check_initial_delay_ms": "0",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_failure_threshold": "6",
}


def ip(*words, check=True):
    return subprocess.run(["ip", *words], check=check, capture_output=True, text=True)


class Hosts:
    """Namespaces around a bridge that is in one of its own."""

    def __init__(self, temporary):
        self.name, self.temporary, self.running = f"rd{os.getpid()}", temporary, []

    def __enter__(self):
        ip("netns", "add", self.space("hub"))
        ip("-n", self.space("hub"), "link", "add", "bridge", "type", "bridge")
        ip("-n", self.space("hub"), "link", "set", "bridge", "up")
        return self

    def __exit__(self, *_):
        for process in self.running:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        for line in ip("netns", "list").stdout.splitlines():
            if line.startswith(self.name):
                ip("netns", "del", line.split()[0])

    def space(self, host):
        return f"{self.name}-{host}"

    @staticmethod
    def address(host):
        return f"10.77.0.{host + 1}"

    def add(self, host):
        """Plug a host in and start Ray on it; the first is the head."""
        space, cable = self.space(host), f"v{host}"
        ip("netns", "add", space)
        ip("-n", space, "link", "add", "eth0", "type", "veth", "peer", "name", cable, "netns", self.space("hub"))
        ip("-n", self.space("hub"), "link", "set", cable, "master", "bridge", "up")
        ip("-n", space, "addr", "add", f"{self.address(host)}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            ip("-n", space, "link", "set", device, "up")
        head = ["--head", f"--port={PORT}", "--include-dashboard=false"]
        joining = [f"--address={self.address(0)}:{PORT}"]
        line = [RAY, "start", "--block", f"--node-ip-address={self.address(host)}", "--num-cpus=1"]
        line += [f"--object-store-memory={100 * 2**20}", f"--temp-dir={self.temporary}/{host}"]
        with open(f"{self.temporary}/host-{host}", "w") as log:
            self.start(host, [*line, *(head if host == 0 else joining)], log)

    def said(self):
        """Return the end of what each host's Ray said."""
        return "\n".join(f"{path.name}: {path.read_text()[-1000:]}" for path in Path(self.temporary).glob("host-*"))

    def start(self, host, line, log):
        """Start a process on a host."""
        settings = without_ray()
        settings |= {k: v for k, v in SETTINGS.items() if k not in (*LOCAL_ENVIRONMENT, "RAY_ADDRESS")} | HEALTH
        settings |= {"PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
        line = ["ip", "netns", "exec", self.space(host), *map(str, line)]
        how = {"env": settings, "cwd": ROOT, "stdout": log, "stderr": log, "start_new_session": True}
        process = subprocess.Popen(line, **how)
        self.running.append(process)
        return process

    def cut(self, host):
        """Pull a host's cable."""
        ip("-n", self.space("hub"), "link", "set", f"v{host}", "down")


def can_make_namespaces():
    try:
        made = ip("netns", "add", "rd-probe", check=False).returncode == 0
    except FileNotFoundError:
        return False
    ip("netns", "del", "rd-probe", check=False)
    return made


@pytest.mark.skipif(not can_make_namespaces(), reason="this machine gives no network namespaces")
def test_a_host_is_cut_off_and_another_comes(tmp_path):
    with (
        tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as temporary,
        Hosts(temporary) as hosts,
        open(tmp_path / "errors", "w") as errors,
    ):
        hosts.add(0)
        hosts.add(1)
        line = [sys.executable, "-m", "tests.cluster.driver", "joined", tmp_path, f"{hosts.address(0)}:{PORT}", ROWS]
        driver, deadline = hosts.start(0, line, errors), time.monotonic() + PATIENCE_S

        seen = partial(nodes_of, tmp_path / "log")
        while len(set(seen())) < 2 or len(seen()) < 30:
            assert driver.poll() is None, (tmp_path / "errors").read_text()[-3000:]
            assert time.monotonic() < deadline, (tmp_path / "errors").read_text()[-3000:]
            time.sleep(0.1)
        hosts.cut(1)
        hosts.add(2)
        try:
            driver.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            pytest.fail(f"{len(seen())} pieces begun on {len(set(seen()))} hosts, then nothing\n{hosts.said()}")
        said = said_by(driver, tmp_path)
        assert len(set(seen())) == 3, "the third host did nothing"
        assert said["addresses"] == sorted(map(hosts.address, (0, 1, 2)))
        out = Store.open(str(tmp_path / "out"))
        assert out.read_table()["number"].to_pylist() == list(range(ROWS))
        assert len(seen()) <= ROWS / 10 + 4
