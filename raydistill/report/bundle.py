"""`RUN/release/`: only what may leave, filled only when the verdict is `pass` or the configuration says so anyway.

`SHA256SUMS` is written last: a release without it isn't one.
"""

import hashlib
import io
import json
from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from raydistill.core.errors import LineageError
from raydistill.core.manifest import is_under
from raydistill.core.signing import SIGNATURE, SUMS, check_signature, read_key, signed
from raydistill.core.store import Store
from raydistill.report.cards import data_card, model_card
from raydistill.report.certified import CERTIFICATE, certify, withdraw_certificate
from raydistill.report.dataset import released_samples
from raydistill.report.evidence import Artifacts, may_leave, read_judged
from raydistill.report.html import render

FOLDER = "release"


def publish(artifacts: Artifacts, summary: dict[str, Any]) -> None:
    """Write the certificate, and fill RUN/release or make sure that there is none; a current one isn't touched.

    Args:
        artifacts: a finished run, or one that may not release.
        summary: its summary, with the verdict.

    Raises:
        LineageError: when a file that would be released isn't what its manifest says; there is no release then.
    """
    try:
        certificate = certify(artifacts, summary)
        if certificate and may_leave(artifacts, summary):
            _publish(artifacts, summary, certificate)
        else:
            _empty(artifacts.run / FOLDER)
    except LineageError:
        withdraw(artifacts.run)
        raise


def _publish(artifacts: Artifacts, summary: dict[str, Any], certificate: bytes) -> None:
    release, key = artifacts.run / FOLDER, artifacts.config.release.signing_key
    documents = _documents(artifacts, summary, certificate)
    if not _is_current(release, documents, key):
        _empty(release)
        _fill(release, _contents(artifacts, summary, documents), key)


def withdraw(run: Store) -> None:
    """Delete a run's release and its certificate."""
    _empty(run / FOLDER)
    withdraw_certificate(run)


def _empty(release: Store) -> None:
    """Delete a release, its checksums first: killed in between, what is left isn't a release."""
    release.delete(SUMS)
    release.delete()


def verify_release(release: Store, public_key: bytes | None = None) -> int:
    """Re-hash a release against its SHA256SUMS, and check their signature where they are signed.

    Args:
        release: `RUN/release`, or a copy of it anywhere.
        public_key: the custodian's, PEM, whose signature must be there.

    Returns:
        The number of files; 0 when there is no release.

    Raises:
        LineageError: naming the first file that is missing, changed or unlisted.
    """
    if not release.files():
        return 0
    if not release.exists(SUMS):
        raise LineageError(f"{release.uri} has no {SUMS}: it wasn't finished; the same command again finishes it")
    listed = _sums(release)
    there = {entry.path: entry.sha256 for entry in release.fingerprint() if entry.path not in (SUMS, SIGNATURE)}
    for path in sorted({*listed, *there}):
        if path not in there:
            raise LineageError(f"release: {path} is missing from {release.uri}")
        if path not in listed:
            raise LineageError(f"release: {path} in {release.uri} isn't in {SUMS}")
        if there[path] != listed[path]:
            raise LineageError(f"release: {path} in {release.uri} isn't what {SUMS} says")
    if release.exists(SIGNATURE):
        check_signature(release.read_bytes(SUMS), release.read_bytes(SIGNATURE), public_key)
    elif public_key:
        raise LineageError(f"release: {release.uri} isn't signed: set release.signing_key")
    return len(listed)


def _fill(release: Store, contents: Iterable[tuple[str, bytes]], signing_key: str | None) -> None:
    sums = {}
    for path, content in contents:
        release.write_bytes(path, content)
        sums[path] = hashlib.sha256(content).hexdigest()
    listed = "".join(f"{sums[path]}  {path}\n" for path in sorted(sums)).encode()
    if signing_key:
        release.write_bytes(SIGNATURE, signed(listed, read_key(signing_key)))
    release.write_bytes(SUMS, listed)


def _documents(artifacts: Artifacts, summary: dict[str, Any], content: bytes) -> dict[str, bytes]:
    """Make the small files that change whenever anything of the release does."""
    certificate = json.loads(content)
    return {
        "README.md": data_card(artifacts, summary, certificate).encode(),
        "student/README.md": model_card(artifacts, summary, certificate).encode(),
        CERTIFICATE: content,
    }


def _contents(
    artifacts: Artifacts, summary: dict[str, Any], documents: dict[str, bytes]
) -> Iterator[tuple[str, bytes]]:
    """Yield every file of a release, one at a time in memory."""
    yield from documents.items()
    yield from _student(artifacts)
    yield from _data(artifacts)
    yield "report.html", render(artifacts, summary, public=True).encode()


def _student(artifacts: Artifacts) -> Iterator[tuple[str, bytes]]:
    for path in _listed(artifacts, "student", "model"):
        yield f"student/{path.removeprefix('model/')}", read_judged(artifacts, "student", path)


def _data(artifacts: Artifacts) -> Iterator[tuple[str, bytes]]:
    tables = [
        _table(artifacts, "student_verdicts", path) for path in _listed(artifacts, "student_verdicts", "verdicts")
    ]
    verdicts = pa.concat_tables(tables)
    for path in _listed(artifacts, "student_samples", "samples"):
        buffer = io.BytesIO()
        samples = _table(artifacts, "student_samples", path)
        pq.write_table(released_samples(samples, verdicts), buffer, compression="zstd")
        yield f"data/{path.removeprefix('samples/')}", buffer.getvalue()


def _listed(artifacts: Artifacts, node: str, folder: str) -> list[str]:
    return [entry.path for entry in artifacts.manifests[node].files if is_under(entry.path, folder)]


def _table(artifacts: Artifacts, node: str, path: str) -> pa.Table:
    return pq.read_table(io.BytesIO(read_judged(artifacts, node, path)))


def _is_current(release: Store, documents: dict[str, bytes], signing_key: str | None) -> bool:
    if not release.exists(SUMS) or release.exists(SIGNATURE) != bool(signing_key):
        return False
    listed = _sums(release)
    same = all(listed.get(path) == hashlib.sha256(content).hexdigest() for path, content in documents.items())
    return same and {*listed, SUMS} == set(release.files()) - {SIGNATURE}


def _sums(release: Store) -> dict[str, str]:
    lines = (line.split("  ", 1) for line in release.read_bytes(SUMS).decode().splitlines())
    return {path: digest for digest, path in lines}
