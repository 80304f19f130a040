import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from raydistill.core.errors import ConfigError, InputError
from raydistill.core.training import PACKAGED, BackboneConfig, ReidConfig
from raydistill.data.phantom import render
from raydistill.reid.embedder import ReidEmbedder
from raydistill.reid.model import PUBLIC, ReidNetwork, check_backbone, local_contrast, shifted, standardise

ROUNDING = 1e-6  # what another batch size may change in a unit row of float32
WIDTHS = {"resnet": 8, "regnet": 16, "convnext": 8, "vit": 16}
each_kind = pytest.mark.parametrize("kind", WIDTHS)


def build(kind="resnet", resolution=16, seed=3):
    backbone = BackboneConfig(kind=kind, width=WIDTHS[kind])
    return ReidNetwork.build(ReidConfig(backbone=backbone, embedding_dim=12), resolution, seed)


def pictures(number=7, resolution=16):
    patients = np.arange(number)
    return render(patients, np.zeros_like(patients), seed=5, resolution=resolution).images


@each_kind
@pytest.mark.parametrize("resolution", [16, 32, 64])
def test_every_kind_embeds_every_resolution_to_distinct_unit_rows(kind, resolution):
    embedded = ReidEmbedder(build(kind, resolution)).embed(pictures(5, resolution), 4)
    assert embedded.shape == (5, 12)
    assert embedded.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(embedded, axis=1), 1, atol=ROUNDING)
    distances = np.linalg.norm(embedded[:, None] - embedded, axis=2)
    assert distances[~np.eye(5, dtype=bool)].min() > 1e-3


@each_kind
def test_the_seed_decides_the_weights_and_leaves_the_global_stream_alone(kind):
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    first = build(kind, seed=3)
    assert torch.equal(torch.rand(3), expected)
    again, other = build(kind, seed=3).state_dict(), build(kind, seed=4)
    assert all(torch.equal(weights, again[name]) for name, weights in first.state_dict().items())
    distances = ReidEmbedder(first).embed(pictures(), 7) - ReidEmbedder(other).embed(pictures(), 7)
    assert np.linalg.norm(distances, axis=1).min() > 0.1


@each_kind
def test_a_built_network_is_in_training_mode_and_every_weight_an_embedding_needs_learns(kind):
    network = build(kind)
    assert all(module.training for module in network.modules())
    network(torch.from_numpy(pictures()))[:, 0].sum().backward()
    idle = {name for name, weights in network.named_parameters() if weights.grad is None}
    # ConvNext normalises a pooled output that isn't read; everything else must learn.
    assert idle == ({"backbone.layernorm.weight", "backbone.layernorm.bias"} if kind == "convnext" else set())


@each_kind
def test_a_saved_network_embeds_as_before_and_lies_in_safetensors_only(kind, tmp_path):
    network = build(kind, 32)
    network(torch.from_numpy(pictures(7, 32)))  # moves the running averages of a batch normalisation
    network.save(tmp_path / "new" / "network")
    assert {file.name for file in (tmp_path / "new" / "network").iterdir()} == {"config.json", "model.safetensors"}
    assert not any(module.training for module in ReidNetwork.load(tmp_path / "new" / "network").modules())
    loaded, expected = ReidEmbedder.load(tmp_path / "new" / "network"), ReidEmbedder(network)
    np.testing.assert_array_equal(loaded.embed(pictures(7, 32), 7), expected.embed(pictures(7, 32), 7))


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_a_folder_that_lacks_a_file_is_refused(tmp_path, missing):
    build().save(tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(InputError, match=f"no {missing}"):
        ReidNetwork.load(tmp_path)


def test_another_format_is_refused(tmp_path):
    build().save(tmp_path)
    content = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(content | {"format": 1}))
    with pytest.raises(InputError, match="has format 1; this version reads 2"):
        ReidNetwork.load(tmp_path)


@each_kind
def test_a_row_depends_neither_on_the_batch_nor_on_its_neighbours(kind):
    embedder, images = ReidEmbedder(build(kind)), pictures()
    whole = embedder.embed(images, 7)
    for batch_size in (1, 2, 5, 64):
        np.testing.assert_allclose(embedder.embed(images, batch_size), whole, atol=ROUNDING)
    order = np.random.default_rng(0).permutation(7)
    np.testing.assert_allclose(embedder.embed(images[order], 3), whole[order], atol=ROUNDING)
    company = np.concatenate([images[:1], np.full((3, 16, 16), 255, np.uint8)])
    np.testing.assert_allclose(embedder.embed(company, 4)[0], whole[0], atol=ROUNDING)


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((2, 16, 16), np.float32),
        np.zeros((2, 8, 8), np.uint8),
        np.zeros((2, 16, 32), np.uint8),
        np.zeros((16, 16), np.uint8),
        np.zeros((2, 1, 16, 16), np.uint8),
        np.zeros((2, 0, 0), np.uint8),
    ],
    ids=lambda images: f"{images.dtype}{images.shape}",
)
def test_images_of_another_shape_or_dtype_are_refused(images):
    with pytest.raises(InputError, match=r"expected uint8 images \(N, 16, 16\)"):
        ReidEmbedder(build()).embed(images, 4)


@pytest.mark.parametrize("shape", [(0, 16, 16), (0, 0, 0), (0,), (0, 8, 8)])
def test_no_images_give_no_rows_whatever_their_shape(shape):
    embedded = ReidEmbedder(build()).embed(np.zeros(shape, np.uint8), 4)
    assert embedded.shape == (0, 12)
    assert embedded.dtype == np.float32


@settings(max_examples=40)
@given(gain=st.floats(0.05, 20), offset=st.floats(-100, 100))
def test_gain_and_offset_of_the_grey_levels_do_not_change_what_is_seen(gain, offset):
    images = torch.from_numpy(pictures()).double()
    seen = standardise(images)
    torch.testing.assert_close(standardise(images * gain + offset), seen, atol=1e-4, rtol=0)
    torch.testing.assert_close(seen.mean(dim=(1, 2)), torch.zeros(7), atol=1e-5, rtol=0)
    torch.testing.assert_close(seen.std(dim=(1, 2), correction=0), torch.ones(7), atol=1e-4, rtol=0)


@each_kind
def test_a_network_embeds_another_exposure_alike(kind):
    network, images = build(kind).eval(), torch.from_numpy(pictures()).float()
    with torch.inference_mode():
        torch.testing.assert_close(network(images / 255), network(images * 0.3 + 40), atol=1e-4, rtol=0)


@settings(max_examples=40)
@given(grey=st.floats(0, 255), side=st.integers(1, 300))
def test_a_constant_image_becomes_zeros(grey, side):
    assert standardise(torch.full((2, side, side), grey)).abs().max() == 0


@each_kind
@pytest.mark.parametrize("grey", [0, 7, 255])
def test_a_constant_image_has_a_finite_embedding(kind, grey):
    assert np.isfinite(ReidEmbedder(build(kind)).embed(np.full((1, 16, 16), grey, np.uint8), 2)).all()


@pytest.mark.parametrize("resolution", [20, 8])
def test_a_resolution_that_cannot_be_halved_thrice_is_refused(resolution):
    with pytest.raises(ConfigError, match=f"8 n >= 16, not {resolution}"):
        check_backbone(BackboneConfig(width=8), resolution)
    check_backbone(BackboneConfig(), resolution)  # the packaged weights see whatever is resized to their side


def test_a_width_that_the_heads_do_not_divide_is_refused_for_a_vit_only():
    with pytest.raises(ConfigError, match="width 30 of a vit isn't a multiple of its 4 heads"):
        check_backbone(BackboneConfig(kind="vit", width=30), 16)
    check_backbone(BackboneConfig(kind="resnet", width=30), 16)


@pytest.mark.parametrize("kind", PACKAGED)
@pytest.mark.parametrize("resolution", [32, 64, 100])
def test_the_packaged_weights_are_where_training_starts_at_every_resolution(kind, resolution):
    config = ReidConfig(backbone=BackboneConfig(kind=kind))
    network, other = (ReidNetwork.build(config, resolution, seed) for seed in (1, 2))
    packaged = ReidNetwork.load(PUBLIC / kind)
    assert network.training
    for name, weights in packaged.state_dict().items():
        assert torch.equal(network.state_dict()[name], weights)
        assert torch.equal(other.state_dict()[name], weights)
    assert ReidEmbedder(network).embed(pictures(3, resolution), 2).shape == (3, packaged.embedding_dim)
    shorter = ReidNetwork.build(config.model_copy(update={"embedding_dim": 16}), resolution, 1)
    assert ReidEmbedder(shorter).embed(pictures(3, resolution), 2).shape == (3, 16)


@pytest.mark.parametrize("kind", PACKAGED)
def test_the_packaged_weights_know_phantoms_they_never_saw(kind):
    people, visits = np.repeat(np.arange(60), 2), np.tile([0, 1], 60)
    images = render(people, visits, seed=5, resolution=64).images
    vectors = ReidEmbedder.load(PUBLIC / kind).embed(images, 32)
    similarity = vectors @ vectors.T
    np.fill_diagonal(similarity, -2)
    pixels = images.reshape(len(images), -1) - images.mean(axis=(1, 2))[:, None]
    pixels = pixels / np.linalg.norm(pixels, axis=1, keepdims=True)
    raw = pixels @ pixels.T
    np.fill_diagonal(raw, -2)
    seen, known = ((people[side.argmax(axis=1)] == people).mean() for side in (raw, similarity))
    assert known > 0.85
    assert known > seen + 0.3


def test_local_contrast_takes_out_a_gradient_of_exposure():
    images = torch.from_numpy(pictures(4, 64)).float()
    slope = torch.linspace(0.5, 1.5, 64)
    plain, lit = local_contrast(images), local_contrast(images * slope + 40 * slope)
    middle = slice(12, -12)
    alike = torch.nn.functional.cosine_similarity(
        plain[:, middle, middle].flatten(1), lit[:, middle, middle].flatten(1), dim=1
    )
    assert alike.min() > 0.97
    assert local_contrast(torch.zeros(1, 32, 32)).abs().max() == 0


def test_an_image_is_embedded_from_where_it_is_and_from_four_sides():
    pixels = torch.arange(2 * 40 * 40, dtype=torch.float32).reshape(2, 1, 40, 40)
    views = shifted(pixels)
    assert len(views) == 5
    assert all(view.shape == pixels.shape for view in views)
    assert torch.equal(views[0], pixels)
    assert torch.equal(views[1][..., 2:, :], pixels[..., :-2, :])
    assert torch.equal(views[4][..., :, :-2], pixels[..., :, 2:])
