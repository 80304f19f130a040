"""From images to vectors that can be compared: the trained network, or somebody's own."""

import json
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.utils import convert_conv2d_weight_memory_format

from raydistill.core.errors import InputError
from raydistill.core.imports import build
from raydistill.core.section import Import
from raydistill.data.images import mirrored
from raydistill.reid.model import ReidNetwork

OWN = "embedder.json"
"""In the place of weights where an eye is somebody's own: what to import, and its fingerprint."""


@runtime_checkable
class Embedder(Protocol):
    """Anything that turns images into comparable vectors. An extension point."""

    def embed(self, images: npt.NDArray[np.uint8], batch_size: int) -> npt.NDArray[np.float32]:
        """Embed images (N, R, R), 8-bit grey, to (N, D) float32 rows of unit length; each depends on its image only."""


@runtime_checkable
class OwnEmbedder(Embedder, Protocol):
    """An `Embedder` that `eyes.<eye>.embedder` names; the factory is called with `device`, such as `cpu`, too."""

    def fingerprint(self) -> Any:
        """Return what changes whenever the vectors would, such as a hash of the weights; plain JSON values."""


class ReidEmbedder:
    """A trained network for inference. An `Embedder`.

    Args:
        network: the network.
        device: where it computes, such as `cpu` or `cuda`.
    """

    def __init__(self, network: ReidNetwork, device: str = "cpu") -> None:
        # The order of numbers in which CPUs convolve fastest.
        self.network = network.eval().to(device)
        convert_conv2d_weight_memory_format(self.network, torch.channels_last)
        self.device = device

    @classmethod
    def load(cls, folder: str | Path, device: str = "cpu") -> "ReidEmbedder":
        """Read the network in a folder that `ReidNetwork.save` wrote."""
        return cls(ReidNetwork.load(folder), device)

    @torch.inference_mode()
    def embed(self, images: npt.NDArray[np.uint8], batch_size: int) -> npt.NDArray[np.float32]:
        """Embed images in batches of one fixed shape, so that a row doesn't depend on its neighbours.

        Args:
            images: (N, R, R), 8-bit grey, R the resolution of the network; no images may have any shape.
            batch_size: rows computed at once; the tail is padded to it.

        Returns:
            (N, D) float32, rows of unit length.

        Raises:
            InputError: when the images have another shape or dtype.
        """
        side = self.network.resolution
        if images.dtype != np.uint8 or (len(images) and images.shape[1:] != (side, side)):
            raise InputError(f"expected uint8 images (N, {side}, {side}), got {images.dtype} {images.shape}")
        rows = np.empty((len(images), self.network.embedding_dim), dtype=np.float32)
        for start in range(0, len(images), batch_size):
            chunk = images[start : start + batch_size]
            batch = np.zeros((batch_size, side, side), dtype=np.uint8)
            batch[: len(chunk)] = chunk
            embedded = self.network(torch.from_numpy(batch).to(self.device))
            rows[start : start + len(chunk)] = embedded[: len(chunk)].float().cpu().numpy()
        return rows


def embed_both_ways(eye: Embedder, images: npt.NDArray[np.uint8], batch_size: int) -> npt.NDArray[np.float32]:
    """Embed images (N, R, R) as they are and mirrored, (N, 2, D): a model may show somebody the other way round."""
    return np.stack([eye.embed(views, batch_size) for views in (images, mirrored(images))], axis=1)


def own_embedder(wanted: Import, device: str, where: str = "embedder") -> OwnEmbedder:
    """Build somebody's own embedder; `where` is the configuration's key, for messages.

    Raises:
        ConfigError: when it can't be imported or isn't one.
    """
    return build(wanted, OwnEmbedder, where, device=device)


def load_embedder(folder: str | Path, device: str) -> Embedder:
    """Read an eye: a folder that `ReidNetwork.save` wrote, or one with `OWN`."""
    own = Path(folder) / OWN
    if own.exists():
        return own_embedder(Import(**json.loads(own.read_text())["embedder"]), device)
    return ReidEmbedder.load(folder, device)
