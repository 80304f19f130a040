import json
import shutil

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from safetensors import safe_open
from transformers import CLIPTextModel

from raydistill.core.errors import ConfigError, InputError, RaydistillError
from raydistill.core.training import DiffusionConfig
from raydistill.data.phantom import render
from raydistill.diffusion import components, provenance
from raydistill.diffusion.folder import check_layout, find, load_pipeline, save
from raydistill.diffusion.pictures import draw
from raydistill.diffusion.sampling import Sampler, Way
from raydistill.diffusion.tiny import PUBLIC, PUBLIC_NAME


@pytest.fixture(scope="module")
def parts(tiny):
    return components.load(tiny)


def test_plain_diffusers_makes_an_image_from_a_prompt(tiny, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    pipeline = DiffusionPipeline.from_pretrained(tiny)
    pipeline.set_progress_bar_config(disable=True)
    image = pipeline("chest x-ray, no finding", num_inference_steps=2, generator=torch.Generator().manual_seed(0))
    assert image.images[0].size == (16, 16)
    assert type(pipeline).__name__ == "StableDiffusionPipeline"
    assert pipeline.safety_checker is None


def test_folder_holds_only_safetensors_text_and_no_code(tiny):
    suffixes = {file.suffix for file in tiny.rglob("*") if file.is_file()}
    assert suffixes == {".json", ".txt", ".safetensors"}
    check_layout(tiny)


def test_the_same_seed_gives_the_same_weights_and_leaves_the_global_stream_alone(config, tiny, tmp_path):
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    components.build_tiny(config, resolution=16, seed=3, folder=tmp_path / "again")
    components.build_tiny(config, resolution=16, seed=4, folder=tmp_path / "other")
    assert torch.equal(torch.rand(3), expected)
    weights = "unet/diffusion_pytorch_model.safetensors"
    assert (tmp_path / "again" / weights).read_bytes() == (tiny / weights).read_bytes()
    assert (tmp_path / "other" / weights).read_bytes() != (tiny / weights).read_bytes()


def test_special_tokens_agree_with_the_text_encoder(parts):
    text = parts.text_encoder.config
    ids = components.tokenize(parts.tokenizer, ["chest x-ray", ""])
    assert ids.dtype == np.int64
    assert ids.shape == (2, parts.tokenizer.model_max_length)
    assert text.vocab_size == len(parts.tokenizer) == ids.max() + 1
    assert (text.bos_token_id, text.eos_token_id) == (parts.tokenizer.bos_token_id, parts.tokenizer.eos_token_id)
    assert ids[0, 0] == text.bos_token_id
    assert (ids[1, 1:] == text.eos_token_id).all()
    assert ids.max(axis=1).tolist() == [text.eos_token_id] * 2


def test_latents_have_about_unit_scale_and_do_not_depend_on_the_batch(parts, images, monkeypatch):
    latents = components.encode_images(parts.vae, images)
    assert latents.shape == (8, 4, 4, 4)
    assert latents.dtype == np.float32
    assert 0.3 < latents.std() < 2.0
    decoded = components.decode_latents(parts.vae, torch.from_numpy(latents)).astype(int)
    monkeypatch.setattr(components, "PIXELS", 3 * images[0].size)
    np.testing.assert_allclose(components.encode_images(parts.vae, images), latents, atol=1e-4)
    assert abs(components.decode_latents(parts.vae, torch.from_numpy(latents)) - decoded).max() <= 1


def test_large_pictures_meet_the_autoencoder_a_few_at_a_time(parts, images, monkeypatch):
    met = []
    monkeypatch.setattr(components, "PIXELS", 3 * images[0].size)
    monkeypatch.setattr(
        components, "_encode", lambda vae, some: met.append(len(some)) or np.zeros((len(some), 4, 4, 4))
    )
    monkeypatch.setattr(components, "_decode", lambda vae, some: met.append(len(some)) or np.zeros((len(some), 16, 16)))
    components.decode_latents(parts.vae, torch.from_numpy(components.encode_images(parts.vae, images)))
    assert met == [3, 3, 2, 3, 3, 2]


def test_reversed_views_are_encoded_as_what_they_show(parts, images):
    mirrored = components.encode_images(parts.vae, images[:, :, ::-1])
    np.testing.assert_array_equal(mirrored, components.encode_images(parts.vae, images[:, :, ::-1].copy()))


@pytest.mark.parametrize(("resolution", "psnr"), [(32, 25.0), (64, 27.0)])
def test_shipped_autoencoder_keeps_phantoms(parts, resolution, psnr):
    patients = np.arange(64)
    pictures = render(patients, np.zeros_like(patients), seed=77, resolution=resolution).images
    assert components.reconstruction_error(parts.vae, pictures)["psnr"] > psnr


def test_shipped_autoencoder_keeps_procedural_pictures(parts):
    assert components.reconstruction_error(parts.vae, draw(64, side=64, seed=77))["psnr"] > 27.0


def test_reconstruction_error_is_zero_grey_levels_for_an_identity(parts, monkeypatch):
    pictures = np.full((2, 16, 16), 100, np.uint8)
    monkeypatch.setattr(components, "decode_latents", lambda vae, latents: np.full((2, 16, 16), 103, np.uint8))
    error = components.reconstruction_error(parts.vae, pictures)
    assert error["mae"] == 3.0
    assert error["psnr"] == pytest.approx(20 * np.log10(255 / 3))


def test_pretrained_folder_is_copied_to_the_asked_resolution(tiny, config, tmp_path):
    chosen = config.model_copy(update={"pretrained": str(tiny)})
    components.prepare_initial(chosen, resolution=32, seed=0, folder=tmp_path / "copy")
    copied, original = components.load(tmp_path / "copy"), components.load(tiny)
    assert copied.unet.config.sample_size == 8
    assert all(torch.equal(a, b) for a, b in zip(copied.unet.parameters(), original.unet.parameters(), strict=True))
    assert {
        "vae/diffusion_pytorch_model.safetensors",
        "unet/diffusion_pytorch_model.safetensors",
        "unet/config.json",
        "scheduler/scheduler_config.json",
        "text_encoder/model.safetensors",
    } <= set(provenance.started_from(chosen)["sha256"])


def test_pickled_weights_are_refused(tiny, config, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(tiny, broken)
    (broken / "unet/diffusion_pytorch_model.safetensors").rename(broken / "unet/diffusion_pytorch_model.bin")
    chosen = config.model_copy(update={"pretrained": str(broken)})
    with pytest.raises(InputError, match=r"unet/diffusion_pytorch_model\.safetensors missing"):
        components.prepare_initial(chosen, resolution=16, seed=0, folder=tmp_path / "out")


def test_another_pipeline_is_refused(tiny, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(tiny, other)
    index = json.loads((other / "model_index.json").read_text())
    (other / "model_index.json").write_text(json.dumps(index | {"_class_name": "StableDiffusionXLPipeline"}))
    with pytest.raises(InputError, match="StableDiffusionXLPipeline"):
        components.load(other)


def test_an_unknown_model_is_one_readable_error(config, tmp_path):
    chosen = config.model_copy(update={"pretrained": "nobody/nothing"})
    with pytest.raises(InputError, match="no folder nobody/nothing"):
        components.prepare_initial(chosen, resolution=16, seed=0, folder=tmp_path / "out")


@pytest.mark.parametrize("pretrained", [False, True])
def test_a_resolution_that_does_not_divide_is_refused(tiny, config, tmp_path, pretrained):
    chosen = config.model_copy(update={"pretrained": str(tiny) if pretrained else None})
    with pytest.raises(RaydistillError, match="isn't a multiple of 8"):
        components.prepare_initial(chosen, resolution=20, seed=0, folder=tmp_path / "out")


@pytest.mark.parametrize("wrong", [{"block_out_channels": (32, 48)}, {"text_hidden_size": 40}])
def test_channels_that_do_not_divide_into_heads_are_refused(config, wrong):
    with pytest.raises(ConfigError, match="multiple of 32"):
        components.check_start(config.model_copy(update=wrong), 16)


def test_attention_heads_have_the_channels_that_they_should(tiny):
    heads = [m for m in components.load(tiny).unet.modules() if type(m).__name__ == "Attention"]
    assert {head.to_q.out_features // head.heads for head in heads} == {32}


@pytest.mark.parametrize(("prediction", "spacing"), [("v_prediction", "trailing"), ("epsilon", "leading")])
def test_velocity_models_start_from_pure_noise(tmp_path, prediction, spacing):
    config = DiffusionConfig(block_out_channels=(32, 64), text_hidden_size=32, prediction_type=prediction)
    components.build_tiny(config, resolution=16, seed=0, folder=tmp_path / "model")
    scheduler = components.load(tmp_path / "model").scheduler
    assert scheduler.config.timestep_spacing == spacing
    assert (float(scheduler.alphas_cumprod[-1]) < 1e-6) == (prediction == "v_prediction")


def test_provenance_names_public_weights_by_digest():
    said = provenance.started_from(DiffusionConfig())
    assert said["name"] == PUBLIC_NAME
    assert all(len(digest) == 64 for digest in said["sha256"].values())
    assert json.loads(json.dumps(said)) == said


def test_a_folder_does_not_say_where_its_parts_were_read_from(tiny):
    said = "".join(file.read_text() for file in tiny.rglob("*.json"))
    assert "_name_or_path" not in said
    assert str(PUBLIC) not in said


def test_paths_that_somebody_s_folder_holds_go_no_further(tiny, tmp_path):
    shutil.copytree(tiny, tmp_path / "theirs")
    for description in [*(tmp_path / "theirs").rglob("*config.json"), tmp_path / "theirs/model_index.json"]:
        names = ("_name_or_path", "name_or_path", "special_tokens_map_file", "from")
        said = json.loads(description.read_text()) | dict.fromkeys(names, "/home/alice/ward7")
        description.write_text(json.dumps(said))
    save(load_pipeline(tmp_path / "theirs"), tmp_path / "ours")
    assert not [file for file in (tmp_path / "ours").rglob("*") if file.is_file() and b"ward7" in file.read_bytes()]


def test_a_text_encoder_has_the_names_that_every_transformers_reads(tiny, tmp_path):
    with safe_open(tiny / "text_encoder/model.safetensors", "pt") as file:
        assert all(name.startswith("text_model.") for name in file.keys())  # noqa: SIM118 (not a mapping)
        assert file.metadata() == {"format": "pt"}
    pipeline = DiffusionPipeline.from_pretrained(tiny)
    save(pipeline, tmp_path / "again")
    again = CLIPTextModel.from_pretrained(tmp_path / "again/text_encoder").state_dict()
    assert all(torch.equal(again[name], value) for name, value in pipeline.text_encoder.state_dict().items())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "diffusion_pytorch_model.fp16.safetensors",
            r"fp16\.safetensors is a variant: load it with diffusers' `variant=",
        ),
        ("diffusion_pytorch_model.bin", r"weights in \.bin or \.ckpt can run code"),
    ],
)
def test_other_kinds_of_weights_are_named(tiny, config, tmp_path, name, message):
    shutil.copytree(tiny, tmp_path / "other")
    (tmp_path / "other/unet/diffusion_pytorch_model.safetensors").rename(tmp_path / "other/unet" / name)
    with pytest.raises(InputError, match=message):
        components.check_start(config.model_copy(update={"pretrained": str(tmp_path / "other")}), 16)


def test_a_single_file_is_named(config, tmp_path):
    (tmp_path / "v1-5-pruned.safetensors").write_bytes(b"")
    chosen = config.model_copy(update={"pretrained": str(tmp_path / "v1-5-pruned.safetensors")})
    with pytest.raises(InputError, match=r"is a single file; make a folder of it: .*from_single_file"):
        components.check_start(chosen, 16)


def test_a_folder_in_half_precision_is_read_in_float32(tiny, tmp_path):
    DiffusionPipeline.from_pretrained(tiny, torch_dtype=torch.float16).save_pretrained(tmp_path / "half")
    parts = components.load(tmp_path / "half")
    for module in (parts.text_encoder, parts.vae, parts.unet):
        assert {parameter.dtype for parameter in module.parameters()} == {torch.float32}
    way = Way(guidance_scale=2.0, num_inference_steps=1, batch_size=1)
    assert Sampler(tmp_path / "half").generate(["chest x-ray"], [0], way).shape == (1, 16, 16)


def test_a_hub_id_is_found_in_the_cache_at_its_revision(tiny, tmp_path, config, hub_cache):
    components.build_tiny(config, resolution=16, seed=9, folder=tmp_path / "second")
    hub_cache(tiny, "hospital/model")
    hub_cache(tmp_path / "second", "hospital/model", "v2")
    weights = "unet/diffusion_pytorch_model.safetensors"
    for name, folder in (("hospital/model", tiny), ("hospital/model@v2", tmp_path / "second")):
        found = find(name, local_files_only=True)
        check_layout(found)
        assert (found / weights).read_bytes() == (folder / weights).read_bytes()
        said = provenance.started_from(DiffusionConfig(pretrained=name))
        assert said["name"] == name
        assert weights in said["sha256"]
    with pytest.raises(InputError, match="no such model in the local cache; download it first"):
        find("hospital/model@v3", local_files_only=True)
