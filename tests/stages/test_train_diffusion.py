"""What the student's training reads, and when there is nothing to train on. The training itself: tests/golden."""

import numpy as np
import pyarrow as pa
import pytest

from raydistill.core.columns import SAMPLES, VERDICTS
from raydistill.core.config import Config
from raydistill.core.errors import ConfigError, NothingToDo, RaydistillError
from raydistill.core.store import Store
from raydistill.core.training import DiffusionConfig
from raydistill.data.images import encode_png
from raydistill.diffusion import components
from raydistill.stages.base import Context
from raydistill.stages.train_diffusion import TrainDiffusion

SMALL = DiffusionConfig(block_out_channels=(32, 64), text_hidden_size=32)


def node(config=SMALL):
    return TrainDiffusion("student", config, {}, 0)


def test_nothing_kept_is_nothing_to_do(tmp_path):
    root = Store.open(str(tmp_path))
    row = {"sample_id": "s-0", "prompt": "chest x-ray", "labels": [], "seed": 1, "image": b"png"}
    (root / "images").write_table("part-00000.parquet", pa.Table.from_pylist([row], schema=SAMPLES))
    dropped = {"sample_id": "s-0", "keep": False, "reason": "identity"}
    (root / "verdicts").write_table("part-00000.parquet", pa.Table.from_pylist([dropped], schema=VERDICTS))
    inputs = {"images": root / "images", "verdicts": root / "verdicts"}
    with pytest.raises(NothingToDo, match="the filter kept no sample"):
        node().run(Context(inputs, root / "out", root / "work", 0))


def test_the_key_knows_the_weights_and_not_where_they_lie(tmp_path):
    keys = []
    for place, seed in (("a", 0), ("b", 0), ("c", 1)):
        components.prepare_initial(SMALL, resolution=16, seed=seed, folder=tmp_path / place)
        keys.append(node(SMALL.model_copy(update={"pretrained": str(tmp_path / place)})).key_config())
    assert keys[0] == keys[1] != keys[2]
    assert node().key_config()["start"]


def test_a_start_of_our_own_making_says_what_it_was_trained_on(tmp_path):
    config = SMALL.model_copy(update={"pretrained": str(tmp_path)})
    assert components.trained_on(SMALL) == components.trained_on(config) == []
    (tmp_path / "raydistill.json").write_text('{"trained_on": ["ingest"]}')
    assert components.trained_on(config) == ["ingest"]


@pytest.mark.parametrize(
    ("stage", "config", "message"),
    [
        ({"optimizer": {"steps": 1, "batch_size": 7, "lr": 1e-3}}, {}, "isn't divisible by compute.num_workers 2"),
        ({}, {"ingest": {"resolution": 20}}, "isn't a multiple of 8"),
        ({"pretrained": "/no/such/folder"}, {}, "no folder /no/such/folder"),
    ],
)
def test_what_can_be_known_to_be_wrong_is_said_before_anything_starts(stage, config, message):
    stage = node(DiffusionConfig.model_validate({**SMALL.model_dump(), **stage}))
    with pytest.raises(RaydistillError, match=message):
        stage.check(Config.model_validate(config))
    node().check(Config())


def test_prompts_that_the_model_cannot_read_to_their_end_are_counted(tmp_path):
    root = Store.open(str(tmp_path))
    prompts = ["chest x-ray, pa view, effusion", "chest x-ray, " + "xylophonic zigzagging " * 20]
    rows = [
        {
            "sample_id": f"s-{i}",
            "prompt": prompt,
            "labels": [],
            "seed": i,
            "image": encode_png(np.zeros((16, 16), np.uint8)),
        }
        for i, prompt in enumerate(prompts)
    ]
    (root / "images").write_table("part-00000.parquet", pa.Table.from_pylist(rows, schema=SAMPLES))
    counts = node()._encode(Context({"images": root / "images"}, root / "out", root / "work", 0))
    assert counts == {"rows": 2, "cut": 1, "length": 64}
    assert node()._encode(Context({}, root / "out", root / "work", 0)) == counts


def test_one_error_names_the_stage(tmp_path):
    from raydistill.pipeline import wire
    from raydistill.run import check_before_ray

    config = Config.model_validate({"eyes": {"judge": {"backbone": {"kind": "vit", "width": 30}, "seed": 2}}})
    with pytest.raises(ConfigError, match=r"reid_judge: backbone\.width 30 of a vit"):
        check_before_ray(config, Store.open(str(tmp_path)), wire(config))
