"""Keys and digests: equal content, equal key; anything else, another one."""

from hypothesis import given
from hypothesis import strategies as st

from raydistill.core.manifest import FileEntry, artifact_key, digest_files, is_under

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.dictionaries(st.text(), inner), max_leaves=8
)


@given(st.dictionaries(st.text(), values, min_size=1))
def test_a_key_does_not_depend_on_the_order_of_a_configuration(config):
    backwards = dict(reversed(config.items()))
    assert artifact_key("s", 1, config, {}) == artifact_key("s", 1, backwards, {})


@given(st.integers(), st.integers())
def test_a_key_changes_with_what_decides_the_content(a, b):
    base = artifact_key("s", 1, {"a": a}, {"x": "1"})
    assert (artifact_key("s", 1, {"a": b}, {"x": "1"}) == base) == (a == b)
    assert artifact_key("s", 2, {"a": a}, {"x": "1"}) != base
    assert artifact_key("t", 1, {"a": a}, {"x": "1"}) != base
    assert artifact_key("s", 1, {"a": a}, {"x": "2"}) != base


@given(st.lists(st.tuples(st.text(), st.integers(0), st.text()), unique=True))
def test_a_digest_does_not_depend_on_the_order_of_files(rows):
    files = [FileEntry(path=p, size=s, sha256=h) for p, s, h in rows]
    assert digest_files(files) == digest_files(reversed(files))
    if files:
        assert digest_files(files) != digest_files(files[1:])


def test_folders_are_not_prefixes_of_names():
    assert is_under("train/part-0", "train")
    assert not is_under("training/part-0", "train")
    assert is_under("anything", "")
