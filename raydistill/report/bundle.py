"""`RUN/release/`: only what may leave, filled only when the verdict is `pass` or the configuration says so anyway.

`SHA256SUMS` is written last: a release without it isn't one.
"""

import hashlib
import json
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from raydistill.core.errors import LineageError
from raydistill.core.store import Store
from raydistill.report.cards import data_card, model_card
from raydistill.report.evidence import Artifacts
from raydistill.report.html import render

SUMS = "SHA256SUMS"
RELEASED_COLUMNS = ["sample_id", "prompt", "labels", "view", "sex", "age_band"]


def publish(artifacts: Artifacts, summary: dict[str, Any]) -> None:
    """Fill RUN/release, or make sure that there is none.

    Args:
        artifacts: a finished run.
        summary: its summary, with the verdict.
    """
    release = artifacts.run / "release"
    allowed = summary["verdict"] == "pass" or artifacts.config.release.release_anyway
    if not allowed:
        release.delete()
        return
    certificate = _artifact(artifacts, "decision").read_bytes("certificate.json")
    card = data_card(artifacts.config, summary).encode()
    there = release.exists(SUMS)
    if there and (release.read_bytes("certificate.json"), release.read_bytes("README.md")) == (certificate, card):
        return
    touched = json.loads(certificate)["student"]["touched_real_data"]
    release.delete()
    with (_artifact(artifacts, "student") / "model").local() as folder:
        release.upload(folder, "student")
    release.write_bytes("student/README.md", model_card(artifacts.config, summary, touched).encode())
    release.write_table("data/part-00000.parquet", released_samples(artifacts))
    release.write_bytes("README.md", card)
    release.write_bytes("certificate.json", certificate)
    release.write_bytes("report.html", render(artifacts, summary, public=True).encode())
    sums = "".join(f"{entry.sha256}  {entry.path}\n" for entry in release.fingerprint())
    release.write_bytes(SUMS, sums.encode())


def released_samples(artifacts: Artifacts) -> pa.Table:
    """Return the student's samples that the filter keeps, images as Hugging Face's struct of bytes and path."""
    samples = (_artifact(artifacts, "student_samples") / "samples").read_table()
    verdicts = (_artifact(artifacts, "student_verdicts") / "verdicts").read_table()
    kept = verdicts.filter(verdicts["keep"])["sample_id"].combine_chunks()
    samples = samples.filter(pc.is_in(samples["sample_id"], value_set=kept))
    paths = [f"{sample_id}.png" for sample_id in samples["sample_id"].to_pylist()]
    images = [{"bytes": b, "path": p} for b, p in zip(samples["image"].to_pylist(), paths, strict=True)]
    column = pa.array(images, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    table = samples.select(RELEASED_COLUMNS).add_column(0, "image", column)
    features: dict[str, Any] = {name: {"dtype": "string", "_type": "Value"} for name in RELEASED_COLUMNS}
    features |= {"image": {"_type": "Image"}, "labels": {"feature": features["prompt"], "_type": "List"}}
    ordered = {name: features[name] for name in table.column_names}
    return table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": ordered}})})


def verify_release(run: Store) -> int:
    """Re-hash a release against its SHA256SUMS.

    Args:
        run: the run folder.

    Returns:
        The number of files; 0 when there is no release.

    Raises:
        LineageError: naming the first file that is missing, changed or unlisted.
    """
    release = run / "release"
    if not release.files():
        return 0
    if not release.exists(SUMS):
        raise LineageError(f"{release.uri} has no {SUMS}: it was not finished, run the same command again")
    lines = [line.split("  ", 1) for line in release.read_bytes(SUMS).decode().splitlines()]
    listed = {path: digest for digest, path in lines}
    for path, digest in listed.items():
        if not release.exists(path):
            raise LineageError(f"release: {path} is missing from {release.uri}")
        if hashlib.sha256(release.read_bytes(path)).hexdigest() != digest:
            raise LineageError(f"release: {path} in {release.uri} isn't what {SUMS} says")
    unlisted = set(release.files()) - set(listed) - {SUMS}
    if unlisted:
        raise LineageError(f"release: {min(unlisted)} in {release.uri} isn't in {SUMS}")
    return len(listed)


def _artifact(artifacts: Artifacts, node: str) -> Store:
    return artifacts.artifact(node, artifacts.manifests[node].key)
