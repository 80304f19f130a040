"""A threshold that is strict for pairs isn't strict for a gallery."""

import numpy as np

from raydistill.metrics.pairwise import PAIR_RATE, pairwise_threshold_fpir


def unit(rng, rows):
    vectors = rng.normal(size=(rows, 32)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_the_larger_the_gallery_the_more_strangers_match_somebody():
    rng, found = np.random.default_rng(0), []
    for size in (10, 300, 3000):
        strangers, gallery = unit(rng, 1500), unit(rng, size)
        scores = (strangers @ gallery.T).max(axis=1)
        result = pairwise_threshold_fpir(strangers, gallery, scores, np.arange(1500), 0.95)
        independent = 1 - (1 - PAIR_RATE) ** size
        assert abs(result.value - independent) < 0.05
        assert f"{independent:.3g} if pairs were independent" in result.note
        assert result.baseline == PAIR_RATE
        found.append(result.value)
    assert found == sorted(found)
    assert found[-1] > 0.9


def test_without_strangers_nothing_is_said():
    nothing = np.empty((0, 32), np.float32)
    assert pairwise_threshold_fpir(nothing, unit(np.random.default_rng(0), 3), [], [], 0.95).value is None
