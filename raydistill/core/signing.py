"""Signing what is decided, so that who holds the custodian's public key can tell that it is theirs and unchanged.

Of a release the list of checksums is signed, which names every file; of a run, whatever its verdict, the certificate.

Ed25519, RFC 8032, by the package `cryptography`. The key stays outside the run folder; nothing of it is written.
"""

import base64
import json
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from raydistill.core.errors import ConfigError, InputError, LineageError

ALGORITHM = "Ed25519"


def signature_of(name: str) -> str:
    """Return the name of the file that holds a file's signature."""
    return f"{name}.sig.json"


SUMS = "SHA256SUMS"
SIGNATURE = signature_of(SUMS)


def read_key(path: str) -> Ed25519PrivateKey:
    """Read a private key, PEM without a password, such as `openssl genpkey -algorithm ed25519` makes.

    Raises:
        ConfigError: when there is none.
    """
    where = f"release.signing_key: {path}"
    try:
        key = serialization.load_pem_private_key(Path(path).expanduser().read_bytes(), password=None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"{where} can't be read as a PEM private key without a password: {error}") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"{where} isn't an Ed25519 key; `openssl genpkey -algorithm ed25519 -out FILE` makes one")
    return key


def signed(content: bytes, key: Ed25519PrivateKey) -> bytes:
    """Return the content of a file of a signature: that of the bytes, and the public key."""
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    about = {
        "algorithm": ALGORITHM,
        "public_key": public.decode(),
        "signature": base64.b64encode(key.sign(content)).decode(),
    }
    return f"{json.dumps(about, indent=1)}\n".encode()


def check_signature(content: bytes, signature: bytes, expected: bytes | None = None, name: str = SUMS) -> None:
    """Make sure that a file is what was signed.

    Args:
        content: of the file.
        signature: of `NAME.sig.json` beside it.
        expected: the custodian's public key, PEM, from elsewhere; the file's own proves only that nothing changed.
        name: of the file.

    Raises:
        LineageError: when it isn't, or somebody else signed it.
        InputError: when `expected` is no such key.
    """
    try:
        about = json.loads(signature)
        own, proof = _public_key(about["public_key"].encode()), base64.b64decode(about["signature"])
        own.verify(proof, content)
    except (ValueError, KeyError, AttributeError, TypeError, UnsupportedAlgorithm, InvalidSignature):
        raise LineageError(f"release: {name} isn't what {signature_of(name)} signs") from None
    if expected is None:
        return
    try:
        _public_key(expected).verify(proof, content)
    except InvalidSignature:
        raise LineageError(f"release: {name} is what was signed, but by another key than the one given") from None
    except (ValueError, UnsupportedAlgorithm):
        raise InputError("the public key that was given can't be read as an Ed25519 key in PEM") from None


def _public_key(pem: bytes) -> Ed25519PublicKey:
    key = serialization.load_pem_public_key(pem)
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError("it is of another kind")
    return key
