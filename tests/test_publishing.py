"""A release is handed on whole and passed, or not at all; nothing that was cut off looks complete."""

import json
import shutil
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from huggingface_hub import constants
from typer.testing import CliRunner

from raydistill.cli import app
from raydistill.core.config import Config
from raydistill.core.errors import LineageError
from raydistill.core.store import Store
from raydistill.report.bundle import publish
from raydistill.report.verified import verify_release
from tests.hub_server import TOKEN, Hub
from tests.report.builder import build

MODEL, DATA = "models/hospital/chest", "datasets/hospital/chest"
PRIVATE = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
PUBLIC = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo


def said(*arguments):
    return CliRunner().invoke(app, ["publish", *map(str, arguments)])


def made(folder, verdict):
    """A release of that verdict, signed; and the custodian's public key beside it."""
    key = Ed25519PrivateKey.generate()
    (folder / "key.pem").write_bytes(key.private_bytes(*PRIVATE))
    (folder / "public.pem").write_bytes(key.public_key().public_bytes(*PUBLIC))
    told = {"signing_key": str(folder / "key.pem"), "release_anyway": True, "more_formats": ["webdataset"]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("raydistill.report.html.get_plotlyjs", lambda: "")
        publish(*build(folder / "run", Config(name="phantom", release=told), verdict=verdict))
    return folder / "run" / "release"


@pytest.fixture(scope="module")
def passed(tmp_path_factory):
    return made(tmp_path_factory.mktemp("passed"), "pass")


@pytest.fixture(scope="module")
def failed(tmp_path_factory):
    return made(tmp_path_factory.mktemp("failed"), "fail")


@pytest.fixture
def hub(monkeypatch):
    server = Hub()
    monkeypatch.setattr(constants, "ENDPOINT", server.endpoint)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    yield server
    server.close()


def held(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_bucket_gets_all_of_it_and_the_same_command_again_nothing(passed, bucket):
    target = f"{bucket}/chest"
    result = said(passed, target, "--public-key", passed.parents[1] / "public.pem")
    assert result.exit_code == 0, result.output
    store = Store.open(target)
    assert {name: store.read_bytes(name) for name in store.files()} == held(passed)
    assert verify_release(store, (passed.parents[1] / "public.pem").read_bytes()).is_signed
    proof = [
        f"{part}SHA256SUMS{end}"
        for part, end in (("student/", ""), ("student/", ".sig.json"), ("", ".sig.json"), ("", ""))
    ]
    assert result.output.splitlines()[-5:-1] == [f"{target}/{name}" for name in proof]
    again = said(passed, target)
    assert again.exit_code == 0
    assert again.output.startswith("is there already: ")


@pytest.mark.parametrize("place", ["s3", "folder"])
def test_what_was_cut_off_is_no_release_until_the_same_command_finishes_it(
    passed, tmp_path, monkeypatch, request, place
):
    target = str(tmp_path / "to") if place == "folder" else f"{request.getfixturevalue('s3_bucket')}/to"
    write, count = Store.write_bytes, len(held(passed))

    def failing(store, name, content):
        if len(Store.open(target).files()) == count - 1:
            raise OSError("the line is dead")
        write(store, name, content)

    monkeypatch.setattr(Store, "write_bytes", failing)
    result = said(passed, target)
    assert (result.exit_code, result.output.splitlines()[-1]) == (
        1,
        "error: the line is dead; the same command continues once that is mended",
    )
    monkeypatch.undo() if place == "folder" else monkeypatch.setattr(Store, "write_bytes", write)
    assert len(Store.open(target).files()) == count - 1
    with pytest.raises(LineageError, match="it wasn't finished"):
        verify_release(Store.open(target))
    assert said(passed, target).exit_code == 0
    assert verify_release(Store.open(target)).files == count - 2


def test_a_place_that_holds_something_else_is_left_alone(passed, failed, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    result = said(passed, tmp_path)
    assert result.exit_code == 2
    assert "holds something else (thesis.txt): name an empty folder" in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    copy = shutil.copytree(failed, tmp_path / "other")
    result = said(passed, copy)
    assert result.exit_code == 2
    assert "holds something else (SHA256SUMS)" in result.output


def test_only_a_pass_is_handed_on_even_where_it_was_released_anyway(failed, tmp_path):
    for more in ([], ["--dry-run"]):
        result = said(failed, tmp_path / "to", *more)
        assert result.exit_code == 2
        assert "isn't published: its verdict is fail, and only a pass may be" in result.output
    assert not (tmp_path / "to").exists()


def test_only_what_verifies_is_handed_on(passed, tmp_path):
    copy = Path(shutil.copytree(passed, tmp_path / "copy"))
    (copy / "report.html").write_text("better numbers")
    for more in ([], ["--dry-run"]):
        result = said(copy, tmp_path / "to", *more)
        assert result.exit_code == 1
        assert "report.html in" in result.output
    (copy / "SHA256SUMS").unlink()
    assert "it wasn't finished" in said(copy, tmp_path / "to").output
    other = tmp_path / "other.pem"
    other.write_bytes(Ed25519PrivateKey.generate().public_key().public_bytes(*PUBLIC))
    result = said(passed, tmp_path / "to", "--public-key", other)
    assert result.exit_code == 1
    assert "by another key" in result.output
    assert not (tmp_path / "to").exists()


def test_who_was_given_a_release_is_told_what_they_can_do(passed, tmp_path):
    def verified(*arguments):
        result = CliRunner().invoke(app, ["verify", *map(str, arguments)])
        assert result.exit_code == 1
        assert result.output.count("\n") == 1
        return result.output

    own, other = passed.parents[1] / "public.pem", tmp_path / "other.pem"
    other.write_bytes(Ed25519PrivateKey.generate().public_key().public_bytes(*PUBLIC))
    assert "is what was signed, but by another key than the one given" in verified(passed, "--public-key", other)
    copy = Path(shutil.copytree(passed, tmp_path / "copy"))
    (copy / "SHA256SUMS.sig.json").unlink()
    assert "isn't signed, so nothing tells whose it is: ask" in verified(copy, "--public-key", own)
    (copy / "SHA256SUMS").unlink()
    assert "it wasn't finished, or not copied whole; get it once more" in verified(copy)


def test_what_is_no_release_or_no_address_is_said(passed, tmp_path):
    for source in (tmp_path, passed.parent, passed / "student"):
        result = said(source, tmp_path / "to")
        assert result.exit_code == 2, result.output
        assert "is no release: name the folder release/ of a run" in result.output
    for target in ("hf://hospital", "hf://a/b/c", "hf://-x/y", "ftps://x/y"):
        result = said(passed, target)
        assert result.exit_code == 2, result.output
        assert target in result.output


def test_a_release_that_changes_on_the_way_is_not_finished(passed, tmp_path, monkeypatch):
    copy = Path(shutil.copytree(passed, tmp_path / "copy"))
    write = Store.write_bytes

    def swapping(store, name, content):
        (copy / "report.html").write_text("swapped")
        write(store, name, content)

    monkeypatch.setattr(Store, "write_bytes", swapping)
    result = said(copy, tmp_path / "to")
    assert result.exit_code == 1
    assert "has changed since it was verified" in result.output
    assert not (tmp_path / "to" / "SHA256SUMS").exists()


def test_the_hub_gets_two_repositories_each_in_one_commit(passed, hub):
    result = said(passed, "hf://hospital/chest")
    assert result.exit_code == 0, result.output
    assert hub.commits == [MODEL, DATA]
    assert hub.visibility == {MODEL: "private", DATA: "private"}
    assert hub.files[MODEL] == held(passed / "student") | {".gitattributes": b""}
    assert hub.files[DATA] == held(passed) | {".gitattributes": b""}
    assert TOKEN not in result.output


def test_another_release_replaces_the_files_of_the_one_before(passed, hub):
    assert said(passed, "hf://hospital/chest", "--public").exit_code == 0
    assert set(hub.visibility.values()) == {"public"}
    hub.files[DATA]["data/part-00009.parquet"] = b"of an older release"
    assert said(passed, "hf://hospital/chest").exit_code == 0
    assert hub.files[DATA] == held(passed) | {".gitattributes": b""}


def test_a_repository_of_something_else_is_left_alone(passed, hub):
    hub.files[MODEL] = {"pytorch_model.bin": b"of somebody", "README.md": b"theirs"}
    result = said(passed, "hf://hospital/chest")
    assert result.exit_code == 2
    assert "hf://hospital/chest holds something else than a release" in result.output
    assert hub.commits == []


def test_a_hub_that_fails_has_taken_nothing(passed, hub):
    hub.is_down = True
    result = said(passed, "hf://hospital/chest")
    assert result.exit_code == 2
    assert "the hub didn't take hf://hospital/chest: " in result.output
    assert list(hub.files.values()) == [{".gitattributes": b""}]
    hub.is_down, hub.ignored = False, {"unet/x.safetensors"}
    result = said(passed, "hf://hospital/chest")
    assert result.exit_code == 1
    assert "the hub didn't take unet/x.safetensors: hf://hospital/chest isn't complete" in result.output


@pytest.mark.parametrize("token", ["", "hf_of-somebody"])
def test_without_the_token_nothing_is_made(passed, hub, monkeypatch, tmp_path, token):
    monkeypatch.setenv("HF_TOKEN", token)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    result = said(passed, "hf://hospital/chest")
    assert result.exit_code == 2
    assert "the token (hf auth login, or HF_TOKEN)" in " ".join(result.output.split())
    assert "Traceback" not in result.output
    assert hub.files == {}


def test_a_dry_run_says_what_would_go_where_and_asks_nobody(passed, hub):
    result = said(passed, "hf://hospital/chest", "--dry-run")
    assert result.exit_code == 0, result.output
    assert hub.files == {}
    lines = result.output.splitlines()
    assert lines[-1].startswith("nothing was sent, for --dry-run; it would be ")
    weights = len((passed / "student/unet/x.safetensors").read_bytes())
    sizes = f"({weights} bytes)"
    assert f"student/unet/x.safetensors -> hf://hospital/chest/unet/x.safetensors {sizes}" in lines
    assert f"student/unet/x.safetensors -> hf://datasets/hospital/chest/student/unet/x.safetensors {sizes}" in lines
    told = json.loads(said(passed, "hf://hospital/chest", "--dry-run", "--json").stdout)
    assert told["state"] == "planned"
    assert len(told["files"]) == len(lines) - 1 == len(held(passed)) + len(held(passed / "student"))
    assert [one["to"] for one in told["files"]][-1] == "hf://datasets/hospital/chest/SHA256SUMS"


def test_a_dry_run_to_a_folder_writes_nothing(passed, tmp_path):
    result = said(passed, tmp_path / "to", "--dry-run")
    assert result.exit_code == 0
    assert not (tmp_path / "to").exists()
    assert f"SHA256SUMS -> {tmp_path}/to/SHA256SUMS" in result.output
