"""Matches with anybody's embedder; galleries that can be compared: equally made parts of two that aren't."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raydistill.core.columns import RECORDS
from raydistill.core.generation import MatchConfig
from raydistill.core.section import Compute, Import
from raydistill.core.store import Store
from raydistill.data.images import encode_png, mirrored
from raydistill.matching.reference import Parts, equally_made
from raydistill.metrics.identification import closer_to_train_share
from raydistill.reid.embedder import OWN
from raydistill.stages.base import Context
from raydistill.stages.embed import PICTURES, EmbedConfig, EmbedPiece, in_groups
from raydistill.stages.gallery import Galleries, Plan, part_of
from raydistill.stages.match import MatchPiece, make_matches

GALLERY = st.lists(st.integers(1, 12), min_size=1, max_size=12)
"""Images of each patient."""


def ids(name, images):
    return np.array([f"{name}{patient}" for patient, count in enumerate(images) for _ in range(count)])


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
            names.append(np.array([f"{name}{person}" for person in people]))
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


def make_galleries(store, eyes, pictures, own):
    """Write records and their embeddings; return inputs of a match."""
    config = EmbedConfig(batch_size=4, near_copy_max_shift=2, compute=Compute(num_workers=1))
    store.write_json(f"eye/{OWN}", {"embedder": own.model_dump()})
    for role, images in pictures.items():
        half = len(images) // 2
        table = records(role, images)
        store.write_tables(f"{role}/part-0.parquet", [table.slice(0, half), table.slice(half)])
    for role, seeing in (("train", eyes), ("unseen", ["auditor"])):
        if role in pictures:
            piece = EmbedPiece(store / role, dict.fromkeys(seeing, store / "eye"), config)
            shard = in_groups(store / role, "part-0.parquet", "part-0.parquet", [])
            made = zip(*(piece(part) for part in shard.pieces), strict=True)
            for folder, tables in zip([*seeing, *PICTURES], made, strict=True):
                store.write_tables(f"of_{role}/{folder}/part-0.parquet", tables)


@pytest.fixture
def pictures():
    rng = np.random.default_rng(0)
    sizes = {"train": 14, "unseen": 9, "probe": 6}
    return {role: rng.integers(1, 255, (size, 16, 16), np.uint8) for role, size in sizes.items()}


OWN_EYE = Import(factory="tests.reid.test_embedder:Flat", options={"side": 16})


def matched(store, eyes, parts, role="probe", batch_size=128):
    """Match the images of a role with a gallery of so many parts."""
    unseen = store / "of_unseen" if "auditor" in eyes else None
    plan = Plan(store / "of_train", tuple(eyes), unseen, seed=0, parts=parts)
    references = [part_of(plan, part, "cpu") for part in range(parts)]

    class Here(Galleries):
        def open(self, device):
            return Parts(lambda method, *arguments: [getattr(part, method)(*arguments) for part in references])

    galleries = Galleries(plan) if parts == 1 else Here(plan)
    config = MatchConfig(top_k=2, batch_size=batch_size, compute=Compute(num_workers=1))
    piece = MatchPiece(dict.fromkeys(eyes, store / "eye"), {role: store / role}, galleries, config)
    shard = in_groups(store / role, "part-0.parquet", f"{role}/part-0.parquet", [])
    assert [part.rows for part in shard.pieces] == [3, 3]
    return [pa.concat_tables(tables) for tables in zip(*map(piece, shard.pieces), strict=True)]


def test_a_piece_is_matched_with_somebodys_own_embedder(tmp_path, pictures):
    store = Store.open(str(tmp_path))
    make_galleries(store, ["filter"], {role: pictures[role] for role in ("train", "probe")}, OWN_EYE)
    (found,) = matched(store, ["filter"], parts=1)
    pictures["mirrored"] = mirrored(pictures["probe"])
    flat = {role: unit(images.reshape(len(images), -1).astype(float)) for role, images in pictures.items()}
    similar = np.maximum(flat["probe"] @ flat["train"].T, flat["mirrored"] @ flat["train"].T)
    np.testing.assert_allclose(found["score"].to_numpy(), similar.max(axis=1), rtol=1e-6)
    assert found["nearest_image_id"].to_pylist() == [f"train{i}" for i in similar.argmax(axis=1)]
    best = np.argsort(-similar, axis=1)[:, :2]
    assert found["neighbour_image_ids"].to_pylist() == [[f"train{i}" for i in row] for row in best]
    assert found["unseen_score"].null_count == 6


def test_a_mirrored_query_has_the_matches_of_the_query_itself(tmp_path, pictures):
    pictures["probe"][:2] = mirrored(pictures["train"][3:5])
    pictures["calibration"] = mirrored(pictures["probe"])
    store, eyes = Store.open(str(tmp_path)), ["filter", "auditor"]
    make_galleries(store, eyes, pictures, OWN_EYE)
    one, other = (matched(store, eyes, parts=1, role=role) for role in ("probe", "calibration"))
    for found, mirror in zip(one, other, strict=True):
        assert found["nearest_image_id"].to_pylist()[:2] == ["train3", "train4"]
        np.testing.assert_allclose(found["score"].to_numpy()[:2], 1, atol=1e-6)
        for name in sorted(set(found.column_names) - {"query_id", "query_patient_id"}):
            if "structure_score" in name and found[name].null_count == 0:
                np.testing.assert_allclose(mirror[name].to_numpy(), found[name].to_numpy(), atol=1e-6)
            else:
                assert mirror[name].equals(found[name]), name


def test_no_image_is_twice_among_the_neighbours(tmp_path, pictures):
    symmetric = pictures["train"] // 2 + mirrored(pictures["train"] // 2)
    pictures["train"], pictures["probe"] = symmetric, symmetric[:6]
    store = Store.open(str(tmp_path))
    make_galleries(store, ["filter"], pictures, OWN_EYE)
    (found,) = matched(store, ["filter"], parts=3)
    assert all(len(set(names)) == 2 for names in found["neighbour_image_ids"].to_pylist())
    assert found["nearest_image_id"].to_pylist() == [f"train{i}" for i in range(6)]


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_matches_do_not_depend_on_the_batch_size(tmp_path, pictures, batch_size):
    store = Store.open(str(tmp_path))
    make_galleries(store, ["filter", "auditor"], pictures, OWN_EYE)
    whole, other = (matched(store, ["filter", "auditor"], 1, batch_size=size) for size in (128, batch_size))
    for one, two in zip(whole, other, strict=True):
        assert one.equals(two)


@pytest.mark.parametrize("parts", [2, 3, 20])
def test_a_gallery_in_parts_gives_the_same_matches(tmp_path, pictures, parts):
    store = Store.open(str(tmp_path))
    make_galleries(store, ["filter", "auditor"], pictures, OWN_EYE)
    whole = matched(store, ["filter", "auditor"], parts=1)
    assert whole[1]["unseen_score"].null_count == 0
    for one, other in zip(whole, matched(store, ["filter", "auditor"], parts), strict=True):
        assert one.equals(other)


@pytest.mark.ray
def test_a_gallery_that_is_spread_over_workers_gives_the_same_matches(local_ray, tmp_path, pictures, monkeypatch):
    # Copies of one image lie in different parts: the first of them is to be found.
    pictures["train"][[5, 9]] = pictures["train"][3]
    pictures["probe"][4] = pictures["train"][3]
    store = Store.open(str(tmp_path))
    make_galleries(store, ["filter", "auditor"], pictures, OWN_EYE)
    whole = matched(store, ["filter", "auditor"], parts=1)
    plan = Plan(store / "of_train", ("filter", "auditor"), store / "of_unseen", seed=0)
    monkeypatch.setattr("raydistill.stages.gallery.MB", plan.bytes() // 3 + 1)
    config = MatchConfig(top_k=2, gallery_mb=1, compute=Compute(num_workers=2, num_cpus=0.5))
    eyes = dict.fromkeys(("eye_filter", "eye_auditor"), store / "eye")
    context = Context(inputs=eyes, out=store / "out", work=store / "work", seed=0)
    with Galleries.place(plan, config) as galleries:
        assert len(galleries.held.holders) == 3
        make_matches(context, {"probe": store / "probe"}, config, galleries)
    for eye, table in zip(("filter", "auditor"), whole, strict=True):
        found = (store / "out" / eye / "probe").read_table()
        assert found.equals(table)
        assert found["nearest_image_id"][4].as_py() == "train3"


def test_the_size_of_a_gallery_is_known_before_it_is_read(tmp_path, pictures):
    store = Store.open(str(tmp_path))
    make_galleries(store, ["filter", "auditor"], pictures, OWN_EYE)
    plan = Plan(store / "of_train", ("filter", "auditor"), store / "of_unseen", seed=0)
    arrays = plan.arrays(0)
    size = sum(array.nbytes for kind in (arrays.galleries, arrays.structures) for array in kind.values())
    assert size <= plan.bytes() <= 1.5 * size
