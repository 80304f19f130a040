import numpy as np
import pytest
import torch
from transformers import (
    AutoModel,
    BertConfig,
    BertModel,
    ConvNextConfig,
    Dinov2Config,
    ResNetConfig,
    ViTConfig,
)

from raydistill.core.errors import ConfigError
from raydistill.core.training import BackboneConfig, ReidConfig
from raydistill.reid.embedder import ReidEmbedder
from raydistill.reid.model import ReidNetwork, check_backbone

TRANSFORMER = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
CONFIGS = {
    "resnet": ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic"),
    "convnext": ConvNextConfig(image_size=64, hidden_sizes=[8, 8, 8, 16], depths=[1, 1, 1, 1]),
    "vit": ViTConfig(image_size=32, patch_size=8, intermediate_size=16, **TRANSFORMER),
    "dinov2": Dinov2Config(image_size=28, patch_size=14, **TRANSFORMER),
}
SIDES = {"resnet": 224, "convnext": 64, "vit": 32, "dinov2": 28}
IMAGES = np.random.default_rng(0).integers(0, 256, (3, 16, 16), dtype=np.uint8)
each_kind = pytest.mark.parametrize("kind", CONFIGS)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "public"


def saved(kind, folder, dtype=torch.float32):
    torch.manual_seed(0)
    network = AutoModel.from_config(CONFIGS[kind]).to(dtype)
    network.save_pretrained(folder)  # transformers 5 writes safetensors and nothing else
    return network


def build(folder, seed=0):
    return ReidNetwork.build(ReidConfig(backbone=BackboneConfig(pretrained=str(folder)), embedding_dim=12), 16, seed)


@each_kind
def test_the_weights_of_a_folder_are_used_whatever_the_seed(kind, folder):
    expected = saved(kind, folder).state_dict()
    first, second = build(folder, seed=1), build(folder, seed=2)
    assert all(torch.equal(weights, expected[name]) for name, weights in first.backbone.state_dict().items())
    assert not torch.equal(first.head.weight, second.head.weight)
    assert all(module.training for module in first.modules())


@each_kind
def test_a_pretrained_backbone_sees_three_equal_channels_of_its_native_side(kind, folder):
    saved(kind, folder)
    network, seen = build(folder), []
    network.backbone.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    embedded = ReidEmbedder(network).embed(IMAGES, 3)
    assert seen[0].shape == (3, 3, SIDES[kind], SIDES[kind])
    assert torch.equal(seen[0][:, 0], seen[0][:, 2])
    np.testing.assert_allclose(np.linalg.norm(embedded, axis=1), 1, atol=1e-6)


@each_kind
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_of_any_precision_train_in_single_and_survive_saving(kind, dtype, folder, tmp_path):
    saved(kind, folder, dtype)
    network = build(folder)
    assert {weights.dtype for weights in network.parameters()} == {torch.float32}
    network.save(tmp_path / "network")
    expected = ReidEmbedder(network).embed(IMAGES, 3)
    np.testing.assert_array_equal(ReidEmbedder.load(tmp_path / "network").embed(IMAGES, 3), expected)


def test_a_folder_of_pickled_weights_is_refused_before_anything_is_unpickled(folder, monkeypatch):
    torch.save(saved("vit", folder).state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    monkeypatch.setattr(torch, "load", lambda *args, **kwargs: pytest.fail("unpickled"))
    with pytest.raises(ConfigError, match=r"public has no \*\.safetensors"):
        check_backbone(BackboneConfig(pretrained=str(folder)), 16)
    with pytest.raises(ConfigError, match=r"public has no \*\.safetensors"):
        build(folder)
    (folder / "adapter.safetensors").write_bytes(b"not the weights")
    with pytest.raises(ConfigError, match="can't read"):
        build(folder)


@pytest.mark.parametrize("local_files_only", [True, False])
def test_a_missing_folder_is_refused(tmp_path, local_files_only):
    backbone = BackboneConfig(pretrained=str(tmp_path / "nowhere"), local_files_only=local_files_only)
    with pytest.raises(ConfigError, match=r"backbone\.pretrained: can't read .*nowhere"):
        check_backbone(backbone, 16)


def test_a_model_of_text_is_refused(folder):
    BertModel(BertConfig(vocab_size=20, intermediate_size=16, **TRANSFORMER)).save_pretrained(folder)
    with pytest.raises(ConfigError, match="public is a bert, not an image backbone"):
        check_backbone(BackboneConfig(pretrained=str(folder)), 16)


@each_kind
def test_checking_loads_no_weights_and_minds_no_resolution(kind, folder):
    saved(kind, folder)
    (folder / "model.safetensors").write_bytes(b"not weights")
    check_backbone(BackboneConfig(pretrained=str(folder)), 20)


def test_a_hub_id_is_read_from_the_cache_at_its_revision(folder, tmp_path, hub_cache):
    first = saved("vit", folder)
    hub_cache(folder, "hospital/vit")
    second = saved("vit", tmp_path / "second", dtype=torch.bfloat16)
    hub_cache(tmp_path / "second", "hospital/vit", "v2")
    for name, network in (("hospital/vit", first), ("hospital/vit@v2", second)):
        expected = network.state_dict()
        assert all(
            torch.equal(value, expected[key].float()) for key, value in build(name).backbone.state_dict().items()
        )
    with pytest.raises(ConfigError, match="can't read hospital/vit@v3"):
        check_backbone(BackboneConfig(pretrained="hospital/vit@v3"), 16)
