"""What a certificate says beside the verdict: on whom it was measured, on how many samples, and how; never where."""

from typing import Any

from raydistill.core.config import EvidenceConfig, PromptConfig
from raydistill.core.section import NOT_IN_KEY
from raydistill.core.training import ReidConfig, public_name
from raydistill.reid.model import weights_digest
from raydistill.stages.base import Context

OWN_TABLE = "a table of one's own"

WAYS = {"as asked for by default": "excess_risk", "asked harder": "attacked_excess_risk"}
"""How samples were asked for, none of them filtered, and a metric that counts them."""


def roles(context: Context) -> dict[str, dict[str, int]]:
    """Return how many real images and patients every role has."""
    counts = context.inputs["cohort"].read_json("cohort.json")
    return {role: {unit: counts[unit][role] for unit in ("images", "patients")} for role in counts["images"]}


def roles_given(context: Context) -> bool:
    """Return whether the source said who is in which role; else patients were dealt by chance."""
    given: bool = context.inputs["cohort"].read_json("cohort.json")["roles_given"]
    return given


def judged(context: Context) -> dict[str, int]:
    """Return how many of the student's images the risk was measured on, by how they were asked for."""
    if context.manifests["student_evaluation"].skipped:
        return {}
    student = context.inputs["student_evaluation"].read_json("metrics.json")
    return {way: student[metric]["n"] for way, metric in WAYS.items() if metric in student}


def settings(evidence: EvidenceConfig, prompts: PromptConfig) -> dict[str, Any]:
    """Return how the evidence was made, without where: names of files and of workers stay inside.

    Of what is imported the factory is named, for its options may hold paths; weights are named as `public_name` does.
    """
    dumped = evidence.model_dump(mode="json", exclude={"eyes", "filter"})
    requests = dumped["student_samples"]["requests"]
    requests["table"] = requests["table"] and OWN_TABLE
    for part in dumped.values():
        for name in NOT_IN_KEY & part.keys():
            del part[name]
    how = evidence.evaluate
    dumped["evaluate"]["metrics"] = {name: {"factory": own.factory} for name, own in how.metrics.items()}
    if how.encoder is not None and how.encoder.pretrained:
        told = {"pretrained": public_name(how.encoder.pretrained), "sha256": weights_digest(how.encoder)}
        dumped["evaluate"]["encoder"] |= told
    policy = evidence.filter.policy
    dumped["filter"] = {"policy": policy.factory if policy else None}
    dumped["eyes"] = {name: _eye(eye) for name, eye in evidence.eyes}
    return dumped | {"prompts": prompts.model_dump(mode="json")}


def _eye(eye: ReidConfig) -> dict[str, Any]:
    """Say which network it is, and what training began with; nothing of where."""
    if eye.embedder:
        return {"embedder": eye.embedder.factory}
    name = public_name(eye.backbone.pretrained) if eye.backbone.pretrained else eye.backbone.kind
    return {"backbone": name, "started_from": weights_digest(eye.backbone), "steps": eye.optimizer.steps}
