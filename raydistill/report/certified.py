"""`RUN/certificate.json`: what was decided, whatever it was, as it may be shown; signed if there is a key."""

import json
from collections.abc import Mapping
from typing import Any

from raydistill.core.errors import LineageError
from raydistill.core.signing import check_signature, read_key, signature_of, signed
from raydistill.core.store import Store
from raydistill.report.evidence import Artifacts, read_judged
from raydistill.report.outside import certificate_outside

CERTIFICATE = "certificate.json"
SIGNED = signature_of(CERTIFICATE)


def certify(artifacts: Artifacts, summary: Mapping[str, Any]) -> bytes | None:
    """Write the certificate of a run and its signature; delete them while there is no verdict.

    Args:
        artifacts: the run.
        summary: its summary, with the verdict.

    Returns:
        The certificate's bytes, those of the release too.

    Raises:
        LineageError: when the judged certificate isn't what its manifest says.
    """
    run, key = artifacts.run, artifacts.config.release.signing_key
    if summary["verdict"] is None or "decision" not in artifacts.manifests:
        withdraw_certificate(run)
        return None
    judged = json.loads(read_judged(artifacts, "decision", CERTIFICATE))
    told = certificate_outside(artifacts, judged, summary)
    content = f"{json.dumps(told, indent=1, ensure_ascii=False)}\n".encode()
    # A signature never lies beside another certificate than its own, not even for a moment.
    run.delete(SIGNED)
    run.write_bytes(CERTIFICATE, content)
    if key:
        run.write_bytes(SIGNED, signed(content, read_key(key)))
    return content


def withdraw_certificate(run: Store) -> None:
    """Delete a run's certificate, its signature first."""
    run.delete(SIGNED)
    run.delete(CERTIFICATE)


def verify_certificate(folder: Store, public_key: bytes | None = None) -> int:
    """Check the signature of a certificate, in a run folder or beside it anywhere.

    Args:
        folder: where it lies.
        public_key: the custodian's, PEM, whose signature must be there.

    Returns:
        The number of certificates; 0 where there is none yet.

    Raises:
        LineageError: when it isn't what was signed, or has no signature although a key was given.
    """
    if not folder.exists(CERTIFICATE):
        return 0
    if folder.exists(SIGNED):
        check_signature(folder.read_bytes(CERTIFICATE), folder.read_bytes(SIGNED), public_key, CERTIFICATE)
    elif public_key:
        raise LineageError(f"release: {CERTIFICATE} in {folder.uri} isn't signed: set release.signing_key")
    return 1
