"""Files behind a URI: a local folder and local servers of S3 and of Google's storage behave alike."""

import os

import pyarrow as pa
import pytest

from raydistill.core.errors import InputError
from raydistill.core.store import Store, readable


@pytest.fixture(params=["local", "s3", "gs"])
def store(request, tmp_path):
    if request.param == "local":
        return Store.open(str(tmp_path / "run"))
    return Store.open(f"{request.getfixturevalue(f'{request.param}_bucket')}/run")


def test_bytes_json_and_tables_come_back(store):
    table = pa.table({"a": [1, 2], "b": ["x", None]})
    store.write_bytes("x/y.bin", b"abc")
    store.write_json("x/z.json", {"k": [1.5, None]})
    store.write_table("t/part-00001.parquet", table.slice(1))
    store.write_table("t/part-00000.parquet", table.slice(0, 1))
    assert store.read_bytes("x/y.bin") == b"abc"
    assert (store.size("x/y.bin"), store.read_start("x/y.bin", 2), store.read_start("x/y.bin", 9)) == (3, b"ab", b"abc")
    for absent in ("x", "x/none"):
        with pytest.raises(FileNotFoundError):
            store.size(absent)
    assert store.read_json("x/z.json") == {"k": [1.5, None]}
    assert store.read_table("t").equals(table)
    assert (store / "t").read_table("part-00001.parquet", columns=["a"]).to_pydict() == {"a": [2]}
    assert store.files() == ["t/part-00000.parquet", "t/part-00001.parquet", "x/y.bin", "x/z.json"]
    assert (store / "t").shards() == ["part-00000.parquet", "part-00001.parquet"]
    assert store.exists("x/y.bin")
    assert store.exists("t")
    assert not store.exists("nothing")


def test_delete_and_fingerprint(store):
    store.write_bytes("a/1", b"one")
    before = store.fingerprint()
    store.write_bytes("manifest.json", b"{}")
    assert store.fingerprint() == before
    store.write_bytes("a/1", b"two")
    assert store.fingerprint() != before
    store.delete("a")
    store.delete("never there")
    assert store.files() == ["manifest.json"]


def test_folders_travel(store, tmp_path):
    source = tmp_path / "source"
    (source / "deep").mkdir(parents=True)
    (source / "deep/f").write_bytes(b"1")
    store.upload(source, "up")
    assert (store.keep_local("up") / "deep/f").read_bytes() == b"1"


def test_a_write_that_dies_leaves_nothing_that_looks_complete(tmp_path, monkeypatch):
    store = Store.open(str(tmp_path))
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        store.write_bytes("x", b"1")
    assert store.files() == []
    store.delete_partial()
    assert list(tmp_path.iterdir()) == []


def test_an_error_without_a_word_is_called_by_its_name():
    with pytest.raises(InputError, match="memory://archive: can't be read: TimeoutError"), readable("memory://archive"):
        raise TimeoutError


def test_nan_is_refused_in_json(tmp_path):
    with pytest.raises(ValueError, match="Out of range"):
        Store.open(str(tmp_path)).write_json("x", float("nan"))


def test_an_address_with_a_secret_is_refused_without_saying_it():
    with pytest.raises(InputError, match=r"s3://…@bucket holds a secret") as refused:
        Store.open("s3://AKIA:planted@bucket/runs/x")
    assert "planted" not in str(refused.value)


def test_an_unknown_scheme_is_an_input_error():
    with pytest.raises(InputError, match="can't open nope://x"):
        Store.open("nope://x/y")
