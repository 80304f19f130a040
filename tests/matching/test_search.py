import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raydistill.core.errors import InputError
from raydistill.matching import search
from raydistill.matching.mirror import either_way, flipped
from raydistill.matching.reference import Arrays, Reference
from raydistill.matching.search import ExactSearch, Neighbours, merged


def unit(rng, rows, dim):
    vectors = rng.normal(size=(rows, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def brute_force(vectors, queries, k):
    scores = (vectors[None] * queries[:, None].astype(np.float64)).sum(axis=2)
    order = np.lexsort((np.broadcast_to(np.arange(len(vectors)), scores.shape), -scores), axis=1)[:, :k]
    return np.take_along_axis(scores, order, axis=1), order


def check(found, vectors, queries, k):
    scores, indices = brute_force(vectors, queries, k)
    np.testing.assert_array_equal(found.scores, scores)
    np.testing.assert_array_equal(found.indices, indices)


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(1, 200),
    dim=st.sampled_from([2, 5, 32]),
    k=st.integers(1, 12),
    distinct=st.integers(1, 200),
)
def test_equals_brute_force_in_double_precision_also_with_ties(seed, rows, dim, k, distinct):
    rng = np.random.default_rng(seed)
    vectors = unit(rng, distinct, dim)[rng.integers(0, distinct, rows)]
    queries = np.concatenate([vectors[rng.integers(0, rows, 3)], unit(rng, 4, dim)])
    check(ExactSearch(vectors).search(queries, k), vectors, queries, k)


def test_many_equal_rows_come_in_order_of_their_index():
    rng = np.random.default_rng(0)
    vectors = unit(rng, 3000, 16)
    vectors[500:2500] = vectors[7]
    found = ExactSearch(vectors).search(np.repeat(vectors[7:8], 40, axis=0), 6)
    assert found.indices.tolist() == [[7, 500, 501, 502, 503, 504]] * 40
    assert found.scores.min() == pytest.approx(1.0, abs=1e-6)


def test_scores_one_rounding_apart_are_ordered_by_their_true_value():
    rng = np.random.default_rng(1)
    query = unit(rng, 1, 64)
    vectors = query + 1e-5 * rng.normal(size=(500, 64)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    check(ExactSearch(vectors).search(query, 5), vectors, query, 5)


def test_lengths_that_are_nearly_one_keep_their_order():
    query = unit(np.random.default_rng(4), 1, 16)
    vectors = query * np.array([[1.0002], [1.0009], [0.9995]], np.float32)
    found = ExactSearch(vectors).search(query, 3)
    assert found.indices.tolist() == [[1, 0, 2]]
    assert found.cosines.max() == 1.0
    assert found.cosines.dtype == np.float32


@pytest.mark.parametrize("batch", [1, 7, 64])
def test_a_query_does_not_depend_on_its_batch(batch):
    rng = np.random.default_rng(2)
    vectors, queries = unit(rng, 800, 24), unit(rng, 64, 24)
    whole = ExactSearch(vectors).search(queries, 4)
    parts = [ExactSearch(vectors).search(queries[i : i + batch], 4) for i in range(0, 64, batch)]
    assert np.array_equal(whole.scores, np.concatenate([part.scores for part in parts]))
    assert np.array_equal(whole.indices, np.concatenate([part.indices for part in parts]))


def test_fewer_rows_than_neighbours():
    vectors = unit(np.random.default_rng(3), 3, 4)
    found = ExactSearch(vectors).search(vectors, 10)
    assert found.scores.shape == found.indices.shape == (3, 3)
    assert sorted(found.indices[0]) == [0, 1, 2]


def test_no_queries():
    found = ExactSearch(unit(np.random.default_rng(5), 4, 4)).search(np.empty((0, 4), np.float32), 2)
    assert found.scores.shape == found.indices.shape == (0, 2)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(1, 60),
    k=st.integers(1, 12),
    views=st.integers(1, 3),
    distinct=st.integers(1, 60),
)
def test_a_row_counts_once_by_the_best_view_of_a_query(seed, rows, k, views, distinct):
    rng = np.random.default_rng(seed)
    vectors = unit(rng, distinct, 5)[rng.integers(0, distinct, rows)]
    # Views that are rows, or the same view twice, tie.
    queries = np.stack([vectors[rng.integers(0, rows, 6)], *(unit(rng, 6, 5) for _ in range(views - 1))], axis=1)
    queries[0] = queries[0, :1]
    best = (vectors[None, None] * queries[:, :, None].astype(np.float64)).sum(axis=3).max(axis=1)
    order = np.lexsort((np.broadcast_to(np.arange(rows), best.shape), -best), axis=1)[:, :k]
    found = ExactSearch(vectors).search_views(queries, k)
    np.testing.assert_array_equal(found.scores, np.take_along_axis(best, order, axis=1))
    np.testing.assert_array_equal(found.indices, order)
    assert all(len(set(row)) == len(row) == min(k, rows) for row in found.indices.tolist())


def test_the_order_of_views_does_not_matter():
    rng = np.random.default_rng(9)
    vectors, queries = unit(rng, 300, 16), unit(rng, 40, 16).reshape(20, 2, 16)
    one, other = (ExactSearch(vectors).search_views(asked, 6) for asked in (queries, queries[:, ::-1]))
    assert np.array_equal(one.scores, other.scores)
    assert np.array_equal(one.indices, other.indices)


def test_what_parts_found_twice_is_there_once():
    parts = [
        Neighbours(np.array([[0.9, 0.5]]), np.array([[4, 1]])),
        Neighbours(np.array([[0.8, 0.7]]), np.array([[4, 2]])),
    ]
    best = merged(parts, 3)
    assert best.indices.tolist() == [[4, 2, 1]]
    assert best.scores.tolist() == [[0.9, 0.7, 0.5]]


@pytest.mark.parametrize("at_once", [1, 7, 1000])
def test_the_best_either_way_is_that_of_both_orientations(monkeypatch, at_once):
    monkeypatch.setattr(search, "COMPARED_AT_ONCE", at_once)
    rng = np.random.default_rng(10)
    vectors, queries = unit(rng, 50, 24), unit(rng, 30, 24)
    best, rounding = ExactSearch(vectors).best_either_way(queries, 12)
    both = [queries.astype(np.float64), flipped(queries, 12).astype(np.float64)]
    exact = np.maximum(*(asked @ vectors.T for asked in both)).max(axis=1)
    assert np.abs(best - exact).max() < rounding
    np.testing.assert_allclose(either_way(queries, vectors, 12).max(axis=1), exact, atol=1e-6)


def reference(vectors):
    return Reference(Arrays({"eye": vectors}, {}, {}))


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0, 2.0])
def test_refuses_what_has_no_cosine(value):
    vectors = unit(np.random.default_rng(6), 5, 4)
    broken = vectors.copy()
    broken[2] = value
    with pytest.raises(InputError, match=r"gallery eye.*row 2"):
        reference(broken)
    with pytest.raises(InputError, match=r"queries.*row 2"):
        reference(vectors).nearest("eye", broken[:, None], 1)


def test_refuses_what_other_networks_made():
    vectors = unit(np.random.default_rng(7), 5, 4)
    with pytest.raises(InputError, match="3 dimensions, the gallery eye 4"):
        reference(vectors).nearest("eye", unit(np.random.default_rng(8), 2, 3)[:, None], 1)
