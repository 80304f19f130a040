"""What a diffusion model learns: to take noise out of latents, told by a prompt.

Noise, timestep and dropped prompt of a row are drawn from (seed, step, position in the global batch) on the CPU, so
the sum over the workers' parts doesn't depend on how many workers there are, or on what device.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDPMScheduler, StableDiffusionPipeline
from diffusers.training_utils import compute_snr
from diffusers.utils import convert_state_dict_to_diffusers
from numpy.typing import NDArray
from torch import Tensor, nn

from raydistill.core.seeds import derive_seed
from raydistill.core.training import DiffusionConfig, LoraConfig
from raydistill.diffusion.components import load, tokenize
from raydistill.diffusion.folder import load_pipeline, save

LORA = "lora"
"""Folder of an exported model with the adaptation by itself; the UNet beside it has it merged in."""


class Denoiser(nn.Module):
    """What is trained: the UNet, and the text encoder unless its output is given.

    Args:
        unet: diffusers' UNet2DConditionModel.
        text_encoder: transformers' CLIPTextModel; None when the forward pass is given embeddings.
    """

    def __init__(self, unet: nn.Module, text_encoder: nn.Module | None) -> None:
        """Hold the parts as submodules."""
        super().__init__()
        self.unet = unet
        self.text_encoder = text_encoder

    def forward(self, noisy: Tensor, timesteps: Tensor, words: Tensor) -> Tensor:
        """Predict noise or velocity.

        Args:
            noisy: float (B, C, h, w).
            timesteps: int64 (B,).
            words: int64 (B, L) token ids, or float (B, L, D) embeddings when there is no text encoder.

        Returns:
            float (B, C, h, w).
        """
        embeddings = self.text_encoder(words).last_hidden_state if self.text_encoder is not None else words
        predicted: Tensor = self.unet(noisy, timesteps, embeddings).sample
        return predicted


@dataclass(frozen=True)
class Draws:
    """The random choices for n rows: noise (n, C, h, w), timesteps (n,), and who is mirrored or has no prompt (n,)."""

    noise: Tensor
    timesteps: Tensor
    flipped: NDArray[np.bool_]
    dropped: NDArray[np.bool_]


class DiffusionObjective:
    """Denoising with classifier-free guidance dropout (Ho and Salimans, arXiv 2207.12598).

    Args:
        initial: the Stable Diffusion folder that training starts from.
        config: what of it is trained, and how the loss is made.
        seed: of everything random.
    """

    def __init__(self, initial: Path, config: DiffusionConfig, seed: int) -> None:
        """Keep what decides; models are loaded by `build`."""
        self.initial, self.config, self.seed = initial, config, seed

    def build(self) -> Denoiser:
        """Load the initial weights; the same on every worker."""
        parts = load(self.initial)
        self.scheduler = DDPMScheduler.from_config(parts.scheduler.config)
        ids = torch.from_numpy(tokenize(parts.tokenizer, [""]))
        with torch.no_grad():
            empty = ids if self.config.train_text_encoder else parts.text_encoder(ids).last_hidden_state
        self.empty = empty[0].numpy()
        if self.config.lora:
            _adapt(parts.unet, self.config.lora, self.seed)
        if self.config.deepspeed.gradient_checkpointing:
            parts.unet.enable_gradient_checkpointing()
        return Denoiser(parts.unet, parts.text_encoder if self.config.train_text_encoder else None).train()

    def draws(self, step: int, part: slice, shape: tuple[int, ...]) -> Draws:
        """Draw the random choices of some positions of a step's global batch; a row's latent has `shape`."""
        rows = range(part.start, part.stop)
        sources = [torch.Generator().manual_seed(derive_seed(self.seed, "row", step, row)) for row in rows]
        coins = np.array([torch.rand(2, generator=source).numpy() for source in sources]).reshape(-1, 2)
        last = self.scheduler.config.num_train_timesteps
        return Draws(
            noise=torch.stack([torch.randn(shape, generator=source) for source in sources]),
            timesteps=torch.cat([torch.randint(last, (1,), generator=source) for source in sources]),
            flipped=coins[:, 0] < 0.5,
            dropped=coins[:, 1] < self.config.prompt_dropout,
        )

    def loss(self, model: nn.Module, step: int, part: slice, rows: Mapping[str, NDArray[Any]]) -> Tensor:
        """Return the mean squared error of the prediction over one worker's part of a step's batch.

        Args:
            model: the built module, possibly wrapped.
            step: number of the global batch.
            part: positions in the global batch.
            rows: `latents`, `words` and perhaps `flipped` of these positions, as `rows.LatentRows` reads them.

        Returns:
            A scalar. The prediction is of the noise (Ho et al., arXiv 2006.11239, eq. 14) or of the velocity
            (Salimans and Ho, arXiv 2202.00512, section 4), as the folder's scheduler says.
        """
        draws, like = self.draws(step, part, rows["latents"].shape[1:]), next(model.parameters())
        clean, noise, timesteps = _chosen(rows, draws), draws.noise, draws.timesteps
        noisy = self.scheduler.add_noise(clean, noise, timesteps)
        velocity = self.scheduler.config.prediction_type == "v_prediction"
        target = self.scheduler.get_velocity(clean, noise, timesteps) if velocity else noise
        words = torch.from_numpy(self._words(rows["words"], draws.dropped)).to(like.device)
        words = words.to(like.dtype) if words.is_floating_point() else words
        predicted = model(noisy.to(like), timesteps.to(like.device), words)
        errors = ((predicted.float() - target.to(like.device)) ** 2).mean(dim=(1, 2, 3))
        loss: Tensor = (errors * self._weights(timesteps).to(errors)).mean()
        return loss

    def _words(self, words: NDArray[Any], dropped: NDArray[np.bool_]) -> NDArray[Any]:
        shape = (-1,) + (1,) * self.empty.ndim
        return np.where(dropped.reshape(shape), self.empty, words)

    def _weights(self, timesteps: Tensor) -> Tensor:
        """Min-SNR weights (Hang et al., arXiv 2303.09556, section 3.4): min(SNR, gamma) over SNR, or over SNR + 1."""
        if self.config.snr_gamma is None:
            return torch.ones(len(timesteps))
        snr = compute_snr(self.scheduler, timesteps)
        velocity = self.scheduler.config.prediction_type == "v_prediction"
        # A schedule that ends in pure noise has an SNR of 0 there; its noise is as easy as it gets: weight 1.
        below = snr + 1 if velocity else snr.clamp(min=1e-8)
        return torch.where(snr > 0, snr.clamp(max=self.config.snr_gamma) / below, torch.as_tensor(float(not velocity)))

    def export(self, model: nn.Module, folder: Path) -> None:
        """Write the trained module as a whole Stable Diffusion folder with safetensors.

        Args:
            model: the plain module that `build` returned, trained.
            folder: where to write; an adaptation is merged into the UNet, and written by itself below `lora`.
        """
        pipeline = load_pipeline(self.initial)
        unet: Any = model.unet
        if self.config.lora:
            _save_adaptation(unet, folder / LORA)
            unet.fuse_lora()
            unet.unload_lora()
        for name in ("unet", "text_encoder"):
            trained: Any = getattr(model, name)
            if trained is not None:
                getattr(pipeline, name).load_state_dict(trained.state_dict())
        save(pipeline, folder)


def _chosen(rows: Mapping[str, NDArray[Any]], draws: Draws) -> Tensor:
    latents = rows["latents"]
    if "flipped" in rows:
        latents = np.where(draws.flipped[:, None, None, None], rows["flipped"], latents)
    return torch.from_numpy(latents.astype(np.float32))


def _adapt(unet: Any, config: LoraConfig, seed: int) -> None:
    from peft import LoraConfig as Adaptation

    unet.requires_grad_(False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "adaptation"))
        unet.add_adapter(
            Adaptation(
                r=config.rank,
                lora_alpha=config.alpha,
                lora_dropout=config.dropout,
                target_modules=list(config.target_modules),
                init_lora_weights="gaussian",
            )
        )


def _save_adaptation(unet: Any, folder: Path) -> None:
    from peft import get_peft_model_state_dict

    layers = convert_state_dict_to_diffusers(get_peft_model_state_dict(unet))
    StableDiffusionPipeline.save_lora_weights(
        folder,
        unet_lora_layers=layers,
        # Without it a reader would take alpha for the rank.
        unet_lora_adapter_metadata=unet.peft_config["default"].to_dict(),
        safe_serialization=True,
    )
