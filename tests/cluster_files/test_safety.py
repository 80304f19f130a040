"""No file holds a secret, opens a port to the world or starts a node without a token; and planted ones are found."""

import re

import pytest
import yaml
from dockerfile_parse import DockerfileParser

from tests.cluster_files.shipped import CLOUDS, CLUSTER, FILES, LAUNCHERS, cluster_spec, launcher, values

SECRET = re.compile(r"token|secret|password|passwd|credential|access_?key|api_?key|private_?key", re.IGNORECASE)
REFERENCE = re.compile(
    r"(auth_?token)?_?path$|secretname$|^ssh_private_key$|^automountserviceaccounttoken$|^httptokens$|^tokenizers_",
    re.IGNORECASE,
)
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
        if "ray start --head" in str(value) and "--dashboard-host=" not in str(value):
            yield "dashboard"
    if isinstance(document, dict) and document.get("kind") in ("Ingress", "Service"):
        yield document["kind"]


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
    inside = [
        spec["headGroupSpec"]["rayStartParams"]["dashboard-host"]
        for spec in map(cluster_spec, ("rayjob", "raycluster"))
    ]
    # The operator asks a job's head; tests/cluster_files/test_kuberay.py says who else can.
    assert inside == ["0.0.0.0", "127.0.0.1"]
    assert all(launcher(name)["provider"]["use_internal_ips"] for name in CLOUDS)
    for kind in launcher("aws")["available_node_types"].values():
        assert [card["AssociatePublicIpAddress"] for card in kind["node_config"]["NetworkInterfaces"]] == [False]


@pytest.mark.parametrize(
    "planted",
    [
        {"head_start_ray_commands": ["ray start --head --port=6379"]},
        {
            "head_start_ray_commands": [
                "ray start --head --dashboard-host=127.0.0.1",
                "ray start --dashboard-host=0.0.0.0",
            ]
        },
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
