"""Checking a release wherever it lies: nothing but its own files is needed."""

import json
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from raydistill.core.config import Budgets
from raydistill.core.errors import LineageError
from raydistill.core.signing import SIGNATURE, SUMS, check_signature
from raydistill.core.store import Store
from raydistill.metrics.certificate import SCHEMA, Certificate
from raydistill.metrics.shortfalls import looser_budgets, said_of_touched
from raydistill.report.certified import CERTIFICATE
from raydistill.report.checksums import read_sums

KINDS = (".html", ".json", ".jsonl", ".md", ".parquet", ".png", ".safetensors", ".tar", ".txt")
"""What a release is made of. None of it holds code that opening it would run."""

BARE = ("LICENSE", SUMS)
"""Its files without an extension."""

OF_A_HUB = (".gitattributes", ".cache/huggingface/")
"""What the Hugging Face hub adds to what it is given, and its client to what it downloads."""

HEADER_LIMIT = 100_000_000
"""Bytes of a header, https://huggingface.co/docs/safetensors: longer ones are refused."""


@dataclass(frozen=True)
class Verified:
    """A release that is what it says.

    Args:
        files: how many are in its list.
        verdict: of its certificate.
        decided: the day of it, ISO 8601.
        is_signed: whether the list has a signature; by whom only the custodian's key tells.
        beside: files that aren't of the release, but of the hub that it came from.
        caveats: what was allowed beyond raydistill's own: budgets, and a student that saw real data.
    """

    files: int
    verdict: str
    decided: str
    is_signed: bool
    beside: tuple[str, ...]
    caveats: tuple[str, ...]


def verify_release(release: Store, public_key: bytes | None = None) -> Verified | None:
    """Re-hash a release against its SHA256SUMS, check signature and certificate, and that it holds data and no code.

    Args:
        release: `RUN/release`, the student's folder in it, or a copy of either anywhere.
        public_key: the custodian's, PEM, whose signature must be there.

    Returns:
        What was found; None when there is no release.

    Raises:
        LineageError: naming the first file that is missing, changed, unlisted or of a kind that no release holds.
    """
    names = release.files(with_partial=True)
    if not names:
        return None
    if not release.exists(SUMS):
        raise LineageError(f"{release.uri} has no {SUMS}: it wasn't finished; the same command again finishes it")
    listed = read_sums(release)
    beside = {path for path in names if path not in listed and path.startswith(OF_A_HUB)}
    there = {*names} - beside - {SUMS, SIGNATURE}
    for path in sorted({*listed, *there}):
        if path not in there:
            raise LineageError(f"release: {path} is missing from {release.uri}")
        if path not in listed:
            raise LineageError(f"release: {path} in {release.uri} isn't in {SUMS}")
        if release.entry(path).sha256 != listed[path]:
            raise LineageError(f"release: {path} in {release.uri} isn't what {SUMS} says")
    if release.exists(SIGNATURE):
        check_signature(release.read_bytes(SUMS), release.read_bytes(SIGNATURE), public_key)
    elif public_key:
        raise LineageError(f"release: {release.uri} isn't signed: set release.signing_key")
    certificate = _certificate(release)
    _check_kinds(release, sorted(listed))
    signed, day = release.exists(SIGNATURE), certificate.decided.isoformat()
    caveats = _caveats(certificate)
    return Verified(len(listed), certificate.verdict, day, signed, tuple(sorted(beside)), caveats)


def _caveats(certificate: Certificate) -> tuple[str, ...]:
    known = {name: limit for name, limit in certificate.budgets.items() if name in Budgets.model_fields}
    touched = certificate.student.touched_real_data
    said = [f"{said_of_touched(touched)}."] if touched else []
    return (*said, *(one.sentence for one in looser_budgets(Budgets().model_copy(update=known))))


def _certificate(release: Store) -> Certificate:
    """Return a release's certificate.

    Raises:
        LineageError: when there is none of the published form.
    """
    if not release.exists(CERTIFICATE):
        raise LineageError(f"release: {CERTIFICATE} is missing from {release.uri}")
    try:
        return Certificate.model_validate(release.read_json(CERTIFICATE))
    except ValidationError as error:
        first = error.errors()[0]
        what = f"{'.'.join(map(str, first['loc'])) or 'it'}: {first['msg']}"
    except ValueError:
        what = "it isn't JSON"
    raise LineageError(
        f"release: {CERTIFICATE} in {release.uri} isn't of schema {SCHEMA}, which this raydistill reads: {what}"
    )


def _check_kinds(release: Store, paths: list[str]) -> None:
    """Make sure that weights are safetensors, and that nothing is of a kind that a release doesn't hold.

    Raises:
        LineageError: naming the first file that isn't.
    """
    weights = [path for path in paths if path.endswith(".safetensors")]
    for path in paths:
        if not path.endswith(KINDS) and path.rpartition("/")[2] not in BARE:
            raise LineageError(
                f"release: {path} in {release.uri} is of no kind that a release holds; weights are safetensors"
            )
    for path in weights:
        if not _is_safetensors(release, path):
            raise LineageError(f"release: {path} in {release.uri} isn't in the safetensors format")
    if not weights:
        raise LineageError(f"release: there are no weights in {release.uri}")


def _is_safetensors(release: Store, path: str) -> bool:
    """Whether a file is a safetensors header and, to its last byte, the tensors that the header names.

    The format: 8 bytes with the header's length, little-endian; JSON with `data_offsets` of each tensor; the tensors.
    """
    size = release.size(path)
    length = int.from_bytes(release.read_start(path, 8), "little")
    if size < 8 or not 2 <= length <= min(size - 8, HEADER_LIMIT):
        return False
    try:
        header: dict[str, Any] = json.loads(release.read_start(path, 8 + length)[8:])
        spans = sorted(tuple(about["data_offsets"]) for name, about in header.items() if name != "__metadata__")
        starts, ends = [start for start, _ in spans], [end for _, end in spans]
    except (ValueError, TypeError, KeyError, AttributeError):
        return False
    return [*starts, size - 8 - length] == [0, *ends]
