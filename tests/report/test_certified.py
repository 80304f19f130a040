"""Every verdict has a certificate in the run folder, signed where there is a key, and none speaks of other evidence."""

import json

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from raydistill.core.config import Config
from raydistill.core.errors import LineageError
from raydistill.core.store import Store
from raydistill.report.bundle import publish, withdraw
from raydistill.report.certified import CERTIFICATE, SIGNED, verify_certificate
from tests.report.builder import build
from tests.report.runs import unfinished

pytestmark = pytest.mark.usefixtures("without_plotly")
PRIVATE = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
PUBLIC = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo


@pytest.fixture
def key(tmp_path):
    return Ed25519PrivateKey.generate()


def signing(folder, key):
    (folder / "key.pem").write_bytes(key.private_bytes(*PRIVATE))
    return Config(name="phantom", release={"signing_key": str(folder / "key.pem")})


@pytest.mark.parametrize("verdict", ["pass", "fail", "insufficient_evidence"])
def test_whatever_the_verdict_its_certificate_is_signed(tmp_path, key, verdict):
    runner, summary = build(tmp_path / "run", signing(tmp_path, key), verdict=verdict)
    publish(runner, summary)
    told = json.loads(runner.run.read_bytes(CERTIFICATE))
    assert (told["verdict"], told["decided"]) == (verdict, "2026-01-01")
    assert verify_certificate(runner.run, key.public_key().public_bytes(*PUBLIC)) == 1
    assert (tmp_path / "run" / "release").exists() is (verdict == "pass")


def test_a_certificate_alone_is_checked_anywhere(tmp_path, key):
    runner, summary = build(tmp_path / "run", signing(tmp_path, key), verdict="fail")
    publish(runner, summary)
    elsewhere = Store.open(str(tmp_path / "elsewhere"))
    for name in (CERTIFICATE, SIGNED):
        elsewhere.write_bytes(name, runner.run.read_bytes(name))
    assert verify_certificate(elsewhere) == 1
    with pytest.raises(LineageError, match="by another key"):
        verify_certificate(elsewhere, Ed25519PrivateKey.generate().public_key().public_bytes(*PUBLIC))
    elsewhere.write_bytes(CERTIFICATE, elsewhere.read_bytes(CERTIFICATE).replace(b"fail", b"pass"))
    with pytest.raises(LineageError, match=f"{CERTIFICATE} isn't what {SIGNED} signs"):
        verify_certificate(elsewhere)


def test_without_a_key_there_is_a_certificate_and_no_signature(tmp_path, key):
    runner, summary = build(tmp_path, verdict="fail")
    publish(runner, summary)
    assert verify_certificate(runner.run) == 1
    with pytest.raises(LineageError, match=r"isn't signed: set release\.signing_key"):
        verify_certificate(runner.run, key.public_key().public_bytes(*PUBLIC))


def test_a_signature_of_before_doesn_t_stay_beside_a_certificate_without_one(tmp_path, key):
    publish(*build(tmp_path / "run", signing(tmp_path, key), verdict="fail"))
    assert (tmp_path / "run" / SIGNED).exists()
    publish(*build(tmp_path / "run", verdict="fail"))
    assert not (tmp_path / "run" / SIGNED).exists()


def test_while_there_is_no_verdict_there_is_no_certificate(tmp_path, key):
    runner, summary = build(tmp_path / "run", signing(tmp_path, key), verdict="fail")
    for take_back in (lambda: publish(*unfinished(runner, 12)), lambda: withdraw(runner.run)):
        publish(runner, summary)
        assert verify_certificate(runner.run) == 1
        take_back()
        assert not {CERTIFICATE, SIGNED} & {path.name for path in (tmp_path / "run").iterdir()}
        assert verify_certificate(runner.run) == 0


def test_a_certificate_that_isn_t_what_was_judged_is_signed_nowhere(tmp_path, key):
    runner, summary = build(tmp_path / "run", signing(tmp_path, key), verdict="fail")
    publish(runner, summary)
    judged = runner.artifact("decision", "0123456789abcdef")
    judged.write_bytes(CERTIFICATE, judged.read_bytes(CERTIFICATE).replace(b"fail", b"pass"))
    with pytest.raises(LineageError, match=f"decision: {CERTIFICATE} .*manifest"):
        publish(runner, summary)
    assert not {CERTIFICATE, SIGNED} & {path.name for path in (tmp_path / "run").iterdir()}
