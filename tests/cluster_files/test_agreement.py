"""What has to be the same everywhere is; every preset finds room; no file holds a secret or opens a port to the world."""

import json
import re
from types import SimpleNamespace

import pytest
import yaml
from dockerfile_parse import DockerfileParser

import raydistill
from raydistill.core.loading import load_config
from raydistill.distributed.capacity import lack
from raydistill.pipeline import wire
from tests.cluster_files.shipped import (
    CLOUDS,
    CLUSTER,
    FILES,
    LAUNCHERS,
    MANIFESTS,
    ROOT,
    cluster_spec,
    groups,
    launcher,
    manifests,
    pinned,
    room,
    values,
)

PRESETS = ["laptop", "one_gpu", "8xh100", "spot_sampling"]
GROWING = [*CLOUDS, "rayjob", "raycluster"]
SECRET = re.compile(r"token|secret|password|passwd|credential|access_?key|api_?key|private_?key", re.IGNORECASE)
REFERENCE = re.compile(r"(auth_?token)?_?path$|secretname$|^ssh_private_key$|^automountserviceaccounttoken$|^httptokens$|^tokenizers_", re.IGNORECASE)
PUBLIC = {"hostPort", "hostNetwork", "enableIngress", "externalIPs", "accessConfigs", "AssociatePublicIpAddress"}
PRIVATE = re.compile(r"-----BEGIN|AKIA[0-9A-Z]{16}|\b(ghp|hf|sk)_?[A-Za-z0-9]{20,}")


def documents():
    for path in FILES:
        for document in yaml.safe_load_all(path.read_text()):
            yield path.relative_to(CLUSTER).as_posix(), document


def held(document):
    """Name what looks like a secret that is there itself, and not as the name of where it is."""
    for path, value in values(document):
        named, last = str(path[-1]), str(value)
        # `{name: X, value: Y}` is how Kubernetes writes a variable, `--env X=Y` how Docker does.
        if named == "value":
            below = document
            for key in path[:-1]:
                below = below[key]
            named = below["name"]
        for name, _ in [(named, last), *re.findall(r"--env[ =](\w+)=(\S+)", last)]:
            if SECRET.search(name) and not REFERENCE.search(name):
                yield name
        if PRIVATE.search(last):
            yield last
    if isinstance(document, dict) and document.get("kind") == "Secret":
        yield document["metadata"]["name"]


def opened(document):
    """Name what would listen where the world can reach it."""
    for path, value in values(document):
        yield from (key for key in path if key in PUBLIC and value)
        if path[-1] in ("type", "serviceType") and value in ("LoadBalancer", "NodePort"):
            yield value
        if any(str(key).endswith("run_options") for key in path):
            yield from re.findall(r"-p|--publish", str(value))
        yield from re.findall(r"--dashboard-host=(?!127\.0\.0\.1(?: |$))\S*", str(value))
        if str(value).startswith("ray start --head") and "--dashboard-host=" not in str(value):
            yield "dashboard"
    if isinstance(document, dict) and document.get("kind") in ("Ingress", "Service"):
        yield document["kind"]


def test_ray_has_one_version():
    ray = pinned("ray")
    project = (ROOT / "pyproject.toml").read_text()
    least, below = re.search(r'"ray\[[^]]*\]>=([\d.]+),<([\d.]+)"', project).groups()
    assert ray.rsplit(".", 1)[0] == least
    assert int(below.split(".")[1]) == int(least.split(".")[1]) + 1
    dockerfile = (CLUSTER / "Dockerfile").read_text()
    assert set(re.findall(r"^ARG RAY_VERSION=(.+)$", dockerfile, re.MULTILINE)) == {ray}
    assert {cluster_spec(name)["rayVersion"] for name in ("rayjob", "raycluster")} == {ray}


def test_images_have_one_name_and_say_which_versions_are_inside():
    wanted = f"raydistill:{raydistill.__version__}-ray{pinned('ray')}-"
    places = [*FILES, CLUSTER / "Dockerfile", CLUSTER / "README.md"]
    found = {(path.name, name) for path in places for name in re.findall(r"\braydistill:\d\S*", path.read_text())}
    assert {name for _, name in found} == {wanted + "cpu", wanted + "cuda"}
    assert {file for file, _ in found} == {*(f"{name}.yaml" for name in [*LAUNCHERS, "rayjob", "raycluster"]), "Dockerfile", "README.md"}


@pytest.mark.parametrize("name", LAUNCHERS)
def test_the_head_has_no_cuda_and_workers_have(name):
    docker = launcher(name)["docker"]
    assert docker["head_image"].endswith("-cpu")
    assert docker["worker_image"].endswith("-cuda")


@pytest.mark.parametrize("name", ["rayjob", "raycluster"])
def test_pods_without_a_gpu_have_no_cuda(name):
    for group in groups(cluster_spec(name)):
        image = group["template"]["spec"]["containers"][0]["image"]
        assert image.endswith("-cuda" if "groupName" in group else "-cpu")


@pytest.mark.parametrize("name", GROWING)
@pytest.mark.parametrize("preset", PRESETS)
def test_every_stage_of_a_preset_finds_room(name, preset, tmp_path):
    stages = [stage for stage in wire(load_config(ROOT / "jobs" / "nih64.yaml", [f"preset={preset}", "source.path=x"])) if stage.compute]
    assert len(stages) > 10
    there = room(name, tmp_path)
    assert [short.said for stage in stages if (short := lack(stage.node, stage.compute, stage.is_gang, there, there))] == []
    if preset == "spot_sampling":
        for stage in stages:
            assert there.workers(stage.compute) >= stage.compute.max_workers, stage.node


@pytest.mark.parametrize("name", GROWING)
def test_what_nobody_has_is_lacking(name, tmp_path):
    there = room(name, tmp_path)
    config = load_config(None, ["preset=spot_sampling"])
    for change in ({"label_selector": {"role": "other"}}, {"accelerator_type": "A100"}, {"num_gpus": 16}):
        asked = config.teacher.compute.model_copy(update=change)
        assert lack("teacher", asked, True, there, there).never


def test_machines_of_ones_own_are_waited_for(tmp_path):
    asked = load_config(None, ["preset=spot_sampling"]).teacher.compute
    nothing = SimpleNamespace(workers=lambda compute: 0)
    assert room("onprem", tmp_path) is None
    assert not lack("teacher", asked, True, nothing, room("onprem", tmp_path)).never


def test_no_file_holds_a_secret():
    assert [(name, secret) for name, document in documents() for secret in held(document)] == []


@pytest.mark.parametrize(
    "planted",
    [
        {"env_vars": {"AWS_SECRET_ACCESS_KEY": "x"}},
        {"env": [{"name": "RAY_AUTH_TOKEN", "value": "x"}]},
        {"run_options": ["--env RAY_AUTH_TOKEN=x"]},
        {"kind": "Secret", "metadata": {"name": "x"}},
        {"setup_commands": ["echo AKIAABCDEFGHIJKLMNOP"]},
    ],
)
def test_a_planted_secret_is_found(planted):
    assert len(list(held(planted))) == 1


def test_no_file_opens_a_port_to_the_world():
    assert [(name, what) for name, document in documents() for what in opened(document)] == []
    inside = [spec["headGroupSpec"]["rayStartParams"]["dashboard-host"] for spec in map(cluster_spec, ("rayjob", "raycluster"))]
    # The operator asks a job's head; tests/cluster_files/test_kuberay.py says who else can.
    assert inside == ["0.0.0.0", "127.0.0.1"]
    assert all(launcher(name)["provider"]["use_internal_ips"] for name in CLOUDS)
    for kind in launcher("aws")["available_node_types"].values():
        assert [card["AssociatePublicIpAddress"] for card in kind["node_config"]["NetworkInterfaces"]] == [False]


@pytest.mark.parametrize(
    "planted",
    [
        {"head_start_ray_commands": ["ray start --head --port=6379"]},
        {"head_start_ray_commands": ["ray start --head --dashboard-host=127.0.0.1", "ray start --dashboard-host=0.0.0.0"]},
        {"run_options": ["--publish 8265:8265"]},
        {"ports": [{"containerPort": 8265, "hostPort": 8265}]},
        {"headGroupSpec": {"serviceType": "LoadBalancer"}},
        {"NetworkInterfaces": [{"AssociatePublicIpAddress": True}]},
        {"networkInterfaces": [{"accessConfigs": {"type": "ONE_TO_ONE_NAT"}}]},
        {"kind": "Ingress", "metadata": {"name": "x"}},
    ],
)
def test_a_planted_hole_is_found(planted):
    assert list(opened(planted))


@pytest.mark.parametrize("name", LAUNCHERS)
def test_no_node_starts_without_a_token(name):
    options = launcher(name)["docker"]["run_options"]
    (path,) = [option.partition("=")[2] for option in options if "RAY_AUTH_TOKEN_PATH=" in option]
    assert "--env RAY_AUTH_MODE=token" in options
    assert path.rpartition("/")[0] in launcher(name)["file_mounts"]
    environment = DockerfileParser(str(CLUSTER), env_replace=False).content
    assert "RAY_AUTH_MODE=token" in environment
    for spec in map(cluster_spec, ("rayjob", "raycluster")):
        assert spec["authOptions"] == {"mode": "token", "secretName": "raydistill-token"}


def test_the_readme_says_what_to_put_for_every_placeholder():
    said = (CLUSTER / "README.md").read_text()
    for path in FILES:
        for name in set(re.findall(r"CHANGE-ME-[\w-]+", path.read_text())):
            known = f"`{name}`" in said or f"`{re.sub('-of-.*', '-of-', name)}" in said
            assert known, f"{path.name}: {name}"


def test_every_manifest_is_yaml_that_json_can_hold():
    for name in MANIFESTS:
        assert json.loads(json.dumps(manifests(name))) == manifests(name)
