"""Features by workers: those of the images that are looked at, in their order, whoever made them and how often."""

import numpy as np
import pyarrow as pa
import pytest

from raydistill.core.columns import SAMPLES
from raydistill.core.progress import silent
from raydistill.core.section import Compute
from raydistill.core.store import Store
from raydistill.data.images import encode_png
from raydistill.diffusion.features import public_features
from raydistill.stages.features import Looked, features_of

IMAGES = np.random.default_rng(0).integers(0, 256, (9, 16, 16), np.uint8)
ORDER = [7, 0, 3, 8, 1]
"""Which are looked at: none of the second shard's first row group of two."""


def laid(store, rows_per_group):
    """Write nine images in two shards; the sixth could not be made."""
    for shard, numbers in (("part-00000.parquet", range(4)), ("part-00001.parquet", range(4, 9))):
        images = [None if number == 5 else encode_png(IMAGES[number]) for number in numbers]
        rows = [
            {"sample_id": f"s-{number}", "prompt": "", "seed": number, "image": image}
            for number, image in zip(numbers, images, strict=True)
        ]
        store.write_table(shard, pa.Table.from_pylist(rows, schema=SAMPLES), rows_per_group)
    return Looked(store, "sample_id", pa.array([f"s-{number}" for number in ORDER]))


def made(store, work, progress=silent, **compute):
    looked = {"samples": store, "nobody": Looked(store.images, "sample_id", pa.array([], pa.string()))}
    return features_of(looked, Compute(**compute), work, progress)


CLOSE = {"rtol": 1e-3, "atol": 1e-4}
"""What batches of other sizes, in processes with other threads, may change."""


@pytest.mark.ray
@pytest.mark.timeout(900)
def test_features_are_those_of_the_images_whoever_makes_how_many_at_a_time(local_ray, tmp_path):
    root = Store.open(str(tmp_path))
    two, all_at_once = laid(root / "two", 2), laid(root / "all", 9)
    found = made(two, root / "work")
    assert found["nobody"].shape == (0, 0)
    np.testing.assert_allclose(found["samples"], public_features(IMAGES[ORDER]), **CLOSE)
    assert not np.allclose(found["samples"][0], found["samples"][1])
    halves = made(two, root / "halves", num_cpus=0.5)["samples"]
    np.testing.assert_allclose(found["samples"], halves, **CLOSE)
    np.testing.assert_allclose(made(all_at_once, root / "more")["samples"], halves, **CLOSE)

    # Killed and begun again: what is there is taken as it is, what is missing is made.
    files = (root / "work" / "features").files()
    assert len(files) == 5
    (root / "work" / "features").delete(files[0])
    news, before = [], {name: (tmp_path / "work/features" / name).stat().st_mtime_ns for name in files[1:]}
    again = made(two, root / "work", lambda *told: news.append(told))
    assert np.array_equal(again["samples"], found["samples"])
    assert news[-1] == (1, 1, "parts")
    assert before == {name: (tmp_path / "work/features" / name).stat().st_mtime_ns for name in files[1:]}
