"""Fidelity in several extractors' eyes, and by finding: who sees a difference, and what is too few to tell."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from transformers import ResNetConfig, ResNetModel

from raydistill.core.config import EvaluateConfig
from raydistill.core.store import Store
from raydistill.core.training import BackboneConfig
from raydistill.metrics.classifier import FindingsObjective
from raydistill.stages.fidelity import (
    DOMAIN,
    ENCODER,
    EXTRACTOR,
    FEWEST,
    Images,
    extractors,
    fidelity_by_finding,
    fidelity_metrics,
    in_blocks,
    write_extractor,
)

SIDE, HOW = 16, EvaluateConfig(bootstrap=20)


def images(count, seed=0, level=0, labels=None):
    pixels = np.random.default_rng(seed).integers(level, level + 60, (count, SIDE, SIDE)).astype(np.uint8)
    return Images(pixels, labels or [["mass"]] * count, np.array([f"{seed}-{i}" for i in range(count)]))


def means(pixels):
    """Four grey levels an image: a quarter each."""
    quarters = pixels.reshape(len(pixels), 2, SIDE // 2, 2, SIDE // 2).mean(axis=(2, 4))
    return quarters.reshape(len(pixels), 4).astype(np.float32)


def test_every_extractor_has_its_metrics_and_its_own_floor():
    looks = {"": means, DOMAIN: means}
    floors = {"": images(60, seed=3), DOMAIN: images(60, seed=3, level=120)}
    found = fidelity_metrics(looks, images(60, seed=1), images(60, seed=2), floors, HOW, 0)
    assert set(found) == {f"{p}{n}" for p in looks for n in
                          ("frechet_distance", "kernel_distance", "precision", "recall", "density", "coverage")}  # fmt: skip
    assert found["frechet_distance"].value == found["domain_frechet_distance"].value
    assert found["domain_frechet_distance"].control > 100 * found["frechet_distance"].control


def test_a_finding_that_hardly_anybody_has_gets_no_figure():
    labels = [["mass"]] * FEWEST + [["hernia"]] * (FEWEST - 1) + [None, []]
    judged, real, floor = [images(len(labels), seed=seed, labels=labels) for seed in range(3)]
    looks, floors = {"": means, DOMAIN: means}, {"": floor, DOMAIN: floor}
    table = fidelity_by_finding(looks, judged, real, floors, ["mass", "hernia", "nodule"], HOW, 0)
    assert {name.split(":")[0] for name in table["name"].to_pylist()} == {"mass"}
    assert {name.split("_")[0] for name in table["name"].to_pylist() if "frechet" in name} == {
        "mass: frechet",
        "mass: domain",
    }
    assert set(table["group_size"].to_pylist()) == {FEWEST}


def test_where_one_finding_looks_unreal_that_finding_says_so():
    labels = [["mass"]] * 40 + [["nodule"]] * 40
    real, floor = (images(80, seed=seed, labels=labels) for seed in (1, 2))
    judged = images(80, seed=3, labels=labels)
    judged.pixels[:40] += 100
    table = fidelity_by_finding({"": means}, judged, real, {"": floor}, ["mass", "nodule"], HOW, 0)
    values = dict(zip(table["name"].to_pylist(), table["value"].to_pylist(), strict=True))
    assert values["mass: frechet_distance"] > 100 * values["nodule: frechet_distance"]


def test_the_domain_extractor_is_the_classifier_that_was_kept(tmp_path):
    store = Store.open(str(tmp_path))
    assert list(extractors(store / EXTRACTOR, None, SIDE)) == [""]
    given = images(300)
    model = FindingsObjective(given.pixels, np.ones((300, 1), np.float32), seed=0).build().eval()
    write_extractor(model, store)
    look = extractors(store / EXTRACTOR, None, SIDE)[DOMAIN]
    seen = look(given.pixels)
    assert seen.shape == (300, model.config.hidden_sizes[-1])
    # Block by block, as one by one.
    np.testing.assert_allclose(look(given.pixels[299:]), seen[299:], atol=1e-5)


def test_a_public_encoder_looks_through_its_own_weights(tmp_path):
    torch.manual_seed(0)
    config = ResNetConfig(num_channels=3, embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    ResNetModel(config).save_pretrained(tmp_path)
    look = extractors(None, BackboneConfig(pretrained=str(tmp_path)), SIDE)[ENCODER]
    seen = look(images(5).pixels)
    assert seen.shape == (5, 16)
    np.testing.assert_allclose(look(images(5).pixels), seen)


def test_an_encoder_without_weights_is_refused():
    with pytest.raises(ValidationError, match="which public weights"):
        EvaluateConfig(encoder=BackboneConfig(kind="vit"))


def test_blocks_cut_nothing_off():
    given = images(600).pixels
    assert in_blocks(lambda part: torch.from_numpy(part).float().mean(dim=(1, 2)).unsqueeze(1), given).shape == (600, 1)
