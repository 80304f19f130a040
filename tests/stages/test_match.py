"""Galleries that can be compared: equally made parts of two that aren't."""

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from raydistill.metrics.identification import closer_to_train_share
from raydistill.stages.match import equally_made

GALLERY = st.lists(st.integers(1, 12), min_size=1, max_size=12)
"""Images of each patient."""


def ids(name, images):
    return [f"{name}{patient}" for patient, count in enumerate(images) for _ in range(count)]


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@given(GALLERY, GALLERY, st.integers(0, 99))
def test_parts_have_equally_many_patients_and_equally_many_images_of_each(mine, theirs, seed):
    first, second = ids("a", mine), ids("b", theirs)
    rows = equally_made(first, second, np.random.default_rng(seed))
    counts = [Counter(owner[i] for i in side) for owner, side in zip((first, second), rows, strict=True)]
    assert sorted(counts[0].values()) == sorted(counts[1].values())
    assert len(counts[0]) == min(len(mine), len(theirs))
    assert all(len(set(side.tolist())) == len(side) and np.all(np.diff(side) > 0) for side in rows)
    again = equally_made(first, second, np.random.default_rng(seed))
    assert all(np.array_equal(a, b) for a, b in zip(rows, again, strict=True))


def test_a_stranger_is_as_often_closer_to_either_whatever_the_make_up_of_the_galleries():
    rng, shares = np.random.default_rng(0), []
    for _ in range(60):
        galleries, names = [], []
        for name, patients, images in (("t", 60, 2), ("u", 25, 6)):
            people = np.repeat(np.arange(patients), images)
            centres = rng.normal(size=(patients, 12))
            galleries.append(unit(centres[people] + 0.4 * rng.normal(size=(len(people), 12))))
            names.append([f"{name}{person}" for person in people])
        queries, best = unit(rng.normal(size=(80, 12))), ([], [])
        for _ in range(4):
            for side, gallery, part in zip(best, galleries, equally_made(*names, rng), strict=True):
                side.append((queries @ gallery[part].T).max(axis=1))
        train, unseen = (np.stack(side, axis=1) for side in best)
        shares.append(closer_to_train_share(train, unseen, np.arange(80)).value)
    assert abs(np.mean(shares) - 0.5) < 0.02
