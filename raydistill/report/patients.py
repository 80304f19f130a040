"""Patients under names that mean nothing outside the run folder."""

import hashlib
import hmac
import secrets
from pathlib import Path

from raydistill.core.store import Store
from raydistill.metrics.identification import HASH_DIGITS

KEY_FILE = ".secret/hash.key"
KEY_BYTES = 32


def patient_key(run: Store) -> bytes:
    """Return the run's secret with which patient ids are hashed; made at random when there is none.

    Args:
        run: the run folder. The secret lies in `.secret/`, never in an artifact or a release.

    Returns:
        32 random bytes.
    """
    if not run.exists(KEY_FILE):
        if run.is_local:
            Path(run.path, KEY_FILE).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        run.write_bytes(KEY_FILE, secrets.token_bytes(KEY_BYTES))
        if run.is_local:
            Path(run.path, KEY_FILE).chmod(0o600)
    return run.read_bytes(KEY_FILE)


def pseudonym(key: bytes, patient_id: str) -> str:
    """Return a patient's name in this run's internal report.

    Without the key a hash of an id is no protection: ids are few enough to try them all.

    Args:
        key: of `patient_key`.
        patient_id: as in the source.

    Returns:
        The first 16 hexadecimal digits of HMAC-SHA256, as in `identification.worst_patients`.

    Source: RFC 2104.
    """
    return hmac.new(key, patient_id.encode(), hashlib.sha256).hexdigest()[:HASH_DIGITS]
