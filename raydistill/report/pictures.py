"""Pictures on the page: grids, closest pairs, planted copies. Real ones are for the internal report only."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from raydistill.core.seeds import generator
from raydistill.report.evidence import MATCH_NODES, METRIC_NODES, Evidence
from raydistill.report.patients import pseudonym
from raydistill.report.words import plain, treatment

GRID_SIZE = 24
PAIRS = 8
MAX_SIDE = 160
"""Pixels; larger pictures are shrunk, so that the page stays one that a mail programme takes."""
EXAMPLES = 2
VERDICT_NODES = {"teacher": "verdicts", "student": "student_verdicts", "planted": "verdicts"}


@dataclass(frozen=True)
class Picture:
    """A picture inside the page and what it is called for those who can't see it."""

    uri: str
    alt: str


@dataclass(frozen=True)
class Grid:
    """Pictures of one kind, chosen by the run's seed."""

    title: str
    pictures: Sequence[Picture]
    source: str | None


@dataclass(frozen=True)
class Pair:
    """Two pictures that were compared, what was found, and whether that needs a look."""

    left: Picture
    right: Picture
    lines: Sequence[str]
    marked: bool


def picture(encoded: bytes, alt: str) -> Picture:
    """Put an encoded picture into a `data:` address as PNG, shrunk where it is larger than `MAX_SIDE`."""
    with Image.open(io.BytesIO(encoded)) as image:
        grey = image.convert("L")
    grey.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    grey.save(buffer, "PNG", optimize=True)
    return Picture("data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode(), alt)


def real_grid(evidence: Evidence) -> Grid | None:
    """Choose real train images."""
    table = evidence.table("ingest", "train", ["image_id"])
    if table is None:
        return None
    rows = evidence.pick("ingest", "train", "image_id", _some(evidence, table["image_id"].to_pylist(), "real"))
    pictures = [picture(row["image"], "real train image") for row in rows.values()]
    return Grid("Real train images", pictures, evidence.path("ingest", "train"))


def sample_grid(evidence: Evidence, group: str, *, kept_only: bool = False) -> Grid | None:
    """Choose samples of the teacher or the student; with `kept_only` from those that the filter keeps."""
    node = f"{group}_samples"
    table = evidence.table(node, "samples", ["sample_id", "failure"])
    if table is None:
        return None
    ids = table.filter(pc.is_null(table["failure"]))["sample_id"].to_pylist()
    if kept_only:
        kept = {sample for sample, (keep, _) in _verdicts(evidence, group).items() if keep}
        ids = [sample for sample in ids if sample in kept]
    rows = evidence.pick(node, "samples", "sample_id", _some(evidence, ids, group))
    pictures = [picture(row["image"], f"synthetic image, asked for: {row['prompt']}") for row in rows.values()]
    title = f"{group.capitalize()} samples{', kept' if kept_only else ''}"
    return Grid(title, pictures, evidence.path(node, "samples"))


def panel(evidence: Evidence) -> dict[str, Picture]:
    """Return the samples of which every trial of the search says whether it keeps them, by id."""
    table = evidence.table("tune", "panel", ["sample_id"])
    if table is None:
        return {}
    rows = evidence.pick("teacher_samples", "samples", "sample_id", table["sample_id"].to_pylist())
    return {name: picture(row["image"], f"synthetic image, asked for: {row['prompt']}") for name, row in rows.items()}


def closest_pairs(evidence: Evidence, group: str, by: str, key: bytes) -> list[Pair]:
    """Put the samples closest to the gallery beside the real image they are closest to.

    Args:
        evidence: the run.
        group: `teacher` or `student`.
        by: `score` (the auditor's) or `structure_score`.
        key: of `run_secret`.

    Returns:
        At most 8 pairs, closest first.
    """
    nearest = "nearest_image_id" if by == "score" else "structure_image_id"
    columns = ["query_id", "score", "structure_score", nearest]
    table = evidence.table(MATCH_NODES[group], "auditor/samples", columns)
    if table is None:
        return []
    top = table.sort_by([(by, "descending"), ("query_id", "ascending")]).slice(0, PAIRS).to_pylist()
    samples = evidence.pick(f"{group}_samples", "samples", "sample_id", [row["query_id"] for row in top])
    real = evidence.pick("ingest", "train", "image_id", [row[nearest] for row in top])
    audit = evidence.table(METRIC_NODES[group], "tables/audit.parquet", ["query_id", "flagged", "near_copy"])
    judged = {row["query_id"]: row for row in audit.to_pylist()} if audit is not None else {}
    verdicts = _verdicts(evidence, group)
    return [
        _pair(row, samples[row["query_id"]], real[row[nearest]], verdicts, judged.get(row["query_id"], {}), key)
        for row in top
        if row["query_id"] in samples and row[nearest] in real
    ]


def _pair(
    row: dict[str, Any],
    sample: dict[str, Any],
    real: dict[str, Any],
    verdicts: dict[str, tuple[bool, str]],
    judged: dict[str, Any],
    key: bytes,
) -> Pair:
    flagged = bool(judged.get("flagged") or judged.get("near_copy"))
    keep, reason = verdicts.get(row["query_id"], (None, ""))
    filtered = {True: "kept", False: f"dropped ({plain(reason)})", None: "no verdict"}[keep]
    auditor = ("flagged" if flagged else "not flagged") if judged else "no verdict"
    lines = [
        f"score {row['score']:.3f}, structure {row['structure_score']:.3f}",
        f"auditor: {auditor}",
        f"filter: {filtered}",
        f"patient {pseudonym(key, real['patient_id'])}",
    ]
    return Pair(picture(sample["image"], "synthetic image"), picture(real["image"], "real image"), lines, flagged)


def planted_pairs(evidence: Evidence) -> list[Pair]:
    """Put planted near-copies beside what they were made of: for every treatment the one seen worst and a middling one."""
    names = ["query_id", "source_role", "image_id", "treatment", "score", "structure_score", "image"]
    table, verdicts = evidence.table("selftest", "planted", names), _verdicts(evidence, "planted", "planted")
    if table is None or not verdicts or table.num_columns < len(names):
        return []
    table = table.filter(pc.equal(table["source_role"], "train")).sort_by(
        [("score", "ascending"), ("image_id", "ascending")]
    )
    flagged = [not verdicts[query_id][0] for query_id in table["query_id"].to_pylist()]
    table = table.append_column("flagged", pa.array(flagged))
    chosen = []
    for name in sorted(set(table["treatment"].to_pylist())):
        rows = table.filter(pc.equal(table["treatment"], name))
        chosen += rows.take(sorted({rows.num_rows * i // EXAMPLES for i in range(EXAMPLES)})).to_pylist()
    real = evidence.pick("ingest", "train", "image_id", [row["image_id"] for row in chosen])
    return [
        Pair(
            picture(row["image"], f"planted near-copy, {treatment(row['treatment'])}"),
            picture(real[row["image_id"]]["image"], "the real image it was made of"),
            [
                treatment(row["treatment"]),
                f"score {row['score']:.3f}, structure {row['structure_score']:.3f}",
                "flagged" if row["flagged"] else "missed by the filter",
            ],
            not row["flagged"],
        )
        for row in chosen
        if row["image_id"] in real
    ]


def _some(evidence: Evidence, ids: list[str], name: str) -> list[str]:
    order = generator(evidence.artifacts.config.seed, "report", name).permutation(len(ids))[:GRID_SIZE]
    return [ids[i] for i in np.sort(order)]


def _verdicts(evidence: Evidence, group: str, folder: str = "verdicts") -> dict[str, tuple[bool, str]]:
    table = evidence.table(VERDICT_NODES[group], folder, ["sample_id", "keep", "reason"])
    return {} if table is None else {row["sample_id"]: (row["keep"], row["reason"]) for row in table.to_pylist()}
