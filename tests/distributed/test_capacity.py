"""Room is counted as Ray would fill it; what can never be is told from what comes later."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from raydistill.core.config import ClusterConfig
from raydistill.core.errors import ConfigError
from raydistill.core.section import Compute
from raydistill.distributed.capacity import Kind, Room, grown, lack, local

GPUS = Kind({"CPU": 96, "GPU": 8, "memory": 2**40, "accelerator_type:H100": 1}, {"role": "training"}, 2)
CPUS = Kind({"CPU": 16, "memory": 64 * 2**30}, {"role": "head"})
CLUSTER = Room([CPUS, GPUS])
LAUNCHER = {
    "cluster_name": "c",
    "max_workers": 6,
    "provider": {"type": "aws", "region": "eu-central-1"},
    "auth": {"ssh_user": "ray"},
    "head_node_type": "head",
    "available_node_types": {
        "head": {"resources": {"CPU": 4}, "node_config": {}},
        **{
            role: {"resources": size, "labels": {"role": role}, "min_workers": 0, "max_workers": 4, "node_config": {}}
            for role, size in (("training", {"CPU": 96, "GPU": 8}), ("sampling", {"CPU": 8, "GPU": 1}))
        },
    },
}


@pytest.mark.parametrize(
    ("asked", "fit"),
    [
        ({}, 16 + 2 * 96),
        ({"num_gpus": 1}, 16),
        ({"num_gpus": 1, "num_cpus": 24}, 8),
        ({"num_gpus": 0.3}, 2 * 8 * 3),
        ({"num_gpus": 3}, 4),
        ({"num_gpus": 1, "accelerator_type": "H100"}, 16),
        ({"num_gpus": 1, "accelerator_type": "A100"}, 0),
        ({"num_cpus": 4, "memory_gb": 60}, 1 + 2 * 17),
        ({"label_selector": {"role": "head"}}, 16),
        ({"label_selector": {"role": "!head"}}, 192),
        ({"label_selector": {"role": "in(head, other)"}}, 16),
        ({"label_selector": {"role": "!in(head,training)"}}, 0),
        ({"label_selector": {"zone": "a"}}, 0),
        ({"label_selector": {"zone": "!a"}}, 208),
    ],
)
def test_workers_are_counted_by_everything_they_claim(asked, fit):
    assert CLUSTER.workers(Compute(**asked)) == fit


@given(
    cpus=st.lists(st.integers(0, 8), min_size=1, max_size=5),
    asked=st.integers(1, 4),
    most=st.integers(0, 6),
)
def test_no_more_nodes_are_counted_than_there_can_be_and_the_roomiest_first(cpus, asked, most):
    room = Room([Kind({"CPU": count}) for count in cpus], most)
    best = sorted((count // asked for count in cpus), reverse=True)[:most]
    assert room.workers(Compute(num_cpus=asked)) == sum(best)


def test_what_fits_lacks_nothing_and_a_pool_makes_do_with_one_worker():
    eight = Compute(num_workers=(8, 16), num_gpus=1)
    assert lack("teacher", eight, True, CLUSTER, CLUSTER) is None
    small = Room([Kind({"CPU": 8, "GPU": 1})])
    assert lack("teacher_samples", eight, False, small, small) is None
    assert lack("teacher", eight, True, small, small).never


def test_what_can_never_be_is_told_from_what_comes_later():
    asked = Compute(
        num_workers=8, num_gpus=1, accelerator_type="H100", memory_gb=10, label_selector={"role": "training"}
    )
    waits, never = (
        lack("teacher", asked, True, Room([CPUS]), CLUSTER),
        lack("teacher", asked, True, CLUSTER, Room([CPUS])),
    )
    assert waits is not None
    assert not waits.never
    assert waits.said == (
        "teacher asks for 8 workers of 1 CPU, 1 H100, 10 GiB, label role=training at once, and there is room for 0 now"
    )
    assert never is None
    never = lack("teacher", asked, True, Room([CPUS]), Room([CPUS]))
    assert never.never
    assert never.said.endswith("room for 0 at most")
    assert not lack("teacher", asked, True, Room([CPUS]), None).never


def test_nodes_are_counted_with_the_head_and_no_more_than_there_can_be():
    assert Room([CPUS]).nodes == 1
    assert CLUSTER.nodes == 3
    assert Room([CPUS, GPUS], 2, CPUS).nodes == 3


def test_nobody_has_looked_at_the_gpus_of_this_machine():
    assert local(4).workers(Compute(num_gpus=1, num_cpus=2, memory_gb=10**6)) == 2


def test_a_launchers_file_says_what_can_come(tmp_path):
    file = tmp_path / "cluster.yaml"
    file.write_text(yaml.safe_dump(LAUNCHER))
    room = grown(ClusterConfig(autoscaling_config=str(file)))
    assert room.workers(Compute(num_gpus=1, label_selector={"role": "training"})) == 32
    assert room.workers(Compute(num_gpus=1)) == 4 * 8 + 2
    assert room.workers(Compute(num_gpus=16)) == 0
    assert room.workers(Compute(num_cpus=4)) == 1 + 4 * 24 + 2 * 2
    assert grown(ClusterConfig(grows=True)) is None


def test_of_machines_of_ones_own_a_launcher_knows_the_addresses_alone(tmp_path):
    file = tmp_path / "cluster.yaml"
    own = {"type": "local", "head_ip": "10.0.0.1", "worker_ips": ["10.0.0.2"]}
    file.write_text(yaml.safe_dump({"cluster_name": "c", "provider": own, "auth": {"ssh_user": "ray"}}))
    assert grown(ClusterConfig(autoscaling_config=str(file))) is None


@pytest.mark.parametrize("content", ["", "[1]", "a: {", "cluster_name: c\nmax_workers: many\n"])
def test_a_file_that_no_launcher_wrote_is_refused_in_a_line(tmp_path, content):
    file = tmp_path / "cluster.yaml"
    file.write_text(content)
    with pytest.raises(ConfigError, match=r"isn't a launcher's configuration") as refused:
        grown(ClusterConfig(autoscaling_config=str(file)))
    assert "\n" not in str(refused.value)


def test_a_file_that_is_missing_is_named(tmp_path):
    with pytest.raises(ConfigError, match="nothing-here"):
        grown(ClusterConfig(autoscaling_config=str(tmp_path / "nothing-here")))


@pytest.mark.parametrize("value", ["", "!", "in()", "in(a", "a b", "-a", "a,b"])
def test_a_selector_that_ray_would_not_read_is_refused(value):
    with pytest.raises(ValueError, match="label_selector"):
        Compute(label_selector={"role": value})
