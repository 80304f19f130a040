"""Seeds by name."""

from hypothesis import given
from hypothesis import strategies as st

from raydistill.core.seeds import derive_seed, generator

names = st.lists(st.text() | st.integers(), min_size=1, max_size=4)


@given(st.integers(0, 2**63 - 1), names, names)
def test_a_seed_is_a_function_of_its_names_alone(root, a, b):
    assert derive_seed(root, *a) == derive_seed(root, *a)
    assert 0 <= derive_seed(root, *a) < 2**63
    if [(type(x), x) for x in a] != [(type(x), x) for x in b]:
        assert derive_seed(root, *a) != derive_seed(root, *b)


def test_generators_are_streams_of_their_own():
    assert generator(0, "a").integers(1 << 30) == generator(0, "a").integers(1 << 30)
    assert generator(0, "a").integers(1 << 30) != generator(0, "b").integers(1 << 30)
