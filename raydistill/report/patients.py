"""Patients under names that mean nothing outside the run folder."""

import hashlib
import hmac

from raydistill.metrics.identification import HASH_DIGITS


def pseudonym(key: bytes, patient_id: str) -> str:
    """Return a patient's name in this run's internal report.

    Without the key a hash of an id is no protection: ids are few enough to try them all.

    Args:
        key: of `run_secret`.
        patient_id: as in the source.

    Returns:
        The first 16 hexadecimal digits of HMAC-SHA256, as in `identification.worst_patients`.

    Source: RFC 2104.
    """
    return hmac.new(key, patient_id.encode(), hashlib.sha256).hexdigest()[:HASH_DIGITS]
