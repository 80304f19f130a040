"""`RUN/release/`: only what may leave, filled only when the verdict is `pass` or the configuration says so anyway.

`SHA256SUMS` is written last: a release without it isn't one.
"""

import hashlib
import io
import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from raydistill.core.errors import LineageError
from raydistill.core.store import Store
from raydistill.report.cards import data_card, model_card
from raydistill.report.evidence import Artifacts
from raydistill.report.html import render
from raydistill.stages.images import keep_rows

FOLDER, SUMS = "release", "SHA256SUMS"
MODEL = "model/"

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
RELEASED = pa.schema(
    [
        pa.field("image", IMAGE),
        pa.field("sample_id", pa.string()),
        pa.field("prompt", pa.string()),
        pa.field("labels", pa.list_(pa.string())),
        pa.field("view", pa.string()),
        pa.field("sex", pa.string()),
        pa.field("age_band", pa.string()),
    ]
)
"""The released data set. Seeds stay inside: with the student they would give back the samples that were dropped.
Fields are nullable because `datasets` takes its features for those that equal its own, which are."""

STRING = {"dtype": "string", "_type": "Value"}
FEATURES = dict.fromkeys(RELEASED.names, STRING) | {"image": {"_type": "Image"}, "labels": [STRING]}
"""What `datasets` reads from a Parquet file's metadata; a list in brackets is understood by every version."""


def publish(artifacts: Artifacts, summary: dict[str, Any]) -> None:
    """Fill RUN/release, or make sure that there is none. A release that is as it should be isn't touched.

    Args:
        artifacts: a finished run, or one that may not release.
        summary: its summary, with the verdict.

    Raises:
        LineageError: when a file of the student isn't the one that was certified.
    """
    release = artifacts.run / FOLDER
    decided = summary["verdict"] is not None
    if not decided or (summary["verdict"] != "pass" and not artifacts.config.release.release_anyway):
        _clear(release)
        return
    documents = _documents(artifacts, summary)
    if _is_current(release, documents):
        return
    _clear(release)
    sums = {}
    for path, content in _contents(artifacts, summary, documents):
        release.write_bytes(path, content)
        sums[path] = hashlib.sha256(content).hexdigest()
    release.write_bytes(SUMS, "".join(f"{sums[path]}  {path}\n" for path in sorted(sums)).encode())


def verify_release(run: Store) -> int:
    """Re-hash a release against its SHA256SUMS.

    Args:
        run: the run folder.

    Returns:
        The number of files; 0 when there is no release.

    Raises:
        LineageError: naming the first file that is missing, changed or unlisted.
    """
    release = run / FOLDER
    if not release.files():
        return 0
    if not release.exists(SUMS):
        raise LineageError(f"{release.uri} has no {SUMS}: it wasn't finished; the same command again finishes it")
    listed = _sums(release)
    there = {entry.path: entry.sha256 for entry in release.fingerprint() if entry.path != SUMS}
    for path in sorted({*listed, *there}):
        if path not in there:
            raise LineageError(f"release: {path} is missing from {release.uri}")
        if path not in listed:
            raise LineageError(f"release: {path} in {release.uri} isn't in {SUMS}")
        if there[path] != listed[path]:
            raise LineageError(f"release: {path} in {release.uri} isn't what {SUMS} says")
    return len(listed)


def released_samples(samples: pa.Table, verdicts: pa.Table) -> pa.Table:
    """Return the samples that the filter keeps, in the form that leaves.

    Args:
        samples: columns.SAMPLES.
        verdicts: columns.VERDICTS; a sample without one isn't released.

    Returns:
        `RELEASED`, with the features that `datasets` reads in its metadata.
    """
    samples = keep_rows(verdicts, samples, "sample_id")
    pairs = zip(samples["image"].to_pylist(), samples["sample_id"].to_pylist(), strict=True)
    images = pa.array([{"bytes": image, "path": f"{sample_id}.png"} for image, sample_id in pairs], IMAGE)
    columns = {name: images if name == "image" else samples[name] for name in RELEASED.names}
    metadata = {"huggingface": json.dumps({"info": {"features": FEATURES}})}
    return pa.table(columns, schema=RELEASED.with_metadata(metadata))


def _documents(artifacts: Artifacts, summary: dict[str, Any]) -> dict[str, bytes]:
    """Make the small files that change whenever anything of the release does."""
    encoded = _artifact(artifacts, "decision").read_bytes("certificate.json")
    certificate = json.loads(encoded)
    return {
        "README.md": data_card(artifacts, summary, certificate).encode(),
        "student/README.md": model_card(artifacts, summary, certificate).encode(),
        "certificate.json": encoded,
    }


def _contents(
    artifacts: Artifacts, summary: dict[str, Any], documents: dict[str, bytes]
) -> Iterator[tuple[str, bytes]]:
    """Yield every file of a release, one at a time in memory."""
    yield from documents.items()
    yield "report.html", render(artifacts, summary, public=True).encode()
    yield from _student(artifacts)
    yield from _data(artifacts)


def _student(artifacts: Artifacts) -> Iterator[tuple[str, bytes]]:
    folder = _artifact(artifacts, "student")
    for entry in artifacts.manifests["student"].files:
        if entry.path.startswith(MODEL):
            content = folder.read_bytes(entry.path)
            if hashlib.sha256(content).hexdigest() != entry.sha256:
                raise LineageError(f"student: {entry.path} in {folder.uri} isn't what its manifest says")
            yield f"student/{entry.path.removeprefix(MODEL)}", content


def _data(artifacts: Artifacts) -> Iterator[tuple[str, bytes]]:
    samples = _artifact(artifacts, "student_samples") / "samples"
    verdicts = (_artifact(artifacts, "student_verdicts") / "verdicts").read_table()
    for shard in samples.shards():
        buffer = io.BytesIO()
        pq.write_table(released_samples(samples.read_table(shard), verdicts), buffer, compression="zstd")
        yield f"data/{shard}", buffer.getvalue()


def _is_current(release: Store, documents: dict[str, bytes]) -> bool:
    if not release.exists(SUMS):
        return False
    listed = _sums(release)
    same = all(listed.get(path) == hashlib.sha256(content).hexdigest() for path, content in documents.items())
    return same and {*listed, SUMS} == set(release.files())


def _sums(release: Store) -> dict[str, str]:
    lines = (line.split("  ", 1) for line in release.read_bytes(SUMS).decode().splitlines())
    return {path: digest for digest, path in lines}


def _clear(release: Store) -> None:
    """Delete a release, its checksums first: killed in between, what is left isn't a release."""
    release.delete(SUMS)
    release.delete()


def _artifact(artifacts: Artifacts, node: str) -> Store:
    return artifacts.artifact(node, artifacts.manifests[node].key)
