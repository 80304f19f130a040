"""What the training benchmarks learn: models of several sizes, and phantoms encoded for them, as the stages do it."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from diffusers import AutoencoderKL, DDPMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from raydistill.core.rows import Rows
from raydistill.core.store import Store
from raydistill.core.training import DiffusionConfig
from raydistill.data.images import encode_png
from raydistill.data.phantom import render
from raydistill.data.vocabulary import SEXES, Fields
from raydistill.diffusion import components
from raydistill.diffusion.folder import save
from raydistill.diffusion.rows import LatentRows
from raydistill.diffusion.tiny import PUBLIC
from raydistill.distributed.shards import Shelf, cut
from raydistill.distributed.stream import Stream
from raydistill.stages.encode import EncodeShard, encoded
from raydistill.stages.images import pixels
from raydistill.stages.train_diffusion import WINDOW_BYTES

SCHEDULE: dict[str, bool | int] = {"clip_sample": False, "steps_offset": 1}
"""What the pipeline asks of a scheduler."""

ROWS, TOKENS = 64, 77
"""Rows of a shard; length of a prompt in Stable Diffusion."""


@dataclass(frozen=True)
class Sizes:
    """Stable Diffusion 1.5's layout (Rombach et al., arXiv 2112.10752), every width divided by a number."""

    divisor: int

    def unet(self) -> UNet2DConditionModel:
        """860 M parameters at 1."""
        return UNet2DConditionModel(
            block_out_channels=tuple(width // self.divisor for width in (320, 640, 1280, 1280)),
            cross_attention_dim=768 // self.divisor,
            attention_head_dim=8 // self.divisor,  # the number of heads, whatever it is called; their width stays
            norm_num_groups=min(32, 320 // self.divisor // 5),
        )

    def vae(self) -> AutoencoderKL:
        """84 M parameters at 1."""
        return AutoencoderKL(
            block_out_channels=tuple(width // self.divisor for width in (128, 256, 512, 512)),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=2,
            norm_num_groups=min(32, 128 // self.divisor),
        )

    def text_encoder(self, words: int = 49408) -> CLIPTextModel:
        """123 M parameters at 1."""
        width = 768 // self.divisor
        return CLIPTextModel(
            CLIPTextConfig(
                vocab_size=words,
                hidden_size=width,
                intermediate_size=4 * width,
                num_hidden_layers=12,
                num_attention_heads=12 // self.divisor,
                max_position_embeddings=TOKENS,
            )
        )

    def write(self, folder: Path) -> None:
        """Write a Stable Diffusion folder with random weights and the packaged tokenizer."""
        torch.manual_seed(0)
        tokenizer = CLIPTokenizer.from_pretrained(PUBLIC / "tokenizer", model_max_length=TOKENS)
        pipeline = StableDiffusionPipeline(
            vae=self.vae(),
            text_encoder=self.text_encoder(len(tokenizer)),
            tokenizer=tokenizer,
            unet=self.unet(),
            scheduler=DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", **SCHEDULE),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        save(pipeline, folder)

    def encoder_per_step(self, resolution: int) -> float:
        """Floating-point operations of encoding an image and its prompt, over those of a UNet's step on it."""
        with torch.device("meta"):
            unet, vae, text = self.unet(), self.vae(), self.text_encoder()
            words, image = torch.zeros(1, TOKENS, dtype=torch.int64), torch.zeros(1, 3, resolution, resolution)
            with FlopCounterMode(display=False) as encoding, torch.no_grad():
                latents, hidden = vae.encode(image).latent_dist.mean, text(words).last_hidden_state
            with FlopCounterMode(display=False) as step:
                unet(latents, torch.zeros(1, dtype=torch.int64), hidden).sample.sum().backward()
        return encoding.get_total_flops() / step.get_total_flops()


@dataclass(frozen=True)
class Pixels:
    """Reads a shard that isn't encoded: `images` uint8 (n, R, R), `ids` int64 (n, L)."""

    folder: Store

    def __call__(self, name: str) -> Rows:
        """Return the rows of one shard."""
        table = self.folder.read_table(f"images/{name}")
        tokenizer = components.load_tokenizer(self.folder.keep_local("initial/tokenizer"))
        return {"images": pixels(table), "ids": components.tokenize(tokenizer, table["prompt"].to_pylist())}


@dataclass(frozen=True)
class Material:
    """A model to start from and phantoms to learn from.

    Args:
        folder: `initial/`, a Stable Diffusion folder; `images/`; `train/`, what the stage `Encode` makes of them.
        config: what is trained, and how.
        shards: name and number of rows of each.
        encoding_s: seconds that encoding a row took.
    """

    folder: Store
    config: DiffusionConfig
    shards: tuple[tuple[str, int], ...]
    encoding_s: float

    @classmethod
    def make(
        cls, folder: Path, config: DiffusionConfig, resolution: int, rows: int, write: Callable[[Path], None]
    ) -> "Material":
        """Write a model, phantoms and their encoding."""
        store = Store.open(str(folder))
        write(folder / "initial")
        phantoms = render(np.arange(rows), np.zeros(rows, np.int64), seed=0, resolution=resolution)
        facts = zip(phantoms.labels, phantoms.view, phantoms.sex, strict=True)
        prompts = [Fields(tuple(labels), view.lower(), SEXES[sex.lower()]).prompt() for labels, view, sex in facts]
        images = pa.table({"image": [encode_png(image) for image in phantoms.images], "prompt": prompts})
        shards = {shard.name: images.slice(shard.first, ROWS) for shard in cut(rows, ROWS, ROWS)}
        for name, table in shards.items():
            store.write_table(f"images/{name}", table)
        encode = EncodeShard({"train": {"images": store / "images"}}, store / "initial", store, config)
        shelf, start = Shelf(store, store / "work"), time.perf_counter()
        for name, table in shards.items():
            shard = encoded("train", name, len(table))
            for piece in shard.pieces:
                shelf.put(shard, piece, encode(piece))
        seconds = (time.perf_counter() - start) / rows
        return cls(store, config, tuple((name, len(table)) for name, table in shards.items()), seconds)

    def encoded(self) -> Stream:
        """Encoded rows, as the stage `TrainDiffusion` streams them."""
        rows, batch_size = LatentRows(self.folder / "train"), self.config.optimizer.batch_size
        size = sum(column.nbytes for column in rows(self.shards[0][0]).values()) / self.shards[0][1]
        return Stream(self.shards, rows, batch_size, 0, max(batch_size, int(WINDOW_BYTES / size)))

    def pixels(self) -> Stream:
        """The same rows in the same order, not encoded."""
        encoded = self.encoded()
        return Stream(self.shards, Pixels(self.folder), encoded.batch_size, 0, encoded.window_rows)
