"""A small model in just the shape that Stable Diffusion 1.x and 2.x have on the hub, which is older than today's."""

import hashlib
import json
import shutil

from diffusers import AutoencoderKL, DDIMScheduler, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import arange
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from raydistill.diffusion.tiny import PUBLIC

NOISE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
SCHEDULERS = {
    "1.x": lambda: PNDMScheduler(skip_prk_steps=True, **NOISE),
    "2.x": lambda: DDIMScheduler(prediction_type="v_prediction", clip_sample=False, set_alpha_to_one=False, **NOISE),
}
ATTENTION = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
"""Names of the autoencoder's attention layers, as today's diffusers has them and as they were."""


def pipeline(release):
    """Four blocks each in autoencoder and UNet, CLIP text encoder and tokenizer, the release's scheduler."""
    tokenizer = CLIPTokenizer.from_pretrained(PUBLIC / "tokenizer")
    attended = ("CrossAttnDownBlock2D",) * 3, ("CrossAttnUpBlock2D",) * 3
    return StableDiffusionPipeline(
        vae=AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(8, 8, 16, 16),
            norm_num_groups=4,
        ),
        text_encoder=CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(tokenizer),
                hidden_size=16,
                intermediate_size=32,
                projection_dim=16,
                num_hidden_layers=2,
                num_attention_heads=2,
                hidden_act="gelu" if release == "2.x" else "quick_gelu",
                max_position_embeddings=tokenizer.model_max_length,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        ),
        tokenizer=tokenizer,
        unet=UNet2DConditionModel(
            sample_size=64,
            layers_per_block=1,
            block_out_channels=(8, 16, 16, 16),
            cross_attention_dim=16,
            attention_head_dim=2,
            norm_num_groups=4,
            use_linear_projection=release == "2.x",
            down_block_types=(*attended[0], "DownBlock2D"),
            up_block_types=("UpBlock2D", *attended[1]),
        ),
        scheduler=SCHEDULERS[release](),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def write(folder, release="1.x"):
    """Write it as a download that left out what a training doesn't need; return the pipeline."""
    whole = pipeline(release)
    whole.save_pretrained(folder)
    words = folder / "text_encoder/model.safetensors"
    tensors = {f"text_model.{name.removeprefix('text_model.')}": tensor for name, tensor in load_file(words).items()}
    positions = {"text_model.embeddings.position_ids": arange(whole.tokenizer.model_max_length)[None]}
    save_file(tensors | positions, words, metadata={"format": "pt"})
    vae = folder / "vae/diffusion_pytorch_model.safetensors"
    save_file({_old(name): tensor for name, tensor in load_file(vae).items()}, vae, metadata={"format": "pt"})
    (folder / "tokenizer/tokenizer.json").unlink()
    for name in ("vocab.json", "merges.txt"):
        (folder / "tokenizer" / name).write_bytes((PUBLIC / "tokenizer" / name).read_bytes())
    index = json.loads((folder / "model_index.json").read_text())
    index |= {
        "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
        "feature_extractor": ["transformers", "CLIPImageProcessor"],
        "requires_safety_checker": True,
    }
    (folder / "model_index.json").write_text(json.dumps(index))
    return whole


def lay(cache, folder, name, revision="main"):
    """Lay a folder into a cache of the hub, as a download leaves it."""
    place = cache / f"models--{name.replace('/', '--')}"
    commit = hashlib.sha256(revision.encode()).hexdigest()[:40]
    shutil.copytree(folder, place / "snapshots" / commit)
    (place / "refs").mkdir(exist_ok=True)
    (place / "refs" / revision).write_text(commit)


def _old(name):
    for now, before in ATTENTION.items():
        if ".attentions." in name:
            name = name.replace(f".{now}.", f".{before}.")
    return name
