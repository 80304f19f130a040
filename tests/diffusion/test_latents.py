"""What is written of images and prompts, and read back for training."""

import numpy as np
import pytest

from raydistill.core.store import Store
from raydistill.diffusion import components
from raydistill.diffusion.latents import Encoder
from raydistill.diffusion.rows import LatentRows


@pytest.fixture(scope="module")
def parts(tiny):
    return components.load(tiny)


@pytest.fixture(params=[False, True], ids=["ids", "embeddings"])
def written(request, parts, images, prompts, tmp_path):
    encoder = Encoder(parts, is_text_frozen=request.param, with_flipped=True)
    store = Store.open(str(tmp_path))
    for shard, half in (("part-00000.parquet", slice(0, 5)), ("part-00001.parquet", slice(5, 8))):
        rows, words = encoder.tables(images[half], prompts[half])
        store.write_table(f"rows/{shard}", rows)
        store.write_table(f"words/{shard}", words)
    store.write_json("shapes.json", encoder.shapes(16))
    return request.param, store


def test_rows_are_what_the_model_would_have_computed(written, parts, images, prompts):
    is_frozen, store = written
    rows = LatentRows(store)("part-00001.parquet")
    latents = components.encode_images(parts.vae, images[5:])
    assert rows["latents"].dtype == np.float16
    np.testing.assert_allclose(rows["latents"], latents, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(
        rows["flipped"], components.encode_images(parts.vae, images[5:, :, ::-1]), rtol=1e-3, atol=1e-3
    )
    ids = components.tokenize(parts.tokenizer, prompts[5:])
    if is_frozen:
        assert rows["words"].shape == (3, 64, 32)
        assert rows["words"].dtype == np.float16
    else:
        np.testing.assert_array_equal(rows["words"], ids)


def test_a_prompt_is_embedded_once(parts, images, prompts):
    encoder = Encoder(parts, is_text_frozen=True, with_flipped=False)
    _, words = encoder.tables(images, prompts)
    assert len(words) == len(set(prompts)) == len(encoder.known)
    kept = encoder.known[prompts[0]]
    encoder.tables(images[:2], prompts[:2])
    assert encoder.known[prompts[0]] is kept


def test_some_rows_are_a_seeded_choice_over_all_shards(written):
    rows = LatentRows(written[1])
    shards = [("part-00000.parquet", 5), ("part-00001.parquet", 3)]
    every = rows.some(shards, 8, seed=1)
    whole = [rows(name) for name, _ in shards]
    expected = np.concatenate([part["latents"] for part in whole])
    for column in (every["latents"], expected):
        column.sort(axis=0)
    np.testing.assert_array_equal(every["latents"], expected)
    few, again = rows.some(shards, 3, seed=1), rows.some(shards, 3, seed=1)
    np.testing.assert_array_equal(few["latents"], again["latents"])
    assert few["words"].shape[0] == 3


def test_readers_of_one_place_are_equal(tmp_path):
    assert LatentRows(Store.open(str(tmp_path))) == LatentRows(Store.open(str(tmp_path)))
    assert hash(LatentRows(Store.open(str(tmp_path)))) == hash(LatentRows(Store.open(str(tmp_path))))
