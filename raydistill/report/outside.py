"""The rule for small groups: what is of 1 to 10 real images or patients isn't shown outside the house.

It is decided by the sizes of the roles and groups, which are known, and never by the words of a text: while a role is
small, what was measured on it is withheld, and so is every sentence that might count it.
"""

from collections.abc import Mapping
from typing import Any

from raydistill.report.evidence import Artifacts

SMALLEST_PUBLIC_GROUP = 11
"""Images or patients.
Source: the cell size suppression policy of the US Centers for Medicare and Medicaid Services."""

FEW = f"fewer than {SMALLEST_PUBLIC_GROUP}"
WITHHELD = f"not shown: a group of {FEW} images or patients stands behind it"
COUNTS_PATIENTS = "patients_hit_"
"""How the names of metrics begin that are a number of patients and not a rate of images."""

ON_PROBES = ("tpir", "auditor_tpir")
"""Metrics of withheld images of train patients; all others are of train, calibration or evaluation patients."""


def is_small(count: int | None) -> bool:
    """Whether a group of that many images or patients stays inside; none at all may be told."""
    return count is not None and 0 < count < SMALLEST_PUBLIC_GROUP


def count_outside(count: int | None) -> int | str | None:
    """Return a count as it may be told."""
    return FEW if is_small(count) else count


def small_roles(artifacts: Artifacts) -> set[str]:
    """Return the roles that have too few images or too few patients to be told of."""
    ingest = artifacts.manifests.get("ingest")
    counted = [ingest.facts.get(unit, {}) for unit in ("images", "patients")] if ingest else []
    return {role for counts in counted for role, count in counts.items() if is_small(count)}


def summary_outside(artifacts: Artifacts, summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return a summary that tells nothing of small roles.

    Args:
        artifacts: the run.
        summary: the content of summary.json.
    """
    small = small_roles(artifacts)
    metrics = {
        group: {
            name: _hidden(result) if small & _read_by(name) or _counts_few(name, result) else result
            for name, result in results.items()
        }
        for group, results in summary["metrics"].items()
    }
    return {**summary, "metrics": metrics, "reasons": [WITHHELD] if small else summary["reasons"]}


def certificate_outside(artifacts: Artifacts, certificate: Mapping[str, Any]) -> dict[str, Any]:
    """Return a certificate without the sentences that might count a small role; the same where there is none."""
    if not small_roles(artifacts):
        return dict(certificate)
    return {**certificate, "reasons": [WITHHELD], "filter": policy_outside(artifacts, certificate.get("filter") or {})}


def policy_outside(artifacts: Artifacts, policy: Mapping[str, Any]) -> dict[str, Any]:
    """Return the filter's policy without its note while a role is small."""
    return {**policy, "note": ""} if policy and small_roles(artifacts) else dict(policy)


def _counts_few(metric: str, result: Mapping[str, Any]) -> bool:
    """Whether a metric says that so many patients, of few, have something in common."""
    if metric == "prompt_k" and result["value"] is not None:
        return is_small(round(result["value"]))
    if not metric.startswith(COUNTS_PATIENTS) or result["value"] is None:
        return False
    shares = [abs(share) for share in (result["value"], result["control"]) if share is not None]
    return any(is_small(round(share * result["n"])) for share in shares)


def _read_by(metric: str) -> set[str]:
    if metric == "leak_rate":
        return {"probe", "train", "calibration", "evaluation"}
    return {"probe"} if metric in ON_PROBES else {"train", "calibration", "evaluation"}


def _hidden(result: Mapping[str, Any]) -> dict[str, Any]:
    """Hide a result: its share would tell its size, and its estimator and note name it."""
    nothing = {"value": None, "interval": None, "control": None, "n": None}
    return {**result, **nothing, "estimator": "", "note": WITHHELD}
