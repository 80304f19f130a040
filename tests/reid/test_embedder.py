import json

import numpy as np
import pytest

from raydistill.core.config import Config
from raydistill.core.errors import ConfigError
from raydistill.core.loading import validate
from raydistill.core.section import Compute, Import
from raydistill.core.store import Store
from raydistill.core.training import ReidConfig
from raydistill.reid.embedder import embed_both_ways, load_embedder
from raydistill.stages.base import Context
from raydistill.stages.train_reid import TrainReid


class Flat:
    """Somebody's own embedder: the picture itself, at unit length."""

    def __init__(self, device, side=4):
        self.device, self.side = device, side

    def embed(self, images, batch_size):
        rows = images.reshape(len(images), -1)[:, : self.side**2].astype(np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def fingerprint(self):
        return {"side": self.side, "weights": "v1"}


OWN = Import(factory=f"{__name__}:Flat", options={"side": 3})


def stage(embedder=OWN):
    return TrainReid("reid_filter", ReidConfig(embedder=embedder), {}, 0)


def test_somebodys_own_eye_is_taken_and_not_trained(tmp_path):
    out = Store.open(str(tmp_path))
    outcome = stage().run(Context(inputs={}, out=out, work=out, seed=0))
    assert outcome.counts == {"images": 0}
    eye = load_embedder(tmp_path / "network", "cuda")
    assert eye.device == "cuda"
    assert eye.embed(np.ones((2, 4, 4), np.uint8), 8).shape == (2, 9)


def test_an_eye_is_shown_the_mirror_image_too():
    class Noting(Flat):
        def embed(self, images, batch_size):
            assert images.flags.c_contiguous
            return super().embed(images, batch_size)

    images = np.random.default_rng(0).integers(1, 255, (3, 4, 4), np.uint8)
    both, eye = embed_both_ways(Noting("cpu"), images, 2), Flat("cpu")
    assert both.shape == (3, 2, 16)
    assert np.array_equal(both[:, 0], eye.embed(images, 2))
    assert np.array_equal(both[:, 1], eye.embed(images[:, :, ::-1], 2))


def test_what_others_read_changes_with_its_fingerprint(tmp_path, monkeypatch):
    digests = []
    for version in ("v1", "v2"):
        monkeypatch.setattr(Flat, "fingerprint", lambda self, version=version: version)
        out = Store.open(str(tmp_path / version))
        stage().run(Context(inputs={}, out=out, work=out, seed=0))
        digests.append(out.fingerprint())
    assert digests[0] != digests[1]


def test_its_key_is_made_of_what_to_import_and_of_its_fingerprint(monkeypatch):
    before = json.dumps(stage().key_config())
    assert before == json.dumps(stage().key_config())
    monkeypatch.setattr(Flat, "fingerprint", lambda self: "v2")
    assert before != json.dumps(stage().key_config())


def test_what_is_no_embedder_is_refused_before_anything_starts():
    with pytest.raises(ConfigError, match=r"eyes\.filter\.embedder\.factory: can't import"):
        stage(Import(factory="no_such_module_9:Eye")).check(Config())


@pytest.mark.parametrize("eyes", [("filter", "auditor"), ("filter", "judge"), ("judge", "auditor")])
def test_no_two_eyes_may_be_the_same_embedder(eyes):
    same = [{"embedder": {"factory": OWN.factory, "options": {"side": side}}} for side in (2, 3)]
    with pytest.raises(ConfigError, match=r"same embedder|graded by its own filter"):
        validate({"eyes": dict(zip(eyes, same, strict=True))})
    validate({"eyes": {"auditor": {"embedder": OWN.model_dump()}}})


def test_a_workers_share_of_a_batch_decides_an_eye_and_is_in_its_key():
    one, two = (
        TrainReid("reid_filter", ReidConfig(compute=Compute(num_workers=number)), {}, 0).key_config()
        for number in (1, 2)
    )
    assert one != two
    moved = ReidConfig(compute=Compute(num_workers=1, num_cpus=3))
    assert one == TrainReid("reid_filter", moved, {}, 0).key_config()
