"""The one model layout: a Stable Diffusion folder, tiny or full size, that anybody's diffusers loads.

The tiny model is built around public weights that ship with the package (`public/`): an autoencoder trained on
procedural pictures and a tokenizer of the prompt template. Neither ever saw a cohort.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, SchedulerMixin, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.utils import logging as diffusers_logging
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from numpy.typing import NDArray
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer
from transformers.utils import logging as transformers_logging

from raydistill.core.config import DiffusionConfig
from raydistill.core.errors import InputError
from raydistill.core.seeds import derive_seed

PUBLIC = Path(__file__).parent / "public"
PUBLIC_NAME = "raydistill-public-1"
TEXT_LAYERS, HEAD_CHANNELS = 2, 32
WEIGHTS = {
    "vae": "diffusion_pytorch_model.safetensors",
    "unet": "diffusion_pytorch_model.safetensors",
    "text_encoder": "model.safetensors",
}
"""The weights a folder must have; diffusers' and transformers' own file names."""

DESCRIPTIONS = ("model_index.json", "scheduler/scheduler_config.json", *(f"{part}/config.json" for part in WEIGHTS))


@dataclass(frozen=True)
class Components:
    """The parts of a loaded folder, in evaluation mode."""

    tokenizer: CLIPTokenizer
    text_encoder: CLIPTextModel
    vae: AutoencoderKL
    unet: UNet2DConditionModel
    scheduler: SchedulerMixin


def prepare_initial(config: DiffusionConfig, *, resolution: int, seed: int, folder: Path) -> None:
    """Write the folder that training starts from: a fresh tiny model, or a copy of public weights.

    Args:
        config: `pretrained` names the copy; without it the sizes build a tiny model.
        resolution: side of the images in pixels.
        seed: of the fresh weights.
        folder: where to write; must not exist or be empty.

    Raises:
        InputError: when the pretrained folder isn't a whole Stable Diffusion folder with safetensors.
    """
    if config.pretrained is None:
        build_tiny(config, resolution=resolution, seed=seed, folder=folder)
        return
    source = _find(config.pretrained, config.local_files_only)
    check_layout(source)
    wanted = {"model_index.json", "scheduler", "tokenizer", *WEIGHTS}
    shutil.copytree(source, folder, dirs_exist_ok=True, ignore=lambda at, names: _unwanted(at, names, source, wanted))
    pipeline = load_pipeline(folder)
    pipeline.unet.register_to_config(sample_size=resolution // pipeline.vae_scale_factor)
    pipeline.unet.save_config(folder / "unet")


def build_tiny(config: DiffusionConfig, *, resolution: int, seed: int, folder: Path) -> None:
    """Write a fresh small model: public autoencoder and tokenizer, random text encoder and UNet.

    Args:
        config: sizes and the kind of prediction.
        resolution: side of the images in pixels.
        seed: of the random weights.
        folder: where to write.

    Raises:
        InputError: when the resolution doesn't divide by what the autoencoder and the UNet halve.
    """
    factor = 4 * 2 ** (len(config.block_out_channels) - 1)
    if resolution % factor:
        raise InputError(f"resolution {resolution} isn't a multiple of {factor}, which block_out_channels asks for")
    tokenizer = CLIPTokenizer.from_pretrained(PUBLIC / "tokenizer")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "initial weights"))
        pipeline = StableDiffusionPipeline(
            vae=AutoencoderKL.from_pretrained(PUBLIC / "vae"),
            text_encoder=_text_encoder(config, tokenizer),
            tokenizer=tokenizer,
            unet=_unet(config, resolution // 4),
            scheduler=_scheduler(config),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    save(pipeline, folder)


def _text_encoder(config: DiffusionConfig, tokenizer: CLIPTokenizer) -> CLIPTextModel:
    width = config.text_hidden_size
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=4 * width,
            projection_dim=width,
            num_hidden_layers=TEXT_LAYERS,
            num_attention_heads=max(1, width // HEAD_CHANNELS),
            max_position_embeddings=tokenizer.model_max_length,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def _unet(config: DiffusionConfig, side: int) -> UNet2DConditionModel:
    plain = len(config.block_out_channels) - 1
    return UNet2DConditionModel(
        sample_size=side,
        block_out_channels=config.block_out_channels,
        layers_per_block=config.layers_per_block,
        cross_attention_dim=config.text_hidden_size,
        attention_head_dim=HEAD_CHANNELS,
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


def load_pipeline(folder: Path) -> StableDiffusionPipeline:
    """Load a folder as plain diffusers does: from local files, safetensors only, no code from the folder."""
    with _without_bars():
        return StableDiffusionPipeline.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, safety_checker=None, requires_safety_checker=False
        )


def save(pipeline: StableDiffusionPipeline, folder: Path) -> None:
    """Write a pipeline as a folder with safetensors, and the two tokenizer files that older readers expect."""
    with _without_bars():
        pipeline.save_pretrained(folder, safe_serialization=True)
    vocabulary = Path(pipeline.tokenizer.name_or_path)
    for name in ("vocab.json", "merges.txt"):
        if (vocabulary / name).exists():
            shutil.copyfile(vocabulary / name, folder / "tokenizer" / name)


@contextmanager
def _without_bars() -> Iterator[None]:
    """Keep two libraries' progress bars away from the terminal: the pipeline shows its own."""
    for logging in (diffusers_logging, transformers_logging):
        logging.disable_progress_bar()
    try:
        yield
    finally:
        for logging in (diffusers_logging, transformers_logging):
            logging.enable_progress_bar()


def load(folder: Path, device: str = "cpu") -> Components:
    """Load the parts of a Stable Diffusion folder in evaluation mode, float32.

    Args:
        folder: the folder.
        device: a torch device.

    Raises:
        InputError: when something is missing.
    """
    check_layout(folder)
    parts = load_pipeline(folder).to(device)
    for module in (parts.text_encoder, parts.vae, parts.unet):
        module.eval()
    return Components(parts.tokenizer, parts.text_encoder, parts.vae, parts.unet, parts.scheduler)


def check_layout(folder: Path) -> None:
    """Check that a folder is a whole Stable Diffusion folder with safetensors.

    Raises:
        InputError: naming what is missing, or saying that its class is another.
    """
    needed = [*DESCRIPTIONS, *(f"{part}/{name}" for part, name in WEIGHTS.items())]
    missing = [name for name in needed if not (folder / name).exists()]
    if not any((folder / "tokenizer" / name).exists() for name in ("vocab.json", "tokenizer.json")):
        missing.append("tokenizer/vocab.json")
    if missing:
        raise InputError(
            f"{folder} isn't a Stable Diffusion folder with safetensors: {', '.join(missing)} missing; "
            "weights in .bin or .ckpt can run code when read and are refused: convert them with save_pretrained"
        )
    kind = json.loads((folder / "model_index.json").read_text()).get("_class_name")
    if kind != "StableDiffusionPipeline":
        raise InputError(f"{folder} holds a {kind}; a StableDiffusionPipeline is needed")


def _find(name: str, local_files_only: bool) -> Path:
    if Path(name).is_dir():
        return Path(name)
    patterns = [*DESCRIPTIONS, "tokenizer/*", *(f"{part}/{file}" for part, file in WEIGHTS.items())]
    try:
        return Path(snapshot_download(name, local_files_only=local_files_only, allow_patterns=patterns))
    except (LocalEntryNotFoundError, HFValidationError, HfHubHTTPError) as error:
        raise InputError(
            f"pretrained: no folder {name}, and no such model in the local cache; "
            "download it first, or set local_files_only: false"
        ) from error


def _unwanted(at: str, names: list[str], source: Path, wanted: set[str]) -> set[str]:
    """Name what a copy leaves out: other parts, other formats, and other variants of the weights."""
    if Path(at) == source:
        return set(names) - wanted
    part = WEIGHTS.get(Path(at).name)
    return {name for name in names if part and name not in (part, "config.json")}


def weights_provenance(config: DiffusionConfig) -> dict[str, object]:
    """Say which public weights a model starts from: a name, and the SHA-256 of each file of weights or vocabulary."""
    if config.pretrained is None:
        root, name = PUBLIC, PUBLIC_NAME
        files = [PUBLIC / "vae" / WEIGHTS["vae"], PUBLIC / "tokenizer" / "vocab.json"]
    else:
        root, name = _find(config.pretrained, config.local_files_only), config.pretrained
        files = [root / part / file for part, file in WEIGHTS.items()]
    return {"name": name, "sha256": {str(file.relative_to(root)): _sha256(file) for file in files}}


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@torch.inference_mode()
def encode_images(vae: AutoencoderKL, images: NDArray[np.uint8], batch_size: int) -> NDArray[np.float32]:
    """Encode grey images to scaled latents, the mean of the posterior.

    Args:
        vae: the autoencoder.
        images: uint8 (N, R, R).
        batch_size: images at a time.

    Returns:
        float32 (N, C, R/f, R/f); C = 4, and f = 4 for the tiny model.
    """
    chunks = [_encode(vae, images[start : start + batch_size]) for start in range(0, len(images), batch_size)]
    return np.concatenate(chunks).astype(np.float32)


def _encode(vae: AutoencoderKL, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    grey = torch.from_numpy(np.ascontiguousarray(images)).to(vae.device, vae.dtype) / 127.5 - 1.0
    latents = vae.encode(grey[:, None].expand(-1, vae.config.in_channels, -1, -1)).latent_dist.mean
    return (latents * vae.config.scaling_factor).float().cpu().numpy()


@torch.inference_mode()
def decode_latents(vae: AutoencoderKL, latents: torch.Tensor) -> NDArray[np.uint8]:
    """Decode scaled latents to grey images, the mean over the colour channels.

    Args:
        vae: the autoencoder.
        latents: float (N, C, R/f, R/f).

    Returns:
        uint8 (N, R, R).
    """
    colour = vae.decode(latents.to(vae.device, vae.dtype) / vae.config.scaling_factor).sample
    grey = (colour.float().mean(dim=1) + 1.0) * 127.5
    return grey.round().clamp(0, 255).to(torch.uint8).cpu().numpy()


def tokenize(tokenizer: CLIPTokenizer, prompts: Sequence[str]) -> NDArray[np.int64]:
    """Turn prompts into token ids, cut and padded to the tokenizer's length.

    Args:
        tokenizer: of the model's folder.
        prompts: N texts; an empty one is the unconditional prompt.

    Returns:
        int64 (N, L).
    """
    length = tokenizer.model_max_length
    encoded = tokenizer(list(prompts), padding="max_length", truncation=True, max_length=length)
    return np.asarray(encoded.input_ids, dtype=np.int64).reshape(len(prompts), length)


def reconstruction_error(vae: AutoencoderKL, images: NDArray[np.uint8], batch_size: int = 64) -> dict[str, float]:
    """Measure what an image loses on its way through the autoencoder.

    Args:
        vae: the autoencoder.
        images: uint8 (N, R, R).
        batch_size: images at a time.

    Returns:
        `mae`: mean absolute error in grey levels of 255; `psnr`: mean over images of 20 log10(255 / rmse), in dB.
    """
    latents = torch.from_numpy(encode_images(vae, images, batch_size))
    decoded = np.concatenate([decode_latents(vae, part) for part in latents.split(batch_size)])
    difference = decoded.astype(np.float64) - images
    squared = np.maximum((difference**2).mean(axis=(1, 2)), 1e-12)
    return {"mae": float(np.abs(difference).mean()), "psnr": float((10 * np.log10(255**2 / squared)).mean())}
