"""Images and prompts as a diffusion model meets them, computed once. `rows.py` says how they are kept and read."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from raydistill.diffusion.components import Components, encode_images, tokenize

PROMPTS, REMEMBERED = 64, 4096
"""Prompts that are encoded at a time, and that are remembered."""

POLICY = "mean of the posterior, scaled, float16; mirrored images encoded as well where horizontal_flip is on"
"""What is encoded of an image, for manifests."""


class Encoder:
    """Turns images and prompts into a shard's two tables.

    Args:
        parts: the model; its autoencoder and tokenizer are used, and its text encoder where that stays frozen.
        is_text_frozen: keep embeddings of prompts in place of token ids.
        with_flipped: encode mirrored images as well.
    """

    def __init__(self, parts: Components, *, is_text_frozen: bool, with_flipped: bool) -> None:
        """Keep the parts; prompts that were embedded lately are remembered."""
        self.parts, self.is_text_frozen, self.with_flipped = parts, is_text_frozen, with_flipped
        self.known: dict[str, NDArray[Any]] = {}

    def tables(self, images: NDArray[np.uint8], prompts: Sequence[str]) -> tuple[pa.Table, pa.Table]:
        """Encode a shard.

        Args:
            images: uint8 (n, R, R).
            prompts: n texts.

        Returns:
            Rows (`latents`, perhaps `flipped`, `prompt`), and the words of the distinct prompts.
        """
        places = {prompt: place for place, prompt in enumerate(dict.fromkeys(prompts))}
        columns = {"latents": _flat(self._latents(images))}
        if self.with_flipped:
            columns["flipped"] = _flat(self._latents(images[:, :, ::-1]))
        columns["prompt"] = pa.array([places[prompt] for prompt in prompts], pa.int32())
        return pa.table(columns), pa.table({"words": _flat(self._words(list(places)))})

    def shapes(self, resolution: int) -> dict[str, list[int]]:
        """Say what one row of `latents` and of `words` is shaped like."""
        blank = np.zeros((1, resolution, resolution), np.uint8)
        return {"latents": list(self._latents(blank).shape[1:]), "words": list(self._words([""]).shape[1:])}

    def _latents(self, images: NDArray[np.uint8]) -> NDArray[np.float16]:
        return encode_images(self.parts.vae, images).astype(np.float16)

    def _words(self, prompts: Sequence[str]) -> NDArray[Any]:
        if len(self.known) > REMEMBERED:
            self.known.clear()
        fresh = [prompt for prompt in prompts if prompt not in self.known]
        for start in range(0, len(fresh), PROMPTS):
            some = fresh[start : start + PROMPTS]
            self.known |= zip(some, self._embedded(tokenize(self.parts.tokenizer, some)), strict=True)
        return np.stack([self.known[prompt] for prompt in prompts])

    @torch.inference_mode()
    def _embedded(self, ids: NDArray[np.int64]) -> NDArray[Any]:
        if not self.is_text_frozen:
            return ids
        encoder = self.parts.text_encoder
        hidden = encoder(torch.from_numpy(ids).to(encoder.device)).last_hidden_state
        return np.asarray(hidden.half().cpu().numpy())


def _flat(values: NDArray[Any]) -> pa.FixedSizeListArray:
    flat = np.ascontiguousarray(values).reshape(len(values), -1)
    return pa.FixedSizeListArray.from_arrays(pa.array(flat.reshape(-1)), flat.shape[1])
