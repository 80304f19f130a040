"""The manifests are what KubeRay's own definitions allow, with unknown keys refused, and what pods may do is little."""

import gzip
from functools import cache
from pathlib import Path

import jsonschema
import pytest
import yaml

from tests.cluster_files.shipped import MANIFESTS, ROLES, cluster_spec, groups, manifests

DEFINITIONS = Path(__file__).parent / "crd"
OBJECT = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"}}
OURS = {"app.kubernetes.io/name": "raydistill"}


@cache
def definition(kind):
    """KubeRay's schema of a kind, made strict."""
    content = gzip.decompress((DEFINITIONS / f"ray.io_{kind.lower()}s.yaml.gz").read_bytes())
    (version,) = (v for v in yaml.load(content, yaml.CSafeLoader)["spec"]["versions"] if v["name"] == "v1")
    return strict(version["schema"]["openAPIV3Schema"])


def strict(schema):
    """Refuse keys that a schema doesn't name, where Kubernetes would drop them without a word."""
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]} | ({"pattern": schema["pattern"]} if "pattern" in schema else {})
    made = {
        key: value
        for key, value in schema.items()
        if key in ("type", "enum", "required", "pattern", "format", "minimum")
    }
    if "properties" in schema:
        made["properties"] = {name: strict(below) for name, below in schema["properties"].items()}
    if "items" in schema:
        made["items"] = strict(schema["items"])
    if isinstance(schema.get("additionalProperties"), dict):
        made["additionalProperties"] = strict(schema["additionalProperties"])
    elif "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
        made["additionalProperties"] = False
    return made


def rules():
    """What a NetworkPolicy may say: KubeRay's definition has the same rules inside."""
    inside = definition("RayCluster")["properties"]["spec"]["properties"]["networkPolicy"]["properties"]["head"]
    ingress, egress = (inside["properties"][name] for name in ("ingressRules", "egressRules"))
    selector = ingress["items"]["properties"]["from"]["items"]["properties"]["podSelector"]
    types = {"type": "array", "items": {"enum": ["Ingress", "Egress"]}}
    spec = {"podSelector": selector, "policyTypes": types, "ingress": ingress, "egress": egress}
    return {"type": "object", "properties": spec, "required": ["podSelector"], "additionalProperties": False}


def schema_of(document):
    kind, properties = document["kind"], OBJECT
    if kind in ("RayJob", "RayCluster"):
        return definition(kind)
    if kind == "NetworkPolicy":
        properties = OBJECT | {"spec": rules()}
    if kind == "ServiceAccount":
        properties = OBJECT | {"automountServiceAccountToken": {"type": "boolean"}}
    return {"type": "object", "properties": properties, "required": list(OBJECT), "additionalProperties": False}


def policies():
    return {
        document["metadata"]["name"]: document["spec"]
        for document in manifests("access")
        if document["kind"] == "NetworkPolicy"
    }


def accounts():
    return {
        document["metadata"]["name"]: document
        for document in manifests("access")
        if document["kind"] == "ServiceAccount"
    }


@pytest.mark.parametrize("name", MANIFESTS)
def test_every_object_is_what_its_definition_allows(name):
    versions = {"RayJob": "ray.io/v1", "RayCluster": "ray.io/v1", "NetworkPolicy": "networking.k8s.io/v1"}
    for document in manifests(name):
        jsonschema.Draft202012Validator(schema_of(document)).validate(document)
        assert document["apiVersion"] == versions.get(document["kind"], "v1")
        assert "raydistill" in (document["metadata"].get("namespace"), document["metadata"]["name"])


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("ttlSecondAfterFinished",), 5),
        (("ttlSecondsAfterFinished",), "5"),
        (("rayClusterSpec", "autoscalerOptions", "version"), "v3"),
        (("rayClusterSpec", "workerGroupSpecs", 0, "maxReplica"), 3),
        (("rayClusterSpec", "workerGroupSpecs", 0, "labels", "role"), 3),
        (("rayClusterSpec", "workerGroupSpecs", 0, "template", "spec", "serviceAccountNam"), "x"),
        (("rayClusterSpec", "headGroupSpec", "template", "spec", "containers", 0, "resources", "limit"), {}),
        (
            ("rayClusterSpec", "headGroupSpec", "template", "spec", "containers", 0, "resources", "limits", "cpu"),
            "many",
        ),
        (("rayClusterSpec", "headGroupSpec", "template", "spec", "volumes", 0, "emptyDir", "size"), "1Gi"),
    ],
)
def test_a_planted_mistake_is_refused(path, value):
    (document,) = manifests("rayjob")
    below = document["spec"]
    for key in path[:-1]:
        below = below[key]
    below[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError) as refused:
        jsonschema.Draft202012Validator(schema_of(document)).validate(document)
    assert str(path[-1]) in str(refused.value.message) or list(refused.value.path)[-1] == path[-1]


@pytest.mark.parametrize("place", ["podSelectors", "ingress"])
def test_a_mistake_in_a_network_policy_is_refused(place):
    document = next(document for document in manifests("access") if document["kind"] == "NetworkPolicy")
    document["spec"][place] = [{"form": []}]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(schema_of(document)).validate(document)


def test_a_job_brings_the_cluster_that_could_stay_too():
    brought, stays = cluster_spec("rayjob"), cluster_spec("raycluster")
    for spec in (brought, stays):
        del spec["headGroupSpec"]["rayStartParams"]["dashboard-host"]
    assert brought == stays


def test_a_job_ends_and_takes_its_machines_along():
    (job,) = manifests("rayjob")
    assert job["spec"]["entrypoint"].startswith("python jobs/distill.py --config jobs/nih64.yaml ")
    assert job["spec"]["shutdownAfterJobFinishes"]
    assert job["spec"]["ttlSecondsAfterFinished"] > 0
    spec = job["spec"]["rayClusterSpec"]
    assert spec["enableInTreeAutoscaling"]
    assert spec["autoscalerOptions"]["version"] == "v2"
    assert {group["groupName"]: group["labels"]["role"] for group in spec["workerGroupSpecs"]} == {
        role: role for role in ROLES
    }
    assert all(group["replicas"] == group["minReplicas"] == 0 for group in spec["workerGroupSpecs"])


@pytest.mark.parametrize("name", ["rayjob", "raycluster"])
def test_pods_have_no_more_rights_than_they_need(name):
    spec = cluster_spec(name)
    for group in groups(spec):
        pod = group["template"]["spec"]
        role = group.get("groupName", "head")
        assert pod["serviceAccountName"] == f"raydistill-{role}"
        assert accounts()[pod["serviceAccountName"]].get("automountServiceAccountToken", True) == (role == "head")
        assert pod["securityContext"]["runAsNonRoot"]
        assert group["template"]["metadata"]["labels"] == OURS
        (container,) = pod["containers"]
        assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
        assert container["resources"]["limits"] == container["resources"]["requests"]
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["volumes"]}


@pytest.mark.parametrize("name", ["rayjob", "raycluster"])
def test_what_a_group_promises_the_autoscaler_is_what_its_pods_have(name):
    for group in cluster_spec(name)["workerGroupSpecs"]:
        limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
        assert group["resources"]["CPU"] == limits["cpu"]
        assert group["resources"]["GPU"] == limits["nvidia.com/gpu"]
        assert int(group["resources"]["memory"].removesuffix("Gi")) < int(limits["memory"].removesuffix("Gi"))


@pytest.mark.parametrize("name", ["rayjob", "raycluster"])
def test_the_heads_service_has_what_is_asked_of_it(name):
    """KubeRay's service has the ports that the head's container names, once it names one; a job's dashboard goes by name."""
    (container,) = cluster_spec(name)["headGroupSpec"]["template"]["spec"]["containers"]
    assert {port["name"]: port["containerPort"] for port in container["ports"]} == {
        "gcs-server": 6379,
        "dashboard": 8265,
        "metrics": 8080,
    }


def test_nobody_from_outside_reaches_a_pod():
    every = policies()
    assert every["nothing"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    assert every["raydistill"]["podSelector"]["matchLabels"] == OURS
    ours = {"podSelector": {"matchLabels": OURS}}
    opened = [rule for policy in every.values() for rule in policy.get("ingress", ()) if rule["from"] != [ours]]
    assert [[port["port"] for port in rule["ports"]] for rule in opened] == [[8080], [8265]]
    assert all("ipBlock" not in who and "namespaceSelector" in who for rule in opened for who in rule["from"])
    assert all(who["namespaceSelector"] for rule in opened for who in rule["from"])
    (operator,) = every["raydistill-head"]["ingress"][0]["from"]
    assert operator["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": "kuberay-operator"}
