"""Hosts with addresses of their own, for tests: network namespaces around a bridge, one Ray on each."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from raydistill.distributed.environment import LOCAL_ENVIRONMENT
from tests.cluster.test_nodes import ROOT, SETTINGS, without_ray

RAY = Path(sys.executable).with_name("ray")
PORT, DASHBOARD, STORAGE = 6379, 8265, 9000
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
        self.environment: dict[str, str] = {}

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

    def plug(self, host):
        """Give a host a network."""
        space, cable = self.space(host), f"v{host}"
        ip("netns", "add", space)
        ip("-n", space, "link", "add", "eth0", "type", "veth", "peer", "name", cable, "netns", self.space("hub"))
        ip("-n", self.space("hub"), "link", "set", cable, "master", "bridge", "up")
        ip("-n", space, "addr", "add", f"{self.address(host)}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            ip("-n", space, "link", "set", device, "up")

    def add(self, host, jobs=False):
        """Plug a host in and start Ray on it; the first is the head, which may take jobs."""
        self.plug(host)
        head = ["--head", f"--port={PORT}", f"--include-dashboard={str(jobs).lower()}"]
        head += ["--dashboard-host=0.0.0.0", f"--dashboard-port={DASHBOARD}"] if jobs else []
        joining = [f"--address={self.address(0)}:{PORT}"]
        line = [RAY, "start", "--block", f"--node-ip-address={self.address(host)}", "--num-cpus=1"]
        line += [f"--object-store-memory={100 * 2**20}", f"--temp-dir={self.temporary}/{host}"]
        with open(f"{self.temporary}/host-{host}", "w") as log:
            self.start(host, [*line, *(head if host == 0 else joining)], log)

    def store(self, host):
        """Plug a host in that is an S3 server and nothing else; return its address."""
        self.plug(host)
        line = [sys.executable, "-m", "moto.server", "-H", self.address(host), "-p", str(STORAGE)]
        with open(f"{self.temporary}/storage", "w") as log:
            self.start(host, line, log)
        return f"http://{self.address(host)}:{STORAGE}"

    def said(self):
        """Return the end of what each host's Ray said."""
        return "\n".join(f"{path.name}: {path.read_text()[-1000:]}" for path in Path(self.temporary).glob("host-*"))

    def start(self, host, line, log):
        """Start a process on a host."""
        settings = without_ray()
        settings |= {k: v for k, v in SETTINGS.items() if k not in (*LOCAL_ENVIRONMENT, "RAY_ADDRESS")} | HEALTH
        settings |= {"PATH": f"{RAY.parent}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
        settings |= {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
        # The machine's own name leads to an address that no namespace has.
        settings |= {"GLOO_SOCKET_IFNAME": "eth0"} | self.environment
        line = ["ip", "netns", "exec", self.space(host), *map(str, line)]
        how = {"env": settings, "cwd": ROOT, "stdout": log, "stderr": log, "start_new_session": True}
        process = subprocess.Popen(line, **how)
        self.running.append(process)
        return process

    def run(self, host, line, log):
        """Run a command on a host to its end; return its exit code and what it said."""
        with open(log, "w+") as written:
            code = self.start(host, line, written).wait()
            written.seek(0)
            return code, written.read()

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


needs_namespaces = pytest.mark.skipif(not can_make_namespaces(), reason="this machine gives no network namespaces")
