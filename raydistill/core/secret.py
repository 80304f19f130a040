"""The run's secret: what patients are hashed with, and where released samples' seeds come from. It stays inside."""

import hashlib
import hmac
import secrets
from pathlib import Path

from raydistill.core.store import Store

KEY_FILE = ".secret/hash.key"
KEY_BYTES = 32


def run_secret(run: Store) -> bytes:
    """Return a run's secret, made at random when there is none.

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


def private_key(secret: bytes, purpose: str) -> bytes:
    """Return 32 bytes that nobody can derive without the secret.

    Args:
        secret: of `run_secret`.
        purpose: what they are for.

    Source: HMAC-SHA256 as a pseudorandom function, NIST SP 800-108r1, 4.
    """
    return hmac.new(secret, f"key/{purpose}".encode(), hashlib.sha256).digest()


def private_seed(secret: bytes, node: str) -> int:
    """Return a seed in [0, 2**63) that nobody can derive without the secret.

    Args:
        secret: of `run_secret`.
        node: what it is for.

    Source: HMAC-SHA256, RFC 2104.
    """
    return int.from_bytes(hmac.new(secret, f"seed/{node}".encode(), hashlib.sha256).digest()[:8], "big") >> 1
