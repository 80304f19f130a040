"""Whether a cluster has room for a stage, or could grow until it has: counted from what is said of it, never probed."""

import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from yaml import YAMLError

from raydistill.core.config import ClusterConfig
from raydistill.core.errors import ConfigError
from raydistill.core.section import SELECTOR, Compute

BOOTSTRAP = "~/ray_bootstrap_config.yaml"
"""Where `ray up` leaves the launcher's configuration on the head node."""
MISTAKES = (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError)
"""What Ray raises, among others, for a file that isn't what it should be."""
NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
"""Where Kubernetes says in which namespace a pod lives."""


@dataclass(frozen=True)
class Kind:
    """Nodes that are alike.

    Attributes:
        resources: of one node, by Ray's names: CPU, GPU, memory in bytes, accelerator_type:NAME.
        labels: of each.
        count: how many there are, or can be.
    """

    resources: Mapping[str, float]
    labels: Mapping[str, str] = field(default_factory=dict)
    count: int = 1

    def workers(self, compute: Compute) -> int:
        """How many workers fit on one node."""
        if not self._suits(compute):
            return 0
        asked = {"CPU": compute.num_cpus, "memory": compute.memory_bytes}
        fits = [int(self.resources.get(name, 0) / wanted) for name, wanted in asked.items() if wanted]
        return min(*fits, self._by_gpu(compute.num_gpus)) if compute.num_gpus else min(fits)

    def _suits(self, compute: Compute) -> bool:
        chosen = all(_selects(wanted, self.labels.get(label)) for label, wanted in compute.label_selector.items())
        known = [name for name in self.resources if name.startswith("accelerator_type:")]
        # A launcher's configuration needn't say which GPU a node has.
        typed = not (compute.accelerator_type and known) or f"accelerator_type:{compute.accelerator_type}" in known
        return chosen and typed

    def _by_gpu(self, wanted: float) -> int:
        there = self.resources.get("GPU", 0)
        # A share of a GPU lies on one.
        return int(there) * int(1 / wanted) if wanted < 1 else int(there / wanted)


@dataclass(frozen=True)
class Room:
    """The nodes of a cluster, as they are or as they could be.

    Attributes:
        kinds: nodes that come and go.
        most: how many of them there can be in all; None where only each kind's count says.
        head: the node that stays.
    """

    kinds: Sequence[Kind]
    most: int | None = None
    head: Kind | None = None

    @property
    def nodes(self) -> int:
        """How many nodes there are at most, the head among them."""
        return self._others + (self.head is not None)

    @property
    def _others(self) -> int:
        return sum(kind.count for kind in self.kinds) if self.most is None else self.most

    def workers(self, compute: Compute) -> int:
        """How many workers fit at once, with nothing else running."""
        left = self._others
        found = self.head.workers(compute) if self.head else 0
        for fit, count in sorted(((kind.workers(compute), kind.count) for kind in self.kinds), reverse=True):
            taken = min(left, count)
            left, found = left - taken, found + taken * fit
        return found


@dataclass(frozen=True)
class Lack:
    """A stage for which the cluster has no room, in words; `never` where it won't ever have."""

    said: str
    never: bool


def lack(node: str, compute: Compute, is_gang: bool, now: Room, later: Room | None) -> Lack | None:
    """Say what a cluster lacks for a stage; Ray itself waits for it without a word.

    Args:
        node: who asks.
        compute: what it asks for.
        is_gang: whether it needs all of its workers at once; a pool of actors makes do with one.
        now: the nodes that there are.
        later: those that there can be; None where nobody can say.

    Returns:
        What is asked for, and whether it is worth to wait; None when there is room.
    """
    wanted = compute.min_workers if is_gang else 1
    there = now.workers(compute)
    if there >= wanted:
        return None
    asked = f"{node} asks for {wanted} worker{'s' * (wanted > 1)} of {_words(compute)}{' at once' * (wanted > 1)}"
    most = wanted if later is None else later.workers(compute)
    if most >= wanted:
        return Lack(f"{asked}, and there is room for {there} now", never=False)
    return Lack(f"{asked}, and there is room for {most} at most", never=True)


def _words(compute: Compute) -> str:
    said = [f"{compute.num_cpus:g} CPU{'s' * (compute.num_cpus > 1)}"]
    if compute.num_gpus:
        said.append(f"{compute.num_gpus:g} {compute.accelerator_type or 'GPU'}{'s' * (compute.num_gpus > 1)}")
    if compute.memory_gb:
        said.append(f"{compute.memory_gb:g} GiB")
    said += [f"label {label}={value}" for label, value in compute.label_selector.items()]
    return ", ".join(said)


def _selects(wanted: str, has: str | None) -> bool:
    match = re.fullmatch(SELECTOR, wanted)
    negated, one, several = match.groups(default="") if match else ("", wanted, "")
    return (has in [value.strip() for value in (one or several).split(",")]) != bool(negated)


def local(num_cpus: int) -> Room:
    """The room of the Ray that is started on this machine, whose GPUs and memory nobody has looked at."""
    return Room([Kind({"CPU": num_cpus, "GPU": sys.maxsize, "memory": sys.maxsize})])


def present() -> Room:
    """The living nodes of the connected cluster."""
    import ray

    return Room([Kind(node["Resources"], node["Labels"]) for node in ray.nodes() if node["Alive"]])


def grown(config: ClusterConfig) -> Room | None:
    """Return the nodes that the connected cluster can grow to, as its autoscaler was told.

    Args:
        config: may say that more come by hand, or where the launcher's file is.

    Returns:
        Today's nodes where nothing speaks of an autoscaler; None where nobody can say what may come.

    Raises:
        ConfigError: when the file that is named can't be used.
    """
    if config.grows:
        return None
    file = Path(config.autoscaling_config or BOOTSTRAP).expanduser()
    if config.autoscaling_config or file.is_file():
        return _of_launcher(file)
    if "KUBERNETES_SERVICE_HOST" in os.environ and "RAY_CLUSTER_NAME" in os.environ:
        return _of_kubernetes(os.environ["RAY_CLUSTER_NAME"])
    return _of_platform() or present()


def _of_launcher(file: Path) -> Room | None:
    from click import ClickException
    from jsonschema import ValidationError
    from ray.autoscaler.v2.instance_manager.config import FileConfigReader

    try:
        return _of_types(FileConfigReader(str(file)).get_cached_autoscaling_config())
    except (*MISTAKES, YAMLError, ValidationError, ClickException) as error:
        said = " ".join(str(error).split())[:200]
        raise ConfigError(f"cluster.autoscaling_config {file} isn't a launcher's configuration: {said}") from error


def _of_kubernetes(cluster: str) -> Room | None:
    from ray.autoscaler.v2.instance_manager.config import AutoscalingConfigProducer, KubeRayConfigReader

    try:
        producer = AutoscalingConfigProducer(cluster, NAMESPACE.read_text().strip())
        return _of_types(KubeRayConfigReader(producer).get_cached_autoscaling_config())
    except (OSError, ValueError, LookupError):
        # Its service account may not read what a RayCluster is.
        return None


def _of_types(config: Any) -> Room | None:
    types = config.get_node_type_configs()
    if not any(kind.resources for kind in types.values()):
        # Machines of one's own: the launcher knows their addresses, not what they have.
        return None
    head = config.get_head_node_type()
    kinds = {name: Kind(kind.resources, kind.labels, kind.max_worker_nodes) for name, kind in types.items()}
    return Room(
        [kind for name, kind in kinds.items() if name != head], config.get_max_num_worker_nodes(), kinds.get(head)
    )


def _of_platform() -> Room | None:
    """What a platform's own autoscaler told the cluster's store."""
    from ray._private.state import state

    said = state.get_cluster_config()
    groups: Iterable[Any] = said.node_group_configs if said else ()
    kinds = [Kind(dict(group.resources), {}, group.max_count if group.max_count >= 0 else 10**6) for group in groups]
    return Room(kinds) if kinds else None
