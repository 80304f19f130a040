"""RUN/release: there only when it may be, whole, checkable, and without a trace of a patient."""

import base64
import hashlib
import io
import json
import os
import shutil

import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from raydistill.core.config import Config
from raydistill.core.errors import LineageError
from raydistill.core.secret import run_secret
from raydistill.core.store import Store
from raydistill.matching.near_copy import StructureIndex
from raydistill.report.bundle import publish
from raydistill.report.html import render
from raydistill.report.patients import pseudonym
from raydistill.report.pictures import picture
from raydistill.report.verified import verify_release
from raydistill.stages.images import pixels
from tests.report.builder import RARE, SECRET, build
from tests.report.page import Page
from tests.report.runs import unfinished, without_student

pytestmark = pytest.mark.usefixtures("without_plotly")
ANYWAY = Config(name="phantom", release={"release_anyway": True})
MORE = Config(name="phantom", release={"more_formats": ["webdataset", "image_folder"], "licence": "CC-BY-4.0"})
KEY = "0123456789abcdef"
TOP = [
    "LICENSE", "README.md", "SHA256SUMS", "certificate.json", "croissant.json", "data", "report.html", "student"
]  # fmt: skip
OF_STUDENT = ["LICENSE", "README.md", "SHA256SUMS", "certificate.json"]


def release(tmp_path, **arguments):
    runner, summary = build(tmp_path / "run", **arguments)
    publish(runner, summary)
    return runner, summary, tmp_path / "run" / "release"


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_pass_is_released_whole(tmp_path):
    runner, _, folder = release(tmp_path)
    assert sorted(path.name for path in folder.iterdir()) == TOP
    assert names(folder / "data") == ["part-00000.parquet", "part-00001.parquet"]
    model = tmp_path / "run" / "student" / KEY / "model"
    assert names(folder / "student") == sorted([*OF_STUDENT, *names(model)])
    assert all((folder / "student" / name).read_bytes() == (model / name).read_bytes() for name in names(model))
    assert json.loads((folder / "certificate.json").read_text())["verdict"] == "pass"
    assert verify_release(runner.run / "release").files == len(names(folder)) - 1


def test_a_release_is_signed_where_there_is_a_key_and_what_was_swapped_is_found(tmp_path):
    key = Ed25519PrivateKey.generate()
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (tmp_path / "key.pem").write_bytes(key.private_bytes(*form))
    config = Config(name="phantom", release={"signing_key": str(tmp_path / "key.pem")})
    runner, summary, folder = release(tmp_path, config=config)
    public = key.public_key().public_bytes(form[0], serialization.PublicFormat.SubjectPublicKeyInfo)
    assert verify_release(runner.run / "release", public).files == len(names(folder)) - 2
    publish(runner, summary)  # is current, and stays as it is
    copy = tmp_path / "elsewhere"
    shutil.copytree(folder, copy)
    assert verify_release(Store.open(str(copy)), public).files == len(names(folder)) - 2
    weights = copy / "student" / "unet" / "x.safetensors"
    weights.write_bytes(b"other weights")
    sums = (copy / "SHA256SUMS").read_text().splitlines()
    changed = [
        f"{hashlib.sha256(b'other weights').hexdigest()}  student/unet/x.safetensors" if "unet" in s else s
        for s in sums
    ]
    (copy / "SHA256SUMS").write_text("\n".join(changed) + "\n")
    with pytest.raises(LineageError, match="signs"):
        verify_release(Store.open(str(copy)), public)
    other = Ed25519PrivateKey.generate().public_key()
    with pytest.raises(LineageError, match="by another key"):
        verify_release(
            runner.run / "release", other.public_bytes(form[0], serialization.PublicFormat.SubjectPublicKeyInfo)
        )
    secret = (tmp_path / "key.pem").read_text().splitlines()[1].encode()
    assert not any(secret in path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file())


def test_who_asks_for_a_signature_gets_one_or_an_error(tmp_path):
    runner, _, _ = release(tmp_path)
    with pytest.raises(LineageError, match=r"isn't signed: set release\.signing_key"):
        verify_release(runner.run / "release", b"a public key")


@pytest.mark.parametrize("verdict", ["fail", "insufficient_evidence"])
def test_no_other_verdict_is_released(tmp_path, verdict):
    runner, _, folder = release(tmp_path, verdict=verdict)
    assert not folder.exists()
    assert verify_release(runner.run / "release") is None


@pytest.mark.parametrize("verdict", ["fail", "insufficient_evidence"])
def test_released_anyway_says_so_on_top_of_everything(tmp_path, verdict):
    _, summary, folder = release(tmp_path, verdict=verdict, config=ANYWAY)
    word = {"fail": "Fail", "insufficient_evidence": "Insufficient evidence"}[verdict]
    for card in ("README.md", "student/README.md"):
        body = (folder / card).read_text().split("\n---\n", 1)[1].strip().splitlines()
        assert body[2:4] == [
            "> [!WARNING]",
            f'> **Released against the verdict "{word}".** ' + body[3].split("** ", 1)[1],
        ]
        assert any(line == f"> - {summary['reasons'][0]}" for line in body[4:8])
    assert "against this verdict" in Page((folder / "report.html").read_text()).text("summary")


def test_an_unfinished_run_is_not_released_anyway(tmp_path):
    runner, summary = build(tmp_path, ANYWAY)
    for moment in (*(unfinished(runner, finished) for finished in (0, 12, 18)), (runner, summary | {"verdict": None})):
        publish(*moment)
        assert not (tmp_path / "release").exists()


def test_without_a_student_there_is_nothing_to_release(tmp_path):
    runner, summary = build(tmp_path, ANYWAY)
    publish(runner, summary)
    assert (tmp_path / "release").exists()
    publish(runner, without_student(runner, summary))
    assert not (tmp_path / "release").exists()


def test_an_old_release_goes_when_the_verdict_turns(tmp_path):
    _, _, folder = release(tmp_path)
    assert folder.exists()
    release(tmp_path, verdict="fail")
    assert not folder.exists()


def times(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_a_current_release_is_not_touched(tmp_path):
    runner, summary, folder = release(tmp_path)
    for path in folder.rglob("*"):
        os.utime(path, ns=(1, 1))
    before = times(folder)
    publish(runner, summary)
    assert times(folder) == before


@pytest.mark.parametrize(
    "harm",
    [
        lambda folder: (folder / "SHA256SUMS").unlink(),
        lambda folder: (folder / "data" / "part-00001.parquet").unlink(),
        lambda folder: (folder / "student" / "extra").write_bytes(b"x"),
    ],
)
def test_a_release_that_was_not_finished_is_made_again(tmp_path, harm):
    runner, summary, folder = release(tmp_path)
    before = names(folder)
    harm(folder)
    publish(runner, summary)
    assert names(folder) == before
    assert verify_release(runner.run / "release").files == len(before) - 1


def test_other_evidence_makes_another_release(tmp_path):
    runner, summary, folder = release(tmp_path)
    summary["metrics"]["student"]["excess_risk"]["value"] = 0.0321
    publish(runner, summary)
    assert "3.21" in (folder / "README.md").read_text()


OTHER = {
    "licence": {"licence": "CC0-1.0"},
    "text": {"licence_text": "terms.txt"},
    "one format": {"more_formats": ["webdataset"]},
    "no format": {"more_formats": []},
}


@pytest.mark.parametrize("other", OTHER)
def test_another_way_of_packing_makes_another_release(tmp_path, monkeypatch, other):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "terms.txt").write_text("Ask the board.\n")
    runner, summary, folder = release(tmp_path, config=MORE)
    before = names(folder)
    runner.config = Config(name="phantom", release=OTHER[other])
    publish(runner, summary)
    assert verify_release(runner.run / "release").files == len(names(folder)) - 1
    assert names(folder) != before or other in ("licence", "text")
    for place in (folder, folder / "student"):
        said = (place / "LICENSE").read_text()
        first = {"licence": "This release is licensed under CC0-1.0", "text": "Ask the board."}.get(
            other, "No licence is granted."
        )
        assert said.startswith(first)
        assert ("license_link: LICENSE" in (place / "README.md").read_text()) is (other != "licence")
    kinds = {name.split("/")[0] for name in names(folder)} & {"webdataset", "image_folder"}
    assert kinds == set(OTHER[other].get("more_formats", []))
    card = (folder / "README.md").read_text()
    assert all((f"`{kind}/`" in card) is (kind in kinds) for kind in ("webdataset", "image_folder"))


def test_another_key_signs_anew(tmp_path):
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    keys = [Ed25519PrivateKey.generate() for _ in range(2)]
    (tmp_path / "key.pem").write_bytes(keys[0].private_bytes(*form))
    runner, summary, _ = release(
        tmp_path, config=Config(name="phantom", release={"signing_key": str(tmp_path / "key.pem")})
    )
    (tmp_path / "key.pem").write_bytes(keys[1].private_bytes(*form))
    publish(runner, summary)
    public = keys[1].public_key().public_bytes(form[0], serialization.PublicFormat.SubjectPublicKeyInfo)
    assert verify_release(runner.run / "release", public).is_signed
    assert verify_release(runner.run / "release" / "student", public).is_signed


def test_checksums_cover_everything_and_are_right(tmp_path):
    _, _, folder = release(tmp_path)
    lines = (folder / "SHA256SUMS").read_text().splitlines()
    expected = [f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}" for name in names(folder)]
    assert lines == [line for line in expected if not line.endswith("  SHA256SUMS")]


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda f: (f / "student/unet/x.safetensors").unlink(), "student/unet/x.safetensors is missing"),
        (
            lambda f: (f / "data/part-00000.parquet").write_bytes(b"?"),
            "data/part-00000.parquet .* isn't what SHA256SUMS",
        ),
        (lambda f: (f / "student/extra").write_bytes(b""), "student/extra in .* isn't in SHA256SUMS"),
        (lambda f: (f / "SHA256SUMS").unlink(), "no SHA256SUMS"),
    ],
)
def test_verify_names_what_is_wrong(tmp_path, harm, words):
    runner, _, folder = release(tmp_path)
    harm(folder)
    with pytest.raises(LineageError, match=words):
        verify_release(runner.run / "release")


@pytest.mark.parametrize(
    ("node", "path"),
    [
        ("student", "model/unet/x.safetensors"),
        ("student_samples", "samples/part-00001.parquet"),
        ("student_verdicts", "verdicts/part-00000.parquet"),
        ("decision", "certificate.json"),
    ],
)
@pytest.mark.parametrize("gone", [False, True])
def test_what_is_not_what_was_judged_does_not_leave(tmp_path, node, path, gone):
    runner, summary = build(tmp_path)
    file = tmp_path / node / KEY / path
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    if gone:
        file.unlink()
    with pytest.raises(LineageError, match=f"{node}: {path} .*{'missing' if gone else 'manifest'}"):
        publish(runner, summary)
    assert not (tmp_path / "release").exists()


def test_no_patient_is_anywhere_in_a_release(tmp_path):
    runner, summary, folder = release(tmp_path, config=MORE)
    train = runner.artifact("ingest", KEY).read_table("train").to_pylist()
    assert all(SECRET in row["patient_id"] + row["image_id"] + row["prompt"] for row in train)
    files = {name: (folder / name).read_bytes() for name in names(folder)}
    for name, content in files.items():
        assert SECRET.encode() not in content, name
        assert RARE.encode() not in content, name
        assert not any(row["image"] in content for row in train), name
    tables = [pq.read_table(folder / name).to_pylist() for name in files if name.endswith(".parquet")]
    assert SECRET not in repr(tables)
    assert RARE not in repr(tables)
    released = {row["image"]["bytes"] for table in tables for row in table}
    assert {content for name, content in files.items() if name.endswith(".png")} == released
    assert all(any(image in files[name] for name in files if name.endswith(".tar")) for image in released)
    assert not released & {row["image"] for row in train}
    shown = files["report.html"].decode()
    assert not any(picture(row["image"], "").uri in shown for row in train)
    assert RARE in render(runner, summary, public=False)
    hashes = {pseudonym(run_secret(runner.run), row["patient_id"]) for row in train}
    assert not any(name in shown for name in hashes)


def test_no_picture_that_leaves_is_nearly_a_real_one(tmp_path):
    """Whatever is drawn of real people inside, re-encoded or not, stays there."""
    runner, summary, folder = release(tmp_path)
    ingest = runner.artifact("ingest", KEY)
    real = pa.concat_tables([ingest.read_table(role) for role in ("train", "probe", "calibration", "evaluation")])
    index = StructureIndex.of(pixels(real), 2)
    tables = [pq.read_table(folder / name).to_pylist() for name in names(folder) if name.endswith(".parquet")]
    released = [row["image"]["bytes"] for table in tables for row in table]
    shown, inside = (
        drawn(page) for page in ((folder / "report.html").read_text(), render(runner, summary, public=False))
    )
    assert released
    assert shown
    # The inside edition shows real people's pictures: this would be seen.
    assert index.search(grey(inside))[0].max() > 0.999
    assert index.search(grey(released + shown))[0].max() < 0.995


def drawn(html):
    return [base64.b64decode(uri.partition(",")[2]) for uri in Page(html).images()]


def grey(contents):
    images = [PIL.Image.open(io.BytesIO(content)).convert("L").resize((64, 64)) for content in contents]
    return np.stack([np.asarray(image) for image in images])
