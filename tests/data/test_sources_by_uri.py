"""Every kind of source is read from wherever it lies, and rows are the same."""

import fsspec
import numpy as np
import pytest

from raydistill.core.errors import InputError
from raydistill.core.store import Store
from raydistill.data.sources import open_source

from .bad import dicom_folder
from .built import BUILDERS, cohort, source_section

KINDS = {**BUILDERS, "dicom": lambda folder, rows: dicom_folder(folder)}


def at(section, path, elsewhere):
    return open_source(source_section(section | {"path": section["path"].replace(str(path), elsewhere)}))


def seen(source):
    source.check()
    rows = [vars(row) for row in source.rows()]
    for row in rows:
        row["image"] = row["image"].tobytes() if isinstance(row["image"], np.ndarray) else row["image"]
    return rows


@pytest.fixture
def memory():
    """An object store in this process's memory, behind fsspec."""
    filesystem = fsspec.filesystem("memory")
    yield filesystem
    filesystem.rm("/archive", recursive=True)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_and_fingerprint_are_those_of_the_local_archive(tmp_path, memory, kind):
    section = KINDS[kind](tmp_path / "archive", cohort())
    memory.put(str(tmp_path / "archive"), "/archive", recursive=True)
    local, behind_file, remote = (
        at(section, tmp_path, place) for place in (str(tmp_path), f"file://{tmp_path}", "memory://")
    )
    rows = seen(local)
    assert len(rows) >= 6
    assert all(row["image"] for row in rows)
    assert rows == seen(behind_file) == seen(remote)
    assert local.fingerprint() == behind_file.fingerprint()
    found = remote.fingerprint()
    assert (found["files"], found["bytes"]) == (local.fingerprint()["files"], local.fingerprint()["bytes"])


@pytest.mark.parametrize("kind", ["datasets", "dicom"])
def test_buckets_need_no_package_of_their_own(tmp_path, bucket, kind):
    section = KINDS[kind](tmp_path / "archive", cohort())
    Store.open(f"{bucket}/archive").upload(tmp_path / "archive")
    assert seen(at(section, tmp_path, bucket)) == seen(open_source(source_section(section)))


@pytest.mark.parametrize("kind", ["csv", "dicom"])
def test_what_a_store_has_and_does_not_give_is_no_missing_image(tmp_path, memory, monkeypatch, kind):
    section = KINDS[kind](tmp_path / "archive", cohort())
    memory.put(str(tmp_path / "archive"), "/archive", recursive=True)
    source = at(section, tmp_path, "memory://")
    source.check()
    opened = type(memory)._open

    def slow(self, path, *arguments, **options):
        if path.endswith(("i003.png", "3.dcm")):
            # As fsspec raises it: without a word.
            raise TimeoutError
        return opened(self, path, *arguments, **options)

    monkeypatch.setattr(type(memory), "_open", slow)
    with pytest.raises(InputError, match="can't be read: TimeoutError; the same command reads it again"):
        list(source.rows())


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_there_is_one_readable_line(tmp_path, kind):
    section = KINDS[kind](tmp_path / "archive", cohort())
    with pytest.raises(InputError) as caught:
        at(section, tmp_path / "archive", "memory://none").check()
    assert "\n" not in str(caught.value)
