from hypothesis import given
from hypothesis import strategies as st

from raydistill.core.spool import Spool


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_everything_comes_back_in_any_order(contents):
    spool = Spool()
    kept = [spool.keep(content) for content in contents]
    assert [place.read() for place in reversed(kept)] == contents[::-1]
    assert spool.end == sum(map(len, contents))


def test_what_is_kept_keeps_the_file():
    kept = Spool().keep(b"alone")
    assert kept.read() == b"alone"
