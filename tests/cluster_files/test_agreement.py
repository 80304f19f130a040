"""What has to be the same everywhere is, and every preset finds room on every cluster."""

import re
from types import SimpleNamespace

import pytest

import raydistill
from raydistill.core.loading import load_config
from raydistill.core.prices import read_prices
from raydistill.distributed.capacity import lack
from raydistill.pipeline import wire
from tests.cluster_files.shipped import (
    CLOUDS,
    CLUSTER,
    FILES,
    LAUNCHERS,
    ROOT,
    cluster_spec,
    groups,
    launcher,
    pinned,
    room,
)

PRESETS = ["laptop", "one_gpu", "8xh100", "spot_sampling"]
GROWING = [*CLOUDS, "rayjob", "raycluster"]


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
    # A shell's loop names both.
    assert {name.replace("$target", "cpu") for _, name in found} == {wanted + "cpu", wanted + "cuda"}
    assert {file for file, _ in found} == {
        *(f"{name}.yaml" for name in [*LAUNCHERS, "rayjob", "raycluster"]),
        "Dockerfile",
        "README.md",
    }


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
    stages = [
        stage
        for stage in wire(load_config(ROOT / "jobs" / "nih64.yaml", [f"preset={preset}", "source.path=x"]))
        if stage.compute
    ]
    assert len(stages) > 10
    there = room(name, tmp_path)
    assert [
        short.said for stage in stages if (short := lack(stage.node, stage.compute, stage.is_gang, there, there))
    ] == []
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


@pytest.mark.parametrize("name", GROWING)
def test_a_plan_assumes_the_gpus_that_these_files_ask_for(name, tmp_path):
    there = {kind.labels["role"]: kind.resources for kind in room(name, tmp_path).kinds}
    assumed = read_prices(None).unnamed_gpus
    assert {f"role={role}" for role in there} == assumed.keys() - {"any"}
    for role, resources in there.items():
        assert f"accelerator_type:{assumed[f'role={role}']}" in resources


def test_machines_of_ones_own_are_waited_for(tmp_path):
    asked = load_config(None, ["preset=spot_sampling"]).teacher.compute
    nothing = SimpleNamespace(workers=lambda compute: 0)
    assert room("onprem", tmp_path) is None
    assert not lack("teacher", asked, True, nothing, room("onprem", tmp_path)).never


def test_the_readme_says_what_to_put_for_every_placeholder():
    said = (CLUSTER / "README.md").read_text()
    for path in FILES:
        for name in set(re.findall(r"CHANGE-ME-[\w-]+", path.read_text())):
            known = f"`{name}`" in said or f"`{re.sub('-of-.*', '-of-', name)}" in said
            assert known, f"{path.name}: {name}"
