"""The files of `cluster/`, read as those who use them would."""

import re
from pathlib import Path

import yaml
from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

from raydistill.core.config import ClusterConfig
from raydistill.distributed.capacity import grown

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster"
CLOUDS = ["aws", "gcp"]
LAUNCHERS = [*CLOUDS, "onprem"]
MANIFESTS = ["rayjob", "raycluster", "access"]
ROLES = {"training", "student", "sampling"}
FILES = sorted(path for path in CLUSTER.rglob("*.y*ml"))


def launcher(name):
    return yaml.safe_load((CLUSTER / "ray-up" / f"{name}.yaml").read_text())


def manifests(name):
    return list(yaml.safe_load_all((CLUSTER / "kuberay" / f"{name}.yaml").read_text()))


def cluster_spec(name):
    """The cluster that a job brings with it, or that stays."""
    (document,) = manifests(name)
    return document["spec"]["rayClusterSpec"] if name == "rayjob" else document["spec"]


def groups(spec):
    """Every group of pods: the head's and the workers'."""
    return [spec["headGroupSpec"], *spec["workerGroupSpecs"]]


def room(name, folder):
    """What a cluster of this file can grow to, as a run on it would hear."""
    file = folder / "cluster.yaml"
    if name in LAUNCHERS:
        config = launcher(name)
        if "ssh_private_key" in config["auth"]:
            # On the head it lies elsewhere, and Ray looks into it.
            (folder / "key.pem").write_text("")
            config["auth"]["ssh_private_key"] = str(folder / "key.pem")
        file.write_text(yaml.safe_dump(config))
    else:
        named = {"metadata": {"name": name, "namespace": "n"}, "spec": cluster_spec(name)}
        file.write_text(yaml.safe_dump(_derive_autoscaling_config_from_ray_cr(named)))
    return grown(ClusterConfig(autoscaling_config=str(file)))


def pinned(package):
    (found,) = re.findall(rf"^{re.escape(package)}==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    return found


def values(node, path=()):
    """Every leaf of a document, with the keys that lead to it."""
    if isinstance(node, dict | list):
        for key, below in node.items() if isinstance(node, dict) else enumerate(node):
            yield from values(below, (*path, key))
    else:
        yield path, node
