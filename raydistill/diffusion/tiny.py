"""A fresh small Stable Diffusion model around the public weights that ship with the package."""

from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from raydistill.core.errors import ConfigError
from raydistill.core.seeds import derive_seed
from raydistill.core.training import DiffusionConfig
from raydistill.diffusion.folder import save

PUBLIC = Path(__file__).parent / "public"
"""An autoencoder trained on procedural pictures and a tokenizer of the prompt template; neither saw a cohort."""

PUBLIC_NAME = "raydistill-public-1"
TEXT_LAYERS, HEAD_CHANNELS = 2, 32
"""Layers of the text encoder; channels of an attention head, there and in the UNet."""


def build_tiny(config: DiffusionConfig, *, resolution: int, seed: int, folder: Path) -> None:
    """Write a fresh small model: public autoencoder and tokenizer, random text encoder and UNet.

    Args:
        config: sizes and the kind of prediction.
        resolution: side of the images in pixels.
        seed: of the random weights.
        folder: where to write.

    Raises:
        ConfigError: as `check_tiny`.
    """
    check_tiny(config, resolution)
    tokenizer = CLIPTokenizer.from_pretrained(PUBLIC / "tokenizer")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "initial weights"))
        pipeline = StableDiffusionPipeline(
            vae=AutoencoderKL.from_pretrained(PUBLIC / "vae"),
            text_encoder=_text_encoder(config, tokenizer),
            tokenizer=tokenizer,
            unet=unet_of(config, resolution // 4),
            scheduler=_scheduler(config),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    save(pipeline, folder)


def check_tiny(config: DiffusionConfig, resolution: int) -> None:
    """Refuse sizes of which no tiny model can be built.

    Args:
        config: sizes.
        resolution: side of the images in pixels.

    Raises:
        ConfigError: when the resolution doesn't divide by what the autoencoder and the UNet halve, or channels don't
            divide into attention heads.
    """
    factor = 4 * 2 ** (len(config.block_out_channels) - 1)
    if resolution % factor:
        raise ConfigError(
            f"ingest.resolution {resolution} isn't a multiple of {factor}, which {len(config.block_out_channels)} "
            "block_out_channels ask for"
        )
    for name, channels in (
        ("block_out_channels", config.block_out_channels),
        ("text_hidden_size", (config.text_hidden_size,)),
    ):
        if any(number % HEAD_CHANNELS for number in channels):
            raise ConfigError(f"{name} {list(channels)}: each must be a multiple of {HEAD_CHANNELS}")


def _text_encoder(config: DiffusionConfig, tokenizer: CLIPTokenizer) -> CLIPTextModel:
    width = config.text_hidden_size
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=4 * width,
            projection_dim=width,
            num_hidden_layers=TEXT_LAYERS,
            num_attention_heads=width // HEAD_CHANNELS,
            max_position_embeddings=tokenizer.model_max_length,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def unet_of(config: DiffusionConfig, side: int) -> UNet2DConditionModel:
    """Build the UNet of a fresh small model, for latents of a side, with random weights."""
    plain = len(config.block_out_channels) - 1
    return UNet2DConditionModel(
        sample_size=side,
        block_out_channels=config.block_out_channels,
        layers_per_block=config.layers_per_block,
        cross_attention_dim=config.text_hidden_size,
        # diffusers takes this for the number of heads, whatever it is called (its issue 2011).
        attention_head_dim=tuple(channels // HEAD_CHANNELS for channels in config.block_out_channels),
        norm_num_groups=16,
        down_block_types=("CrossAttnDownBlock2D",) * plain + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * plain,
    )


def _scheduler(config: DiffusionConfig) -> DDIMScheduler:
    """Stable Diffusion's noise schedule; with v-prediction, one that ends in pure noise.

    Source: the betas, Rombach et al., arXiv 2112.10752; the end in pure noise with trailing steps, Lin et al.,
    arXiv 2305.08891: without it a sample starts from noise that training never showed, and its brightness is off.
    """
    to_noise = config.prediction_type == "v_prediction"
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type=config.prediction_type,
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        timestep_spacing="trailing" if to_noise else "leading",
        rescale_betas_zero_snr=to_noise,
    )
