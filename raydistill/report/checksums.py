"""`SHA256SUMS`: every file of a release with its SHA-256, as coreutils' `sha256sum -c` reads it."""

import hashlib
from collections.abc import Mapping

from raydistill.core.errors import LineageError
from raydistill.core.signing import SIGNATURE, SUMS, read_key, signed
from raydistill.core.store import Store

DIGITS = frozenset("0123456789abcdef")


def hashed(content: bytes) -> str:
    """Return the SHA-256 of a content: 64 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def listing(sums: Mapping[str, str]) -> bytes:
    """Return the content of SHA256SUMS for these digests by path."""
    return "".join(f"{sums[path]}  {path}\n" for path in sorted(sums)).encode()


def read_sums(release: Store) -> dict[str, str]:
    """Return a release's digests by path.

    Raises:
        LineageError: when its SHA256SUMS isn't such a list.
    """
    sums: dict[str, str] = {}
    for number, line in enumerate(release.read_bytes(SUMS).decode(errors="replace").splitlines(), start=1):
        digest, between, path = line[:64], line[64:66], line[66:]
        if len(digest) < 64 or not set(digest) <= DIGITS or between != "  " or not path or path in sums:
            raise LineageError(f"release: line {number} of {SUMS} in {release.uri} isn't a SHA-256 and a new path")
        sums[path] = digest
    return sums


def write_sums(release: Store, sums: Mapping[str, str], signing_key: str | None) -> None:
    """Finish a release: write its list, last, and its signature before it.

    Args:
        release: with all of its other files.
        sums: SHA-256 by path.
        signing_key: PEM file of the custodian's private key.
    """
    content = listing(sums)
    if signing_key:
        release.write_bytes(SIGNATURE, signed(content, read_key(signing_key)))
    release.write_bytes(SUMS, content)


def is_signed_by(release: Store, signing_key: str | None) -> bool:
    """Whether a release has exactly the signature that this key gives, or none where there is no key."""
    if not signing_key or not release.exists(SIGNATURE):
        return not signing_key and not release.exists(SIGNATURE)
    return release.read_bytes(SIGNATURE) == signed(release.read_bytes(SUMS), read_key(signing_key))
