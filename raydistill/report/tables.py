"""The tables of the page, read from the run."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from raydistill.metrics.identification import worst_patients
from raydistill.report.evidence import METRIC_NODES, Evidence
from raydistill.report.outside import count_outside, is_hidden
from raydistill.report.words import FIDELITY, FILTER, OTHER, PRIVACY, UTILITY, is_one_treatment, title

Metrics = Mapping[str, Mapping[str, Mapping[str, Any]]]

GROUPS = ("teacher", "filtered", "student", "real")


@dataclass(frozen=True)
class Cell:
    """One metric of one set: the result's fields and the path from which it can be recomputed."""

    group: str
    result: Mapping[str, Any]
    source: str | None


@dataclass(frozen=True)
class MetricRow:
    """One metric of every set that has it."""

    name: str
    title: str
    meaning: str
    cells: Mapping[str, Cell]


def metric_tables(evidence: Evidence, metrics: Metrics) -> dict[str, list[MetricRow]]:
    """Arrange the evaluations' metrics by section (privacy, utility, fidelity, others) and metric."""
    names = dict.fromkeys(name for group in GROUPS for name in metrics.get(group, {}))
    tables: dict[str, list[MetricRow]] = {PRIVACY: [], UTILITY: [], FIDELITY: [], FILTER: [], OTHER: []}
    for name in names:
        cells = {
            group: Cell(group, metrics[group][name], evidence.source(group, name, metrics[group][name].get("table")))
            for group in GROUPS
            if name in metrics.get(group, {})
        }
        tables[title(name).section].append(MetricRow(name, title(name).name, title(name).meaning, cells))
    return {section: rows for section, rows in tables.items() if rows}


def filter_rows(evidence: Evidence, metrics: Metrics) -> list[MetricRow]:
    """List the filter's counts and rates and the self-test's results; of single treatments those without a value.

    Those with one stand side by side in a figure.
    """
    rows = []
    for group in ("filter", "selftest", "tune"):
        for name, result in metrics.get(group, {}).items():
            if group != "selftest" or not is_one_treatment(name) or result["value"] is None:
                cell = Cell(group, result, evidence.source(group, name, result.get("table")))
                rows.append(MetricRow(name, title(name).name, title(name).meaning, {"value": cell}))
    return sorted(rows, key=lambda row: row.name != "kept")


def agreement(evidence: Evidence, metrics: Metrics) -> list[Mapping[str, Any]]:
    """How far pairs of eyes agree, each at its own threshold for the same FPIR; none where the metric is hidden."""
    told = metrics.get("selftest", {}).get("consistency_jaccard")
    return [] if told and is_hidden(told) else evidence.json("selftest", "agreement/agreement.json") or []


def worst(evidence: Evidence, group: str, key: bytes) -> list[dict[str, Any]]:
    """List the patients most often matched by samples, under keyed hashes."""
    table = evidence.table(METRIC_NODES[group], "tables/audit.parquet", ["nearest_patient_id", "flagged"])
    if table is None or table.num_columns < 2:
        return []
    return list(worst_patients(table["nearest_patient_id"].to_numpy(), table["flagged"].to_numpy(), key).to_pylist())


def node_rows(evidence: Evidence, summary: Mapping[str, Any], *, public: bool) -> list[dict[str, Any]]:
    """List every node with state, key, seconds, rows and the views it read; what it had to note stays inside."""
    rows = []
    for name, node in summary["nodes"].items():
        manifest = evidence.artifacts.manifests.get(name)
        inputs = sorted({f"{i.node}/{i.folder}".rstrip("/") for i in manifest.inputs.values()}) if manifest else []
        counts = manifest.counts if manifest else {}
        notes = list(manifest.facts.get("notes", ())) if manifest and not public else []
        if manifest and manifest.skipped:
            notes.append(f"skipped: {manifest.skipped}")
        rows.append({"node": name, **node, "counts": counts, "inputs": inputs, "notes": notes})
    return rows


def progress(summary: Mapping[str, Any]) -> str | None:
    """Say how far an unfinished run is; None for one with a verdict."""
    if summary["verdict"] is not None:
        return None
    states = [node["state"] for node in summary["nodes"].values()]
    done = sum(state in ("done", "cached", "skipped") for state in states)
    failed = [name for name, node in summary["nodes"].items() if node["state"] == "failed"]
    said = f"; failed: {', '.join(failed)}" if failed else ""
    return f"{done} of {len(states)} nodes are finished{said}."


def setting(evidence: Evidence) -> dict[str, Any]:
    """The filter's setting: its thresholds, the rates they were set at, and what must be known of them."""
    policy = evidence.json("tune", "policy/policy.json") or {}
    return {**policy, "selected": _selected(policy["selection"])} if policy.get("selection") else policy


def _selected(selection: Mapping[str, Any]) -> str:
    """Say how many of a kind are kept; empty where nothing bounds that."""
    said = []
    for name, words in (("guidance_scale", "guidance"), ("num_inference_steps", "steps")):
        if selection.get(name):
            said.append(f"only samples of {words} {selection[name]:g} are kept")
    if selection.get("prompt_patients"):
        said.append(f"samples are left out whose prompt fewer than {selection['prompt_patients']} train patients share")
    if selection.get("patient_quota"):
        said.append(f"at most {selection['patient_quota']} may share a nearest patient, the least similar")
    if selection.get("balance"):
        said.append(f"groups of the same findings are evened out by {selection['balance']:.2g} of the way")
    return "; ".join(said)


def scrubbed(evidence: Evidence, *, public: bool) -> dict[str, Any] | None:
    """Return what was taken out of the texts that prompts were made of; nothing of it is said outside the house."""
    manifest = evidence.artifacts.manifests.get("ingest")
    found = manifest.facts.get("scrubbed") if manifest and not public else None
    return {**found, "k": manifest.facts["prompts"]["k"]} if manifest and found and found["texts"] else None


def roles_given(evidence: Evidence) -> bool:
    """Whether the source said who is in which role; else patients were dealt by chance."""
    manifest = evidence.artifacts.manifests.get("ingest")
    return bool(manifest and manifest.facts.get("roles_given"))


def cohort(evidence: Evidence, *, public: bool) -> list[tuple[str, Any, Any]]:
    """Count images and patients of every role; small counts aren't shown outside the house."""
    manifest = evidence.artifacts.manifests.get("ingest")
    facts = manifest.facts if manifest else {}
    patients = facts.get("patients", {})
    rows = [(role, images, patients.get(role)) for role, images in facts.get("images", {}).items()]
    return [(role, *map(count_outside, counts)) for role, *counts in rows] if public else rows
