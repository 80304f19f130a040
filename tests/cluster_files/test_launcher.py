"""The launcher's files are what Ray and the clouds' own schemas allow; a typo or a value of another type is refused."""

import json
import re
from functools import cache
from pathlib import Path

import botocore.session
import googleapiclient
import jsonschema
import pytest
from botocore.validate import ParamValidator
from ray._private.label_utils import parse_node_labels_from_yaml_file
from ray.autoscaler._private.resource_demand_scheduler import _add_min_workers_nodes
from ray.autoscaler._private.util import prepare_config, validate_config

from tests.cluster_files.shipped import CLOUDS, CLUSTER, LAUNCHERS, ROLES, launcher


def check(config):
    prepared = prepare_config(config)
    validate_config(prepared)
    return prepared


def of_ec2(node_config):
    """Hold what Ray hands to EC2 against EC2's own description of RunInstances."""
    shape = botocore.session.get_session().get_service_model("ec2").operation_model("RunInstances").input_shape
    return ParamValidator().validate({"MinCount": 1, "MaxCount": 1, **node_config}, shape).generate_report()


@cache
def of_compute():
    """Holds an instance against Compute Engine's own description, with unknown keys refused."""
    file = Path(googleapiclient.__file__).parent / "discovery_cache" / "documents" / "compute.v1.json"
    known = {name: strict(said) for name, said in json.loads(file.read_text())["schemas"].items()}
    return jsonschema.Draft202012Validator({"$ref": "#/$defs/Instance", "$defs": known})


def strict(said):
    if "$ref" in said:
        return {"$ref": f"#/$defs/{said['$ref']}"}
    if said["type"] == "any":
        return {}
    # A long integer travels as a string; both are taken.
    schema = {"type": ["string", "integer"] if "int64" in said.get("format", "") else said["type"]}
    schema |= {"enum": said["enum"]} if "enum" in said else {}
    if said["type"] == "array":
        return schema | {"items": strict(said["items"])}
    if said["type"] == "object":
        schema["properties"] = {name: strict(below) for name, below in said.get("properties", {}).items()}
        schema["additionalProperties"] = (
            strict(said["additionalProperties"]) if "additionalProperties" in said else False
        )
    return schema


@pytest.mark.parametrize("name", LAUNCHERS)
def test_ray_takes_the_file(name):
    prepared = check(launcher(name))
    assert prepared["max_workers"] == sum(kind["max_workers"] for kind in prepared["available_node_types"].values())


@pytest.mark.parametrize("name", LAUNCHERS)
@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("idle_timeout_minute",), 5, "idle_timeout_minute"),
        (("docker", "worker_imag"), "x", "worker_imag"),
        (("auth", "ssh_usr"), "x", "ssh_usr"),
        (("max_workers",), "2", "'2' is not of type 'integer'"),
        (("idle_timeout_minutes",), -1, "minimum of 0"),
        (("provider", "use_internal_ips"), "yes please", "is not of type 'boolean'"),
        (("head_start_ray_commands",), "ray start --head", "is not of type 'array'"),
    ],
)
def test_a_planted_mistake_is_refused(name, path, value, said):
    config = launcher(name)
    below = config
    for key in path[:-1]:
        below = below[key]
    below[path[-1]] = value
    # The number of one's own machines is compared before its type is looked at.
    early = name == "onprem" and path == ("max_workers",)
    with pytest.raises(TypeError if early else jsonschema.ValidationError, match=None if early else said):
        check(config)


@pytest.mark.parametrize("name", CLOUDS)
@pytest.mark.parametrize(
    ("key", "value"),
    [("label", {"role": "x"}), ("max_worker", 2), ("resources", {"GPU": "8"}), ("labels", {"role": 1})],
)
def test_a_mistake_in_a_node_type_is_refused(name, key, value):
    config = launcher(name)
    config["available_node_types"]["training"][key] = value
    with pytest.raises(jsonschema.ValidationError):
        check(config)


def test_every_machine_is_what_ec2_can_start():
    for kind in launcher("aws")["available_node_types"].values():
        assert of_ec2(kind["node_config"]) == ""


@pytest.mark.parametrize(
    ("key", "value"),
    [("IamInstanceProfiles", {}), ("InstanceMarketOptions", {"MarketTyp": "spot"}), ("InstanceType", 5)],
)
def test_a_mistake_in_what_ec2_is_asked_for_is_refused(key, value):
    asked = launcher("aws")["available_node_types"]["sampling"]["node_config"]
    assert key.rstrip("s") in of_ec2({**asked, key: value})


def test_every_machine_is_what_compute_engine_can_start():
    for kind in launcher("gcp")["available_node_types"].values():
        of_compute().validate(kind["node_config"])


def test_every_disk_of_compute_engine_is_of_a_type_that_all_of_its_machines_take():
    """The default, pd-standard, isn't: neither G2 nor A3 start with it."""
    for kind in launcher("gcp")["available_node_types"].values():
        (disk,) = kind["node_config"]["disks"]
        assert disk["initializeParams"]["diskType"] == "zones/CHANGE-ME-zone/diskTypes/pd-balanced"


@pytest.mark.parametrize(
    ("key", "value"),
    [("serviceAccount", []), ("scheduling", [{"preemptible": True}]), ("scheduling", {"provisioningModel": "SPOTTY"})],
)
def test_a_mistake_in_what_compute_engine_is_asked_for_is_refused(key, value):
    asked = launcher("gcp")["available_node_types"]["sampling"]["node_config"]
    with pytest.raises(jsonschema.ValidationError):
        of_compute().validate({**asked, key: value})


@pytest.mark.parametrize("name", CLOUDS)
def test_samples_alone_are_made_on_machines_that_may_be_taken_away(name):
    kinds = launcher(name)["available_node_types"]
    spot = {kind for kind, said in kinds.items() if "spot" in json.dumps(said["node_config"]).lower()}
    assert spot == {"sampling"}
    assert set(kinds) == {"head", *ROLES}
    assert all(kind["min_workers"] == 0 < kind["max_workers"] for name, kind in kinds.items() if name in ROLES)
    assert "GPU" not in kinds["head"]["resources"]


@pytest.mark.parametrize("name", CLOUDS)
def test_each_role_has_an_identity_of_its_own(name):
    kinds = launcher(name)["available_node_types"]
    who = [
        json.dumps([said["node_config"].get(key) for key in ("IamInstanceProfile", "serviceAccounts")])
        for said in kinds.values()
    ]
    assert len(set(who)) == len(kinds)


def test_all_machines_of_ones_own_are_started():
    """By Ray's autoscaler v1, which adds one for the head; v2 takes the head for one of the workers."""
    prepared = check(launcher("onprem"))
    command = prepared["head_start_ray_commands"][-1]
    # After what `ray up` exports before it.
    assert re.search(r"export RAY_enable_autoscaler_v2=0;\s+ray start --head ", command)
    (kind,) = prepared["available_node_types"]
    counted = _add_min_workers_nodes([], {kind: 1}, prepared["available_node_types"], 3, kind, [], lambda *_: None)
    assert counted[2] == {kind: len(prepared["provider"]["worker_ips"])}


def test_machines_of_ones_own_take_their_role_from_a_file_that_the_readme_writes(tmp_path):
    prepared = check(launcher("onprem"))
    assert "--labels-file=/etc/raydistill/labels.yaml" in prepared["worker_start_ray_commands"][-1]
    assert "--volume /etc/raydistill:/etc/raydistill:ro" in prepared["docker"]["worker_run_options"]
    said = (CLUSTER / "README.md").read_text()
    for role in ROLES:
        assert f"echo 'role: {role}' | sudo tee /etc/raydistill/labels.yaml" in said
        (tmp_path / "labels.yaml").write_text(f"role: {role}\n")
        assert parse_node_labels_from_yaml_file(str(tmp_path / "labels.yaml")) == {"role": role}
