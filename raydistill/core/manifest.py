"""The manifest: completion marker, cache key and provenance record of one artifact, written last.

An artifact is a folder with a `manifest.json`. Its *key* is known before the stage runs: a hash of the stage, its
version, its resolved configuration and the digests of its inputs. Its *digest* is known after: a hash of its files.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

SCHEMA_VERSION = 1

SUMMARY = "summary.json"
"""File of a run with its verdict and every node's key; always of the configuration that lies beside it."""


class FileEntry(BaseModel):
    """One file of an artifact: its path inside it, its size in bytes and the SHA-256 of its content."""

    model_config = ConfigDict(frozen=True)

    path: str
    size: int
    sha256: str


class InputEntry(BaseModel):
    """One input of a stage: which artifact, which folder of it, and the digest of that view when it was read."""

    model_config = ConfigDict(frozen=True)

    node: str
    key: str
    folder: str
    digest: str


class Manifest(BaseModel):
    """What an artifact is, what it was made from, and what its files must hash to.

    `seconds` are those of the attempt that finished it: all of the work only where it wasn't `resumed`. `compute` says
    where that ran, null on the driver. None of the three is in any digest.
    """

    model_config = ConfigDict(frozen=True)

    schema_version: int = SCHEMA_VERSION
    node: str
    stage: str
    version: int
    key: str
    digest: str
    config: dict[str, Any]
    inputs: dict[str, InputEntry]
    files: list[FileEntry]
    counts: dict[str, int]
    facts: dict[str, Any]
    software: dict[str, str]
    started: str
    seconds: float
    compute: dict[str, Any] | None = None
    resumed: bool = False

    @property
    def skipped(self) -> str | None:
        """Why the node made nothing; None for one that did its work."""
        return self.facts.get("skipped")

    def view_digest(self, folder: str) -> str:
        """Digest what a stage can learn through one view.

        Args:
            folder: of the artifact; `""` is all of it, and what the manifest says of it in counts and facts.

        Returns:
            64 hexadecimal digits of SHA-256.
        """
        said = [self.skipped] if folder else [self.counts, self.facts]
        files = digest_files(entry for entry in self.files if is_under(entry.path, folder))
        return hashlib.sha256(canonical_json([files, *said]).encode()).hexdigest()


def is_under(path: str, folder: str) -> bool:
    """Whether `path`, relative to an artifact, lies in `folder` (`""` holds everything)."""
    return not folder or path == folder or path.startswith(folder + "/")


def canonical_json(value: object) -> str:
    """Serialise to the one JSON text that equal values share: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest_files(files: Iterable[FileEntry]) -> str:
    """Hash a set of files into one digest, whatever their order.

    Args:
        files: paths, sizes and content hashes.

    Returns:
        64 hexadecimal digits of SHA-256.
    """
    rows = sorted((entry.path, entry.size, entry.sha256) for entry in files)
    return hashlib.sha256(canonical_json(rows).encode()).hexdigest()


def artifact_key(stage: str, version: int, config: Mapping[str, Any], input_digests: Mapping[str, str]) -> str:
    """Compute the key of an artifact from everything that decides its content.

    Args:
        stage: the stage's name.
        version: the stage's version; raised when its code gives other results.
        config: the resolved configuration of the node, without what only says where it runs.
        input_digests: digest of each named input.

    Returns:
        The first 16 hexadecimal digits of SHA-256, enough for any run folder.

    Example:
        >>> artifact_key("match", 1, {"k": 5}, {}) == artifact_key("match", 1, {"k": 5}, {})
        True
    """
    text = canonical_json([SCHEMA_VERSION, stage, version, config, input_digests])
    return hashlib.sha256(text.encode()).hexdigest()[:16]
