"""A release is checked wherever it lies, by its own files alone; what is wrong is named."""

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save
from typer.testing import CliRunner

from raydistill.cli import app
from raydistill.core.errors import LineageError
from raydistill.core.store import Store
from raydistill.report.bundle import publish
from raydistill.report.verified import Verified, _is_safetensors, verify_release
from tests.report.builder import build

WEIGHTS = "student/unet/x.safetensors"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A release that lies somewhere else than its run, which is gone."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("raydistill.report.html.get_plotlyjs", lambda: "")
        publish(*build(folder / "run"))
    shutil.move(folder / "run" / "release", folder / "handed on")
    shutil.rmtree(folder / "run")
    return folder / "handed on"


@pytest.fixture
def copy(made, tmp_path):
    return Path(shutil.copytree(made, tmp_path / "copy"))


def relisted(folder):
    """List a release anew, as whoever makes one by hand would."""
    names = sorted(str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file() and f != folder / "SHA256SUMS")
    lines = [f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    (folder / "SHA256SUMS").write_text("".join(lines))
    return Store.open(str(folder))


def said(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)))


def test_a_whole_release_and_its_student_alone_hold(made):
    count = sum(path.is_file() for path in made.rglob("*"))
    assert verify_release(Store.open(str(made))) == Verified(count - 1, "pass", "2026-01-01", False, (), ())
    alone = sum(path.is_file() for path in (made / "student").rglob("*"))
    assert verify_release(Store.open(str(made / "student"))).files == alone - 1


def test_what_was_allowed_beyond_raydistill_s_own_is_said(copy):
    certificate = json.loads((copy / "certificate.json").read_text())
    certificate["budgets"]["max_leak_rate"] = 0.5
    certificate["student"]["touched_real_data"] = ["its training read ingest"]
    (copy / "certificate.json").write_text(json.dumps(certificate))
    relisted(copy)
    said_of_it = said("verify", copy).output
    assert "but: The student has touched real data: its training read ingest." in said_of_it
    assert "but: release.budgets.max_leak_rate is 0.5, looser than raydistill's own 0.05." in said_of_it


@pytest.mark.parametrize("part", ["", "student"])
def test_coreutils_check_it_too(made, part):
    check = subprocess.run(
        ["sha256sum", "--strict", "-c", "SHA256SUMS"], cwd=made / part, capture_output=True, text=True, check=False
    )
    assert check.returncode == 0, check.stderr
    assert check.stdout.count(": OK\n") == verify_release(Store.open(str(made / part))).files


def test_what_a_hub_adds_is_passed_over_and_named(copy):
    (copy / ".gitattributes").write_text("*.parquet filter=lfs\n")
    (copy / ".cache/huggingface/download").mkdir(parents=True)
    (copy / ".cache/huggingface/download/x.metadata").write_text("1")
    found = verify_release(Store.open(str(copy)))
    assert found.beside == (".cache/huggingface/download/x.metadata", ".gitattributes")
    result = said("verify", copy)
    assert result.exit_code == 0
    assert "not of the release, but of a hub: .gitattributes" in result.output
    (copy / ".cache/other").write_text("1")
    with pytest.raises(LineageError, match=r"\.cache/other in .* isn't in SHA256SUMS"):
        verify_release(Store.open(str(copy)))


@pytest.mark.parametrize("name", ["student/unet/x.bin", "student/x.pt", "student/code.py", "data/x.pkl", "student/run"])
def test_no_kind_of_file_that_can_hold_code_is_in_a_release(copy, name):
    (copy / name).write_bytes(b"x")
    with pytest.raises(LineageError, match=f"{name} in .* is of no kind that a release holds"):
        verify_release(relisted(copy))


TENSORS = save({"a": np.arange(6, dtype=np.float32), "b": np.zeros(0, np.float32)}, metadata={"format": "pt"})


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"w" * 99, TENSORS[:-1], TENSORS + b"x", TENSORS[:7], b"\x80\x04." + TENSORS),
        *((len(text)).to_bytes(8, "little") + text for text in (b"[]", b"{", b'{"a": 1}', b'{"a": {}}', b"\xff\xff")),
        (2**60).to_bytes(8, "little") + b"{}",
        b"\x1a\0\0\0\0\0\0\0" + b'{"a":{"data_offsets":[4]}}',
    ],
)
def test_weights_are_safetensors_to_the_last_byte(copy, content):
    (copy / WEIGHTS).write_bytes(content)
    with pytest.raises(LineageError, match=f"{WEIGHTS} in .* isn't in the safetensors format"):
        verify_release(relisted(copy))


@given(shapes=st.lists(st.lists(st.integers(0, 4), max_size=3), min_size=1, max_size=5), metadata=st.booleans())
def test_every_safetensors_file_is_taken_for_one(tmp_path_factory, shapes, metadata):
    tensors = {f"t{number}": np.zeros(shape, np.float16) for number, shape in enumerate(shapes)}
    store = Store.open(str(tmp_path_factory.mktemp("weights")))
    store.write_bytes("x", save(tensors, metadata={"format": "pt"} if metadata else None))
    assert _is_safetensors(store, "x")


def test_a_release_without_weights_is_none(copy):
    (copy / WEIGHTS).unlink()
    with pytest.raises(LineageError, match="there are no weights in"):
        verify_release(relisted(copy))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"verdict": "perhaps"}, "verdict: Input should be"),
        ({"schema": 1}, "schema: Input should be greater"),
        ({"patients": ["p1"]}, "patients: Extra inputs"),
        ({"cohort": {"train": {"images": 60}}}, r"cohort\.train\.patients: Field required"),
    ],
)
def test_a_certificate_keeps_to_its_schema(copy, change, words):
    changed = json.loads((copy / "certificate.json").read_text()) | change
    (copy / "certificate.json").write_text(json.dumps(changed))
    with pytest.raises(LineageError, match=rf"certificate\.json in .* isn't of schema 4.*{words}"):
        verify_release(relisted(copy))


@pytest.mark.parametrize(("content", "words"), [(None, "is missing"), (b"\xff{", "it isn't JSON")])
def test_a_certificate_is_there_and_can_be_read(copy, content, words):
    (copy / "certificate.json").write_bytes(content or b"")
    if content is None:
        (copy / "certificate.json").unlink()
    with pytest.raises(LineageError, match=f"certificate.json.* {words}"):
        verify_release(relisted(copy))


@pytest.mark.parametrize(
    "line", ["x", "ab  README.md", f"{'g' * 64}  README.md", f"{'0' * 64} *README.md", f"{'0' * 64}  README.md", "\xff"]
)
def test_a_list_that_is_none_is_one_line(copy, line):
    with (copy / "SHA256SUMS").open("a", encoding="latin-1") as file:
        file.write(f"{line}\n")
    result = said("verify", copy)
    assert result.exit_code == 1
    assert "of SHA256SUMS in" in result.output
    assert result.output.count("\n") == 1


@pytest.mark.parametrize(
    "name", ["manifest.json", "student/x.safetensors.1234.partial", ".hidden", "data/part-9.parquet"]
)
def test_no_file_more_is_passed_over(copy, name):
    (copy / name).write_text("{}")
    with pytest.raises(LineageError, match=rf"{name} in .* isn't in SHA256SUMS"):
        verify_release(Store.open(str(copy)))


def test_a_copy_that_was_not_finished_is_refused(copy):
    (copy / "SHA256SUMS").unlink()
    result = said("verify", copy)
    assert result.exit_code == 1
    assert "has no SHA256SUMS: it wasn't finished" in result.output


def test_the_command_says_it_to_machines(copy):
    result = said("verify", copy, "--json")
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert (found["what"], found["holds"], found["verdict"], found["is_signed"]) == ("release", True, "pass", False)
    (copy / "report.html").write_text("other")
    result = said("verify", copy, "--json")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert (found["holds"], found["what"]) == (False, "release")
    assert "report.html" in found["problem"]
    assert said("verify", copy, "--public-key", copy / "none.pem").exit_code == 2
