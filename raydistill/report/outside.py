"""The rule for small groups: what is of 1 to 10 real images or patients isn't shown outside the house.

It is decided by the sizes of the roles and groups, which are known, and never by the words of a text: while a role is
small, what was measured on it is withheld, and so is every sentence that might count it: of probes those of the metrics
that are read from probes, of another role all. Of a metric that counts few patients the number is withheld wherever it
stands; how its check ended is told.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from raydistill.metrics.result import Check, ranked
from raydistill.metrics.shortfalls import BLIND, MEASURED_ON, SMALLEST_PUBLIC_GROUP
from raydistill.report.evidence import Artifacts, Evidence
from raydistill.report.numbers import NOT_SHOWN

Metrics = Mapping[str, Mapping[str, Any]]

FEW = f"fewer than {SMALLEST_PUBLIC_GROUP}"
WITHHELD = f"{NOT_SHOWN}: a group of {FEW} images or patients stands behind it"
BOUND_OF_K = f"a bound that is set (ingest.prompts.k) counts nobody, so it is told; the count itself is {WITHHELD}"
COUNTS_PATIENTS, ATTACKED = "patients_hit_", "attacked_"
"""How the names of metrics begin that are a number of patients and not a rate of images."""

ON_PROBES = ("tpir", "auditor_tpir")
"""Metrics of withheld images of train patients."""

BESIDE_PROBES = ("leak_rate", "attacked_leak_rate", "membership_probe_auc")
"""Metrics of these beside others; all that stand in neither are of train, calibration or evaluation patients."""


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


def is_hidden(result: Mapping[str, Any]) -> bool:
    """Whether a metric's number is kept inside; of a rare prompt's the bound may stand in its place."""
    return bool((result["note"] or "").endswith(WITHHELD))


def without_count(check: Check, result: Mapping[str, Any]) -> str:
    """Say how a check of a hidden metric ended, and no number; where a bound stands in its place, the bound.

    Args:
        check: the metric as it was judged.
        result: the metric as it may be told.
    """
    if result["value"] is None:
        return f"{check.metric} {check.ending}; its number is {WITHHELD}."
    return f"{check.metric} is at least {result['value']:g} and {check.ending}; {result['note']}."


def summary_outside(artifacts: Artifacts, summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return a summary that tells nothing of small roles, and of few patients no number.

    Args:
        artifacts: the run.
        summary: the content of summary.json.
    """
    small, k = small_roles(artifacts), artifacts.config.ingest.prompts.k
    metrics = {
        group: {name: _outside(name, result, small, k) for name, result in results.items()}
        for group, results in summary["metrics"].items()
    }
    told = {f"{group}.{name}": result for group, of in metrics.items() for name, result in of.items()}
    hidden = {metric: result for metric, result in told.items() if is_hidden(result)}
    reasons = [WITHHELD] if _silences(small) else _reasons_outside(artifacts, summary["reasons"], hidden)
    return {**summary, "metrics": metrics, "reasons": reasons}


def certificate_outside(
    artifacts: Artifacts, certificate: Mapping[str, Any], summary: Mapping[str, Any]
) -> dict[str, Any]:
    """Return a certificate that tells what may be told; the same where nothing is hidden.

    Args:
        artifacts: the run.
        certificate: as it was judged.
        summary: the content of summary.json.
    """
    told = {**certificate, "reasons": summary_outside(artifacts, summary)["reasons"]}
    if not small_roles(artifacts):
        return told
    cohort = {
        role: {unit: count_outside(count) for unit, count in counts.items()}
        for role, counts in certificate["cohort"].items()
    }
    return {**told, "cohort": cohort, "filter": policy_outside(artifacts, certificate["filter"] or {})}


def policy_outside(artifacts: Artifacts, policy: Mapping[str, Any]) -> dict[str, Any]:
    """Return the filter's policy without its note while a role is small that it may count."""
    return {**policy, "note": ""} if policy and _silences(small_roles(artifacts)) else dict(policy)


def _silences(small: set[str]) -> bool:
    """Whether any sentence may count a small role; what counts probes is known by its metric."""
    return not small.isdisjoint(MEASURED_ON)


def _outside(metric: str, result: Mapping[str, Any], small: set[str], k: int) -> Mapping[str, Any]:
    """Return a metric as it may be told."""
    hides = bool(small & _read_by(metric)) or _counts_few(metric, result)
    if metric == "prompt_k" and result["value"] is not None and (hides or is_small(round(result["value"]))):
        return _bound_of_k(result, k) if result["value"] >= k else _hidden(result)
    # How often one patient was hit counts a group of one.
    told = {**result, "note": None} if metric.removeprefix(ATTACKED).startswith(COUNTS_PATIENTS) else result
    return _hidden(result) if hides else told


def _reasons_outside(artifacts: Artifacts, reasons: Sequence[str], hidden: Metrics) -> list[str]:
    """Say of hidden metrics' checks how they ended, in the place of the sentences that name these metrics."""
    checks = Evidence(artifacts).decided().get("checks", ()) if hidden else ()
    in_order = ranked([Check(**check) for check in checks])
    instead = {
        metric: [without_count(check, result) for check in in_order if check.metric == metric]
        for metric, result in hidden.items()
    }
    return [_without_number(reason, instead) for reason in reasons]


def _without_number(reason: str, instead: Mapping[str, list[str]]) -> str:
    for metric, sentences in instead.items():
        if re.search(rf"(?<![\w.]){re.escape(metric)}(?!\.?\w)", reason):
            if reason.startswith(BLIND):
                return f"{BLIND}{metric} doesn't certainly keep its budget; its number is {WITHHELD}."
            return sentences.pop(0) if sentences else f"{metric}: {WITHHELD}."
    return reason


def _counts_few(metric: str, result: Mapping[str, Any]) -> bool:
    """Whether a metric says that so many patients, of few, have something in common."""
    if not metric.removeprefix(ATTACKED).startswith(COUNTS_PATIENTS) or result["value"] is None:
        return False
    shares = [abs(share) for share in (result["value"], result["control"]) if share is not None]
    return any(is_small(round(share * result["n"])) for share in shares)


def _read_by(metric: str) -> set[str]:
    if metric in ON_PROBES:
        return {"probe"}
    return {*MEASURED_ON, "probe"} if metric in BESIDE_PROBES else {*MEASURED_ON}


def _hidden(result: Mapping[str, Any]) -> dict[str, Any]:
    """Hide a result: its share would tell its size, and its estimator and note name it."""
    nothing = {"value": None, "interval": None, "control": None, "n": None}
    return {**result, **nothing, "estimator": "", "note": WITHHELD}


def _bound_of_k(result: Mapping[str, Any], k: int) -> dict[str, Any]:
    """Tell the least that the configuration allows in the place of a small count; a bound counts nobody."""
    bound = {"value": float(k), "interval": None, "unit": "at least so many train patients share every prompt"}
    said = {"estimator": "the bound that the configuration sets (ingest.prompts.k)", "note": BOUND_OF_K}
    return {**result, **bound, **said}
