"""Reading a run's artifacts for people: what isn't there yet is None, and every number knows its table."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raydistill.core.config import Config
from raydistill.core.errors import LineageError
from raydistill.core.manifest import Manifest, is_under
from raydistill.core.store import Store
from raydistill.metrics.identification import ATTACKED
from raydistill.metrics.patients import HIT_TIMES

METRIC_NODES = {
    "teacher": "teacher_evaluation",
    "filtered": "filtered_evaluation",
    "student": "student_evaluation",
    "real": "real_evaluation",
    "filter": "verdicts",
    "selftest": "verdicts",
    "tune": "tune",
    "search": "simple_rules",
}
"""Which node's metrics.json a group of the summary's metrics comes from."""

MATCH_NODES = {"teacher": "teacher_matches", "filtered": "teacher_matches", "student": "student_matches"}

AUDIT = "audit.parquet"
TABLES = {
    "reidentification_rate": AUDIT,
    "excess_risk": AUDIT,
    "max_similarity": AUDIT,
    "similarity_p999": AUDIT,
    "leak_rate": AUDIT,
    "copied_rate": AUDIT,
    "copied_excess": AUDIT,
    "prompt_linkage": AUDIT,
    **dict.fromkeys((f"attacked_{name}" for name in ATTACKED), "attack_audit.parquet"),
    "near_copy_rate": AUDIT,
    "near_copy_excess": AUDIT,
    "closer_to_train_share": AUDIT,
    "closer_to_train_excess": AUDIT,
    "attacked_worst_excess_risk": "attack_audit.parquet",
    "unseen_rate": AUDIT,
    "train_minus_unseen_rate": AUDIT,
    **{f"patients_hit_{k}": AUDIT for k in HIT_TIMES},
    "patients_hit_excess": AUDIT,
    "identified_rate": AUDIT,
    "identified_excess": AUDIT,
    "auditor_tpir": "auditor/probe",
    "near_copy_control_rate": "auditor/evaluation",
    "membership_probe_auc": "membership.parquet",
    "control_rate": "auditor/evaluation",
    "utility_auroc": "predictions",
    "utility_loss": "predictions",
    "utility_over_teacher": "predictions",
    "calibration_error": "predictions",
    "kept": "verdicts",
    "dropped": "verdicts",
    "fpir": "filter/calibration",
    "tpir": "filter/probe",
    "sensitivity": "planted",
    "false_flag_rate": "planted",
    "rank_agreement": "trials",
    "consistency_jaccard": "agreement/agreement.json",
    "consistency_kappa": "agreement/agreement.json",
}
"""Where a metric that doesn't name its table can be recomputed from."""


class Artifacts(Protocol):
    """A run folder with the manifests of its finished nodes; `raydistill.runner.Runner` is one."""

    run: Store
    config: Config
    manifests: dict[str, Manifest]

    def artifact(self, node: str, key: str) -> Store:
        """Return the folder of an artifact."""
        ...


MADE_BEFORE_RELEASE = ("student", "student_samples", "student_verdicts", "decision")


DECISIONS = ("decision", "audit_decision")
"""Nodes whose artifact holds the verdict: a run's, or that of an audit of what somebody else made."""


def may_leave(artifacts: Artifacts, summary: Mapping[str, Any]) -> bool:
    """Whether RUN/release is to be filled: the verdict is `pass`, or it is one and the configuration says so anyway.

    Args:
        artifacts: the run; where a node that makes the release is unfinished or skipped, there is nothing to release.
        summary: its summary, with the verdict.
    """
    made = [artifacts.manifests.get(node) for node in MADE_BEFORE_RELEASE]
    if summary["verdict"] is None or any(manifest is None or manifest.skipped for manifest in made):
        return False
    return summary["verdict"] == "pass" or artifacts.config.release.release_anyway


def read_judged(artifacts: Artifacts, node: str, path: str) -> bytes:
    """Read a file of an artifact; what leaves must be what was judged.

    Raises:
        LineageError: when it is missing, or isn't what its manifest says.
    """
    manifest = artifacts.manifests[node]
    folder = artifacts.artifact(node, manifest.key)
    if not folder.exists(path):
        raise LineageError(f"{node}: {path} is missing from {folder.uri}")
    content = folder.read_bytes(path)
    if hashlib.sha256(content).hexdigest() not in (entry.sha256 for entry in manifest.files if entry.path == path):
        raise LineageError(f"{node}: {path} in {folder.uri} isn't what its manifest says")
    return content


@dataclass(frozen=True)
class Evidence:
    """Tolerant reading of a run.

    Args:
        artifacts: the run; nodes without a manifest count as not there.
    """

    artifacts: Artifacts

    def folder(self, node: str) -> Store | None:
        """Return a node's artifact folder, or None while it isn't finished."""
        manifest = self.artifacts.manifests.get(node)
        return self.artifacts.artifact(node, manifest.key) if manifest else None

    def json(self, node: str, name: str) -> Any:
        """Read a JSON file of a node's artifact; None when either isn't there."""
        folder = self.folder(node)
        return folder.read_json(name) if folder and folder.exists(name) else None

    def table(self, node: str, name: str, columns: Sequence[str]) -> pa.Table | None:
        """Read the columns that a table has.

        Args:
            node: whose artifact.
            name: a `.parquet` file, or a folder of them, in it.
            columns: those wanted; the ones the table lacks are left out.

        Returns:
            The table; None when the node, the table or all of the columns aren't there.
        """
        folder = self.folder(node)
        if folder is None:
            return None
        first = name if name.endswith(".parquet") else next((f"{name}/{n}" for n in folder.shards(name)), None)
        if first is None or not folder.exists(first):
            return None
        there = pq.read_schema((folder / first).path, filesystem=folder.filesystem).names
        found = [column for column in columns if column in there]
        return folder.read_table(name, columns=found) if found else None

    def decided(self) -> Mapping[str, Any]:
        """Read the verdict with its checks; empty before there is one."""
        return next(filter(None, (self.json(node, "verdict.json") for node in DECISIONS)), {})

    def pick(self, node: str, name: str, id_column: str, ids: Collection[str]) -> dict[str, dict[str, Any]]:
        """Look rows up by id, reading only the shards that hold some of them.

        Returns:
            Row by id; ids that aren't there are left out.
        """
        folder, found = self.folder(node), {}
        if folder is None:
            return {}
        wanted = pa.array(sorted(set(ids)), pa.string())
        for shard in folder.shards(name):
            path = f"{name}/{shard}"
            if pc.any(pc.is_in(folder.read_table(path, columns=[id_column])[id_column], value_set=wanted)).as_py():
                table = folder.read_table(path)
                rows = table.filter(pc.is_in(table[id_column], value_set=wanted)).to_pylist()
                found.update({row[id_column]: row for row in rows})
        return found

    def source(self, group: str, metric: str, table: str | None) -> str | None:
        """Say where a metric can be recomputed from.

        Args:
            group: of the summary's metrics, such as `student`.
            metric: its name, such as `excess_risk`.
            table: what the metric itself says, if anything.

        Returns:
            A path relative to the run folder: a table where one is known, else the metrics.json that holds the value;
            None when the node isn't finished or was skipped.
        """
        own = METRIC_NODES[group]
        nodes = [own, *filter(None, [MATCH_NODES.get(group)])]
        nodes += ["teacher_matches", "selftest"] if own == "verdicts" else []
        for name in filter(None, (table, TABLES.get(metric.split(".")[0]))):
            for node in nodes:
                for path in (name, f"tables/{name}", f"tables/{name}.parquet", f"agreement/{name}"):
                    if self._holds(node, path):
                        return self.path(node, path)
        return self.path(own, "metrics.json")

    def path(self, node: str, inside: str) -> str | None:
        """Return the path of a part of a node's artifact, relative to the run folder; None if it isn't there."""
        manifest = self.artifacts.manifests.get(node)
        return f"{node}/{manifest.key}/{inside}" if manifest and self._holds(node, inside) else None

    def is_skipped(self, node: str) -> bool:
        """Whether a node had nothing to do."""
        manifest = self.artifacts.manifests.get(node)
        return manifest is not None and manifest.skipped is not None

    def skipped(self) -> dict[str, list[str]]:
        """Return the nodes that had nothing to do, in order, by reason."""
        found: dict[str, list[str]] = {}
        for node, manifest in self.artifacts.manifests.items():
            if manifest.skipped:
                found.setdefault(manifest.skipped, []).append(node)
        return found

    def _holds(self, node: str, path: str) -> bool:
        manifest = self.artifacts.manifests.get(node)
        return manifest is not None and any(is_under(entry.path, path) for entry in manifest.files)
