"""A preset says where stages run, and nothing that would change what they compute."""

from typing import get_args

import pytest

from raydistill.core.config import Preset
from raydistill.core.errors import ConfigError
from raydistill.core.loading import PRESETS, load_config
from raydistill.core.section import Compute
from raydistill.pipeline import wire

NAMES = get_args(Preset)


def computes(config):
    return {stage.node: stage.compute for stage in wire(config) if stage.compute}


def test_every_preset_has_its_file():
    assert {f"{name}.yaml" for name in NAMES} == {file.name for file in PRESETS.iterdir()}


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_says_where_every_stage_runs_and_changes_no_key(name):
    plain, preset = wire(load_config(None)), wire(load_config(None, [f"preset={name}"]))
    assert [stage.key_config() for stage in plain] == [stage.key_config() for stage in preset]
    default = Compute(num_workers=2)
    asked = computes(load_config(None, [f"preset={name}"]))
    assert name == "laptop" or all(compute != default for node, compute in asked.items() if node != "tune")


def test_the_stages_of_a_spot_cluster_keep_to_the_nodes_that_may_read_what_they_read():
    asked = computes(load_config(None, ["preset=spot_sampling", "teacher_samples.target_kept=600"]))
    roles = {node: compute.label_selector.get("role") for node, compute in asked.items()}
    assert {node for node, role in roles.items() if role == "sampling"} == {
        "teacher_samples",
        "more_samples",
        "student_samples",
        "student_attack",
    }
    assert {node for node, role in roles.items() if role == "student"} == {"student", "student_latents"}


def test_a_file_goes_before_its_preset_and_what_is_set_before_both(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("preset: 8xh100\nteacher: {compute: {num_workers: 4}}\n")
    compute = load_config(file).teacher.compute
    assert (compute.num_workers, compute.accelerator_type) == (4, "H100")
    assert load_config(file, ["teacher.compute.num_workers=2"]).teacher.compute.num_workers == 2


def test_a_preset_that_is_set_leaves_nothing_of_what_the_file_says_of_where(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("preset: 8xh100\nteacher: {compute: {num_workers: 4, memory_gb: 3}, optimizer: {steps: 7}}\n")
    config = load_config(file, ["preset=laptop", "student.compute.num_cpus=3"])
    assert config.teacher.compute == Compute(num_workers=2)
    assert config.teacher.optimizer.steps == 7
    assert config.student.compute == Compute(num_workers=2, num_cpus=3)


def test_a_resolved_configuration_resolves_to_itself(tmp_path):
    import yaml

    config = load_config(None, ["preset=spot_sampling", "match.compute.num_cpus=2"])
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    assert load_config(file) == config


def test_a_preset_may_be_named_by_an_environment_variable(tmp_path, monkeypatch):
    file = tmp_path / "run.yaml"
    file.write_text("preset: ${WHERE}")
    monkeypatch.setenv("WHERE", "8xh100")
    assert load_config(file) == load_config(None, ["preset=8xh100", "name=run"])
    monkeypatch.delenv("WHERE")
    assert load_config(file, ["preset=laptop"]) == load_config(None, ["preset=laptop", "name=run"])
    with pytest.raises(ConfigError, match="preset needs the environment variable WHERE"):
        load_config(file)


def test_an_unknown_preset_is_refused_with_those_there_are():
    with pytest.raises(ConfigError, match=r"preset: '8xa100' is unknown; did you mean 8xh100.*laptop"):
        load_config(None, ["preset=8xa100"])
