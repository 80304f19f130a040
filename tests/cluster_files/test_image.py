"""The Dockerfile passes its linter, pins what it starts from, copies what is let in, and its steps work in a plain folder."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import venv
from fnmatch import fnmatch
from pathlib import Path

import pytest
from dockerfile_parse import DockerfileParser

from tests.cluster_files.shipped import CLUSTER, ROOT

INSIDE = "/home/ray/raydistill"
STEPS = ("RUN", "COPY", "ENV", "ARG")
LEAVE = re.compile(r"apt-get|useradd")
"""What needs root and Debian."""
LIMIT_S = 900
SPEEDY = {
    # Half of what installing takes; what is imported here is compiled then.
    "PIP_COMPILE": "0",
    # What `make setup` built, such as DeepSpeed's wheel, is built already.
    "XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache")),
}
"""How a machine installs, not what."""


def stages():
    """Return the instructions of each stage, by its name, with the stage that it starts from."""
    found = {}
    for step in DockerfileParser(str(CLUSTER), env_replace=False).structure:
        if step["instruction"] == "FROM":
            start, _, name = step["value"].split()
            found[name] = (start, [])
        elif step["instruction"] != "COMMENT":
            found[name][1].append((step["instruction"], step["value"]))
    return found


def lint(file):
    hadolint = Path(sys.executable).with_name("hadolint")
    return subprocess.run([hadolint, "--no-color", file], capture_output=True, text=True, check=False)


def versions(lines):
    """Packages and versions, of a lock or of what is installed."""
    pairs = (line.split("==") for line in lines.splitlines() if "==" in line)
    return {name.lower().replace("_", "-").replace(".", "-"): version for name, version in pairs}


def copied():
    """What the stages take from the repository."""
    steps = [value.split() for _, steps in stages().values() for name, value in steps if name == "COPY"]
    return {word for words in steps if not words[0].startswith("--from") for word in words[:-1]}


class Built:
    """The stages of the Dockerfile, carried out in folders, with one environment of Python for all of them."""

    def __init__(self, folder):
        self.folder = folder
        self.variables = {"HOME": str(folder / "home")} | SPEEDY
        venv.create(folder / "python", with_pip=True)

    def stage(self, name):
        place = self.folder / name
        start, steps = stages()[name]
        if ":" in start:
            place.mkdir()
        else:
            shutil.copytree(self.folder / start, place)
        for instruction, value in steps:
            if instruction in STEPS:
                getattr(self, f"_{instruction.lower()}")(place, value)
        return place

    def run(self, place, script):
        here = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL"))}
        path = f"{self.folder / 'python' / 'bin'}:{here['PATH']}"
        line = ["bash", "-euo", "pipefail", "-c", script]
        said = subprocess.run(
            line, cwd=place, env=here | self.variables | {"PATH": path}, capture_output=True, text=True, check=False
        )
        assert said.returncode == 0, f"{script}\n{said.stdout}{said.stderr}"
        return said.stdout

    def _run(self, place, value):
        if not LEAVE.search(value):
            self.run(place, value)

    def _copy(self, place, value):
        words = [word.rstrip("/") or "." for word in value.split()]
        there = ROOT
        if words[0].startswith("--from="):
            there = self.folder / words.pop(0).partition("=")[2]
        for word in words[:-1]:
            source = there / word.removeprefix(INSIDE + "/")
            if source.is_dir():
                shutil.copytree(source, place / words[-1], ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, place / words[-1])

    def _env(self, place, value):
        for word in shlex.split(value):
            self._arg(place, word)

    def _arg(self, place, value):
        name, _, default = value.partition("=")
        # Where packages come from and where they are kept is this machine's affair, as it is for `make setup`.
        if name != "HOME" and not name.startswith("PIP_"):
            self.variables[name] = default


def test_the_linter_has_nothing_to_say():
    said = lint(CLUSTER / "Dockerfile")
    assert (said.returncode, said.stdout) == (0, "")


@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        ("FROM python:3.11.14-slim-bookworm", "FROM python", "DL3006"),
        ("USER 1000:1000", "USER root", "DL3002"),
        ("WORKDIR /home", "WORKDIR home", "DL3000"),
    ],
)
def test_the_linter_finds_a_planted_mistake(old, new, rule, tmp_path):
    file = tmp_path / "Dockerfile"
    content = (CLUSTER / "Dockerfile").read_text()
    assert old in content
    file.write_text(content.replace(old, new))
    said = lint(file)
    assert said.returncode == 1
    assert rule in said.stdout


def test_both_targets_start_from_one_pinned_image_and_end_without_root():
    found = stages()
    assert set(found) == {"base", "wheel", "cpu", "cuda"}
    image, tag = found["base"][0].split(":")
    assert image == "python"
    python = tuple(int(number) for number in re.match(r"(\d+)\.(\d+)\.(\d+)-", tag).groups())
    least = re.search(r'requires-python = ">=([\d.]+)"', (ROOT / "pyproject.toml").read_text())[1]
    assert python[:2] >= tuple(int(number) for number in least.split("."))
    for target in ("cpu", "cuda"):
        start, steps = found[target]
        assert start == "base"
        assert steps[-1] == ("USER", "1000:1000")


def test_everything_is_installed_as_make_does_and_torch_first():
    made = re.findall(r"-m pip install (.*)", (ROOT / "Makefile").read_text())
    for target in ("cpu", "cuda"):
        found = stages()
        steps = [value for stage in ("base", target) for name, value in found[stage][1] if name == "RUN"]
        asked = [match for step in steps for match in re.findall(r"-m pip install ([^&]*)", step)]
        assert len(asked) == len(made) == 3
        assert all("-c constraints.txt" in line for line in asked)
        assert [line.strip() for line in asked[:2]] == [line.strip() for line in made[:2]]


def test_nothing_gets_in_but_what_is_copied():
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    assert {line[1:] for line in lines if line.startswith("!")} == copied()
    assert all((ROOT / name).exists() for name in copied())
    assert not any(fnmatch(name, "*secret*") or name.startswith((".", "runs")) for name in copied())


@pytest.mark.slow
@pytest.mark.timeout(LIMIT_S)
def test_the_steps_of_the_cpu_target_make_a_raydistill_that_works(tmp_path):
    built = Built(tmp_path)
    for name in ("base", "wheel", "cpu"):
        place = built.stage(name)
    assert sorted(path.name for path in place.iterdir()) == ["constraints.txt", "jobs", "wheels"]
    # The installed package, as the folder has none, with the files it brings.
    said = built.run(place, "raydistill config --config jobs/nih64.yaml --set preset=spot_sampling --set source.path=x")
    assert "role: sampling" in said
    where = built.run(place, "python -c 'import raydistill; print(raydistill.__file__)'")
    assert where.startswith(str(tmp_path / "python"))
    pins = versions((ROOT / "constraints.txt").read_text())
    have = versions(built.run(place, "python -m pip freeze --all"))
    # All are in the lock; a build for CPUs alone says so behind a plus.
    assert {name: version.partition("+")[0] for name, version in have.items()} == {
        name: pins.get(name) for name in have
    }
    assert {"boto3", "datasets", "google-api-python-client", "pydicom", "ray", "torch", "deepspeed"} <= set(have)
    assert not {"pytest", "ruff", "moto"} & set(have)
