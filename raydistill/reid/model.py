"""The re-identification network: a transformers backbone, pooled, projected and normalised to unit length."""

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F
from transformers import (
    AutoConfig,
    AutoModel,
    ConvNextConfig,
    PreTrainedConfig,
    PreTrainedModel,
    RegNetConfig,
    ResNetConfig,
    ViTConfig,
)

from raydistill.core.errors import ConfigError, InputError
from raydistill.core.seeds import derive_seed
from raydistill.core.training import BackboneConfig, ReidConfig, hub_revision
from raydistill.reid.augmentation import gaussian_blur

FORMAT = 2
PUBLIC = Path(__file__).parent / "public"
"""Weights that ship with the package, one folder a kind of backbone; trained on phantoms, they never saw a cohort."""

PUBLIC_SIDE = 64
"""Side of the images that the packaged weights were trained on, in pixels; others are resized to it."""

SMALL_SIDE = 48
"""Up to this side, in pixels, a backbone built from scratch keeps one halving less, so that detail survives."""

CONTRAST_SIDES = 1 / 8
"""Standard deviation of the neighbourhood whose mean and contrast are taken out of a pixel, in image sides."""

CONTRAST_FLOOR = 0.3
"""Of an image's mean contrast, added to every pixel's: flat parts aren't blown up to noise."""

SHIFT_SIDES = 1 / 20
"""How far an image is shifted up, down, left and right when it is embedded, in image sides: pooling over strides
isn't blind to where they begin (Zhang, Making Convolutional Networks Shift-Invariant Again, ICML 2019)."""

VIT_HEADS = 4
"""Attention heads of a ViT built from scratch."""

UNSTRIDED = ("resnet", "regnet")
"""Model types of our own whose last stage keeps its size."""

POOLER_UNUSED = ("vit", "deit")
"""Model types whose pooler has weights that nothing here reads."""


class ReidNetwork(nn.Module):
    """A backbone and a linear head; similar vectors mean the same person.

    Our own small backbones, of one grey channel, see local contrast, and out of training five shifts of an image, whose
    vectors are averaged; somebody's pretrained ones see images as they are used to, once.

    Args:
        backbone: configuration of the transformers backbone; its weights start random.
        resolution: side R of the square grey images, in pixels.
        embedding_dim: D, length of an embedding.
        input_side: side the images are resized to before the backbone; R when it was built for R.
    """

    def __init__(self, backbone: PreTrainedConfig, resolution: int, embedding_dim: int, input_side: int) -> None:
        super().__init__()
        self.resolution, self.embedding_dim, self.input_side = resolution, embedding_dim, input_side
        self.channels = int(backbone.num_channels)
        self.is_own = self.channels == 1
        self.backbone = _trimmed(AutoModel.from_config(backbone), input_side)
        self.head = nn.Linear(_width(backbone), embedding_dim)

    @classmethod
    def build(cls, config: ReidConfig, resolution: int, seed: int) -> "ReidNetwork":
        """Build the network of a configuration; the same weights everywhere.

        Args:
            config: backbone and embedding size.
            resolution: side of the grey images, in pixels.
            seed: where the random weights come from.

        Raises:
            ConfigError: when pretrained weights can't be read, or the resolution is too small for the backbone.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(seed, "weights"))
            check_backbone(config.backbone, resolution)
            if config.backbone.is_packaged:
                packaged = cls.load(PUBLIC / config.backbone.kind)
                network = cls(packaged.backbone.config, resolution, config.embedding_dim, PUBLIC_SIDE)
                network.backbone = packaged.backbone
                if config.embedding_dim == packaged.embedding_dim:
                    network.head = packaged.head
                return network.train()
            if config.backbone.pretrained is None:
                backbone = scratch_config(config.backbone, resolution)
                return cls(backbone, resolution, config.embedding_dim, resolution)
            pretrained = _reading(AutoModel, config.backbone, use_safetensors=True, dtype=torch.float32)
            network = cls(pretrained.config, resolution, config.embedding_dim, _native_side(pretrained.config))
            network.backbone = _trimmed(pretrained, network.input_side)
            return network.train()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Embed images.

        Args:
            images: (N, R, R) grey levels of any real dtype and scale; exposure is normalised away.

        Returns:
            (N, D) rows of unit length.
        """
        pixels = standardise(images).unsqueeze(1)
        if self.input_side != self.resolution:
            side = (self.input_side,) * 2
            pixels = F.interpolate(pixels, size=side, mode="bilinear", align_corners=False, antialias=self.is_own)
        if not self.is_own:
            return self._seen(pixels.expand(-1, self.channels, -1, -1))
        pixels = local_contrast(pixels.squeeze(1)).unsqueeze(1)
        if self.training:
            return self._seen(pixels)
        return F.normalize(torch.stack([self._seen(view) for view in shifted(pixels)]).sum(dim=0), dim=1)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Describe images as somebody's pretrained backbone does, whatever the head has learned.

        Args:
            images: (N, R, R) grey levels, as for embedding.

        Returns:
            (N, C), C the channels of the last feature map.
        """
        pixels = F.interpolate(standardise(images).unsqueeze(1), size=(self.input_side,) * 2, mode="bilinear")
        return self._pooled(pixels.expand(-1, self.channels, -1, -1))

    def _seen(self, pixels: torch.Tensor) -> torch.Tensor:
        """Embed what the backbone is shown, (N, C, S, S), once."""
        return F.normalize(self.head(self._pooled(pixels)).float(), dim=1)

    def _pooled(self, pixels: torch.Tensor) -> torch.Tensor:
        hidden: torch.Tensor = self.backbone(pixels.to(self.head.weight.dtype)).last_hidden_state
        return hidden.mean(dim=(2, 3)) if hidden.dim() == 4 else hidden.mean(dim=1)

    def save(self, folder: str | Path, dtype: torch.dtype = torch.float32) -> None:
        """Write `config.json` and `model.safetensors` into a folder, which is made when missing.

        Args:
            folder: where.
            dtype: of the weights in the file; read back, they are in single precision.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        content = {
            "format": FORMAT,
            "resolution": self.resolution,
            "embedding_dim": self.embedding_dim,
            "input_side": self.input_side,
            "backbone": json.loads(self.backbone.config.to_json_string(use_diff=False)),
        }
        (folder / "config.json").write_text(json.dumps(content, indent=1) + "\n")
        weights = {
            name: (tensor.to(dtype) if tensor.is_floating_point() else tensor).detach().cpu().contiguous()
            for name, tensor in self.state_dict().items()
        }
        save_file(weights, folder / "model.safetensors")

    @classmethod
    def load(cls, folder: str | Path) -> "ReidNetwork":
        """Read a folder that `save` wrote; in eval mode, on the CPU.

        Raises:
            InputError: when the folder isn't one, or is of another format.
        """
        folder = Path(folder)
        for name in ("config.json", "model.safetensors"):
            if not (folder / name).is_file():
                raise InputError(f"{folder} isn't a re-identification network: it has no {name}")
        content: dict[str, Any] = json.loads((folder / "config.json").read_text())
        if content.get("format") != FORMAT:
            raise InputError(f"{folder}/config.json has format {content.get('format')}; this version reads {FORMAT}")
        backbone = AutoConfig.for_model(**content["backbone"])
        network = cls(backbone, content["resolution"], content["embedding_dim"], content["input_side"])
        network.load_state_dict(load_file(folder / "model.safetensors"))
        return network.eval()


def standardise(images: torch.Tensor) -> torch.Tensor:
    """Give every image (N, R, R) zero mean and unit variance; a constant image becomes zeros."""
    images = images.float()
    images = images - images[:, :1, :1]  # the mean of equal values can be off by a rounding, which would be blown up
    centred = images - images.mean(dim=(1, 2), keepdim=True)
    return centred / centred.square().mean(dim=(1, 2), keepdim=True).sqrt().clamp_min(1e-6)


def local_contrast(pixels: torch.Tensor) -> torch.Tensor:
    """Take each pixel's local mean out and divide by the local contrast: what an exposure changes over the image.

    Args:
        pixels: (N, S, S) float, of any scale.

    Source: divisive normalisation, Jarrett et al., What is the Best Multi-Stage Architecture for Object Recognition?,
    ICCV 2009, section 2.1.
    """
    sigma = CONTRAST_SIDES * pixels.shape[-1]
    off = pixels - gaussian_blur(pixels, sigma)
    contrast = gaussian_blur(off.square(), sigma).clamp_min(1e-8).sqrt()
    return off / (contrast + CONTRAST_FLOOR * contrast.mean(dim=(1, 2), keepdim=True))


def shifted(pixels: torch.Tensor) -> list[torch.Tensor]:
    """Return images (N, C, S, S) as they are, and shifted to each of four sides; edges are extended."""
    side = pixels.shape[-1]
    far = max(1, round(SHIFT_SIDES * side))
    wide = F.pad(pixels, (far,) * 4, mode="replicate")
    places = [(far, far), (0, far), (2 * far, far), (far, 0), (far, 2 * far)]
    return [wide[..., top : top + side, left : left + side] for top, left in places]


def check_backbone(backbone: BackboneConfig, resolution: int) -> None:
    """Refuse a backbone that can't be built for the images, or weights that aren't there; loads none.

    Args:
        backbone: kind and width, or where pretrained weights are.
        resolution: side of the images, in pixels.

    Raises:
        ConfigError: what doesn't fit.
    """
    if backbone.pretrained is not None:
        _check_pretrained(backbone, backbone.pretrained)
        return
    if backbone.is_packaged:
        return
    if resolution < 16 or resolution % 8:
        raise ConfigError(f"a backbone built from scratch needs an ingest.resolution of 8 n >= 16, not {resolution}")
    if backbone.kind == "vit" and backbone.built_width % VIT_HEADS:
        raise ConfigError(f"backbone.width {backbone.width} of a vit isn't a multiple of its {VIT_HEADS} heads")


@cache
def weights_digest(backbone: BackboneConfig) -> str | None:
    """Hash a file of packaged weights, pretrained ones by tensor; None for a backbone built from scratch."""
    if backbone.is_packaged:
        return hashlib.sha256((PUBLIC / backbone.kind / "model.safetensors").read_bytes()).hexdigest()
    return tensors_digest(backbone)


@cache
def tensors_digest(backbone: BackboneConfig) -> str | None:
    """Hash a backbone's starting weights by tensor, packaged or pretrained: equal wherever and however they lie."""
    if not backbone.is_packaged and backbone.pretrained is None:
        return None
    found: nn.Module = (
        ReidNetwork.load(PUBLIC / backbone.kind).backbone
        if backbone.is_packaged
        else _reading(AutoModel, backbone, use_safetensors=True)
    )
    digest = hashlib.sha256()
    for name, tensor in sorted(found.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().view(torch.uint8).numpy().tobytes() if tensor.dim() else str(tensor).encode())
    return digest.hexdigest()


def scratch_config(backbone: BackboneConfig, resolution: int) -> PreTrainedConfig:
    """Return the transformers configuration of a small one-channel backbone.

    Args:
        backbone: kind and width.
        resolution: side of the images, in pixels.

    Raises:
        ConfigError: as `check_backbone`.
    """
    check_backbone(backbone, resolution)
    width = backbone.built_width
    stages = [width, 2 * width, 4 * width, 8 * width]
    if backbone.kind == "resnet":
        return ResNetConfig(
            num_channels=1, embedding_size=width, hidden_sizes=stages, depths=[1, 1, 1, 1], layer_type="basic"
        )
    if backbone.kind == "regnet":
        return RegNetConfig(
            num_channels=1,
            embedding_size=width,
            hidden_sizes=stages,
            depths=[1, 1, 2, 1],
            groups_width=16 if width % 16 == 0 else width,
            layer_type="y",
        )
    if backbone.kind == "convnext":
        patch = 2 if resolution <= SMALL_SIDE else 4
        return ConvNextConfig(num_channels=1, patch_size=patch, hidden_sizes=stages, depths=[1, 1, 2, 1])
    return ViTConfig(
        num_channels=1,
        image_size=resolution,
        patch_size=resolution // 8,
        hidden_size=width,
        num_hidden_layers=4,
        num_attention_heads=VIT_HEADS,
        intermediate_size=4 * width,
    )


def described(backbone: BackboneConfig, resolution: int) -> tuple[PreTrainedConfig, int]:
    """Return the transformers configuration of a backbone and the side it sees images at; loads no weights.

    Args:
        backbone: kind and width, or where pretrained weights are.
        resolution: side of the images, in pixels.

    Raises:
        ConfigError: as `check_backbone`.
    """
    if backbone.is_packaged:
        content = json.loads((PUBLIC / backbone.kind / "config.json").read_text())
        return AutoConfig.for_model(**content["backbone"]), PUBLIC_SIDE
    if backbone.pretrained is None:
        return scratch_config(backbone, resolution), resolution
    config = _reading(AutoConfig, backbone)
    return config, _native_side(config)


def _trimmed(backbone: PreTrainedModel, side: int) -> PreTrainedModel:
    """Leave out what isn't used: a pooler without a gradient, and the halvings that small images can't afford.

    The last stage of our own ResNet or RegNet doesn't halve, as is usual in re-identification (Luo et al., Bag of
    Tricks and a Strong Baseline for Deep Person Re-Identification, CVPR Workshops 2019).
    """
    if backbone.config.model_type in POOLER_UNUSED:
        backbone.register_module("pooler", None)
    if backbone.config.model_type == "resnet" and side <= SMALL_SIDE:
        backbone.get_submodule("embedder").register_module("pooler", nn.Identity())
    if backbone.config.model_type in UNSTRIDED and backbone.config.num_channels == 1:
        for module in backbone.get_submodule("encoder.stages.3").modules():
            if isinstance(module, nn.Conv2d):
                module.stride = (1, 1)
    return backbone


def _reading(kind: Any, backbone: BackboneConfig, **options: Any) -> Any:
    """Read a configuration or a model from a folder or a hub id: no code from there, no pickle."""
    source = str(backbone.pretrained)
    name, revision = (source, "main") if Path(source).is_dir() else hub_revision(source)
    options |= {"local_files_only": backbone.local_files_only, "trust_remote_code": False}
    try:
        return kind.from_pretrained(name, revision=revision, **options)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ConfigError(f"backbone.pretrained: can't read {backbone.pretrained}: {reason}") from error


def _check_pretrained(backbone: BackboneConfig, source: str) -> None:
    config = _reading(AutoConfig, backbone)
    if _width(config) is None or not hasattr(config, "num_channels"):
        raise ConfigError(f"backbone.pretrained: {source} is a {config.model_type}, not an image backbone")
    if Path(source).is_dir() and not any(Path(source).glob("*.safetensors")):
        raise ConfigError(f"backbone.pretrained: {source} has no *.safetensors; other formats aren't read")


def _width(config: PreTrainedConfig) -> Any:
    """Return the channels of the last feature map, None when the configuration doesn't say."""
    return (getattr(config, "hidden_sizes", None) or [getattr(config, "hidden_size", None)])[-1]


def _native_side(config: PreTrainedConfig) -> int:
    side = getattr(config, "image_size", None) or 224
    return int(side if isinstance(side, int) else side[0])
