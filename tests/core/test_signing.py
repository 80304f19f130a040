"""A signature holds for the bytes that were signed, by the key that signed them, and for nothing else."""

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from raydistill.core.errors import ConfigError, InputError, LineageError
from raydistill.core.signing import check_signature, read_key, signed

NO_PASSWORD = serialization.NoEncryption()
FORM = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8


@pytest.fixture
def key(tmp_path):
    return write(tmp_path / "key.pem", Ed25519PrivateKey.generate())


def write(path, key, password=NO_PASSWORD):
    path.write_bytes(key.private_bytes(*FORM, password))
    return str(path)


def test_what_was_signed_is_accepted_and_anything_else_refused(key):
    signature = signed(b"pass", read_key(key))
    public = json.loads(signature)["public_key"].encode()
    check_signature(b"pass", signature)
    check_signature(b"pass", signature, public)
    with pytest.raises(LineageError, match=r"isn't what SHA256SUMS\.sig\.json signs"):
        check_signature(b"fail", signature)
    other = json.loads(signed(b"pass", Ed25519PrivateKey.generate()))["public_key"].encode()
    with pytest.raises(LineageError, match="is what was signed, but by another key"):
        check_signature(b"pass", signature, other)
    with pytest.raises(LineageError, match=r"isn't what SHA256SUMS\.sig\.json signs"):
        check_signature(b"fail", signature, other)
    with pytest.raises(InputError, match="can't be read as an Ed25519 key"):
        check_signature(b"pass", signature, b"no key")


def test_a_signature_holds_no_private_key(key):
    private = "".join(Path(key).read_text().splitlines()[1:-1])
    assert private not in signed(b"x", read_key(key)).decode()


def test_what_is_no_key_is_refused(tmp_path, key):
    for path in (tmp_path / "none.pem", tmp_path):
        with pytest.raises(ConfigError, match=r"release\.signing_key: .* can't be read"):
            read_key(str(path))
    with pytest.raises(ConfigError, match="isn't an Ed25519 key"):
        read_key(write(tmp_path / "ec.pem", ec.generate_private_key(ec.SECP256R1())))
    locked = serialization.BestAvailableEncryption(b"secret")
    with pytest.raises(ConfigError, match="without a password"):
        read_key(write(tmp_path / "locked.pem", Ed25519PrivateKey.generate(), locked))
