"""Matches with anybody's embedder; galleries that can be compared: equally made parts of two that aren't."""

from collections import Counter

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from raydistill.core.columns import RECORDS
from raydistill.core.config import MatchConfig
from raydistill.core.section import Compute, Import
from raydistill.core.store import Store
from raydistill.data.images import encode_png
from raydistill.metrics.identification import closer_to_train_share
from raydistill.reid.embedder import OWN
from raydistill.stages.match import MatchShard, equally_made

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


def records(role, images):
    columns = {
        "image_id": [f"{role}{i}" for i in range(len(images))],
        "patient_id": [f"{role}-patient{i // 2}" for i in range(len(images))],
        "study_index": [i % 2 for i in range(len(images))],
        "image": [encode_png(image) for image in images],
        "prompt": ["chest x-ray"] * len(images),
        "sha256": ["0"] * len(images),
    }
    nothing = {field.name: [None] * len(images) for field in RECORDS}
    return pa.table(nothing | columns, schema=RECORDS)


def test_a_shard_is_matched_with_somebodys_own_embedder(tmp_path):
    rng, store = np.random.default_rng(0), Store.open(str(tmp_path))
    pictures = {role: rng.integers(1, 255, (size, 16, 16), np.uint8) for role, size in (("train", 6), ("probe", 3))}
    for role, images in pictures.items():
        store.write_table(f"{role}/part-0.parquet", records(role, images))
    own = Import(factory="tests.reid.test_embedder:Flat", options={"side": 16})
    store.write_json(f"eye/{OWN}", {"embedder": own.model_dump()})
    config = MatchConfig(top_k=2, compute=Compute(num_workers=1))
    inputs = {"gallery": store / "train", "eye_filter": store / "eye"}
    shard = MatchShard(inputs, ["filter"], {"probe": store / "probe"}, store / "out", config, seed=0)
    assert shard("probe/part-0.parquet") == 3
    found = store.read_table("out/filter/probe")
    flat = {role: unit(images.reshape(len(images), -1).astype(float)) for role, images in pictures.items()}
    similar = flat["probe"] @ flat["train"].T
    np.testing.assert_allclose(found["score"].to_numpy(), similar.max(axis=1), rtol=1e-6)
    assert found["nearest_image_id"].to_pylist() == [f"train{i}" for i in similar.argmax(axis=1)]
    assert found["unseen_score"].null_count == 3
