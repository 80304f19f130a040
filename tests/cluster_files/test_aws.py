"""Ray's own provider starts and ends the machines of `ray-up/aws.yaml`, at an EC2 that moto pretends."""

import boto3
import pytest
import yaml
from moto import mock_aws
from ray.autoscaler._private.util import prepare_config, validate_config

from tests.cluster_files.shipped import ROLES, launcher

REGION = "eu-central-1"


@pytest.fixture
def config(tmp_path, monkeypatch):
    """The launcher's file with everything put in that it asks for, as Ray completes it."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    with mock_aws():
        from ray.autoscaler._private.aws.config import bootstrap_aws

        ec2, iam = boto3.client("ec2", REGION), boto3.client("iam", REGION)
        network = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        subnet = ec2.create_subnet(VpcId=network, CidrBlock="10.0.0.0/24")["Subnet"]["SubnetId"]
        ec2.create_key_pair(KeyName="raydistill")
        for role in ("head", *ROLES):
            iam.create_instance_profile(InstanceProfileName=f"raydistill-{role}")
        (tmp_path / "key.pem").write_text("")
        put = {
            "CHANGE-ME-region": REGION,
            "CHANGE-ME-private-subnet": subnet,
            "CHANGE-ME-security-group": ec2.create_security_group(GroupName="g", Description="d", VpcId=network)[
                "GroupId"
            ],
            "CHANGE-ME-ami": ec2.describe_images()["Images"][0]["ImageId"],
            "~/.ssh/raydistill.pem": str(tmp_path / "key.pem"),
        }
        content = yaml.safe_dump(launcher("aws"))
        for name, value in put.items():
            assert name in content
            content = content.replace(name, value)
        prepared = prepare_config(yaml.safe_load(content))
        validate_config(prepared)
        yield bootstrap_aws(prepared)


def running():
    found = boto3.client("ec2", REGION).describe_instances()["Reservations"]
    return [machine for one in found for machine in one["Instances"] if machine["State"]["Name"] == "running"]


def test_machines_start_without_a_public_address_and_are_gone_at_the_end(config):
    from ray.autoscaler._private.aws.node_provider import AWSNodeProvider

    provider = AWSNodeProvider(config["provider"], config["cluster_name"])
    for name, kind in config["available_node_types"].items():
        tags = {"ray-node-kind": "head" if name == "head" else "worker", "ray-user-node-type": name}
        tags |= {"ray-launch-config": "x", "ray-node-status": "uninitialized", "ray-node-name": name}
        provider.create_node(kind["node_config"], tags, 1)
    machines = {machine["IamInstanceProfile"]["Arn"].rpartition("/")[2]: machine for machine in running()}
    assert set(machines) == {f"raydistill-{role}" for role in ("head", *ROLES)}
    assert not any(machine.get("PublicIpAddress") for machine in machines.values())
    spot = {name for name, machine in machines.items() if machine.get("InstanceLifecycle") == "spot"}
    assert spot == {"raydistill-sampling"}
    provider.terminate_nodes(provider.non_terminated_nodes({}))
    # Ended and not stopped: `cache_stopped_nodes` is off.
    states = boto3.client("ec2", REGION).describe_instances()["Reservations"]
    assert {machine["State"]["Name"] for one in states for machine in one["Instances"]} == {"terminated"}


def test_machines_have_what_the_file_says(config):
    from ray.autoscaler._private.aws.node_provider import AWSNodeProvider

    said = {name: kind.pop("resources") for name, kind in config["available_node_types"].items()}
    filled = AWSNodeProvider.fillout_available_node_types_resources(config)["available_node_types"]
    for name, resources in said.items():
        assert {key: filled[name]["resources"].get(key) for key in resources} == resources
