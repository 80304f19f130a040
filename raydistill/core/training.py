"""The configuration of everything that is trained: engine, re-identification networks, diffusion models."""

import re
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from raydistill.core.deepspeed import DeepSpeedConfig
from raydistill.core.section import Compute, Import, OpenShare, Section, Share


class OptimizerConfig(Section):
    """AdamW with a warm-up and a schedule from diffusers' `get_scheduler`."""

    steps: PositiveInt
    batch_size: PositiveInt = Field(description="Global batch: the sum over the workers.")
    lr: PositiveFloat
    weight_decay: float = Field(0.01, ge=0.0)
    warmup_steps: int | None = Field(
        None, ge=0, description="Steps until `lr` is reached; by default 50, and of a short training a tenth."
    )
    schedule: Literal["constant", "constant_with_warmup", "cosine", "cosine_with_restarts", "linear", "polynomial"] = (
        "cosine"
    )
    checkpoint_every: PositiveInt = Field(200, description="Steps between two checkpoints, at most.")
    checkpoint_minutes: PositiveFloat = Field(10.0, description="Minutes between two checkpoints, at most.")
    log_every: PositiveInt = Field(10, description="Steps between two looks at loss, clock and preemption notices.")
    max_loss_ratio: float = Field(
        20.0,
        gt=1.0,
        description="A loss, over `log_every` steps, so many times its median and above its first stops the training.",
    )

    @model_validator(mode="after")
    def _arrives(self) -> "OptimizerConfig":
        if self.warmup >= self.steps:
            raise ValueError(f"warmup_steps {self.warmup_steps} leave nothing of {self.steps} steps: lr isn't reached")
        if self.schedule == "constant" and self.warmup_steps:
            raise ValueError("schedule constant has no warmup_steps: take constant_with_warmup")
        return self

    @property
    def warmup(self) -> int:
        """Steps of the warm-up."""
        return min(50, self.steps // 10) if self.warmup_steps is None else self.warmup_steps


HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
"""Of a model on the hub: a name, or an owner and a name."""


def hub_revision(pretrained: str) -> tuple[str, str]:
    """Split `owner/name@revision`: a hub id, and a branch, tag or commit; the hub's default branch is `main`."""
    name, _, revision = pretrained.partition("@")
    return name, revision or "main"


def public_name(pretrained: str) -> str:
    """Return how weights are named outside the house: a hub id as it is, a path never.

    Example:
        >>> public_name("microsoft/rad-dino@main"), public_name("/home/alice/rad-dino"), public_name("data/x/weights")
        ('microsoft/rad-dino@main', 'a local folder', 'a local folder')
    """
    is_hub_id = HUB_ID.fullmatch(hub_revision(pretrained)[0]) and not Path(pretrained).is_dir()
    return pretrained if is_hub_id else "a local folder"


Backbone = Literal["resnet", "regnet", "convnext", "vit"]
PACKAGED: tuple[Backbone, ...] = ("resnet", "regnet", "convnext")
"""Backbones whose weights ship with the package."""

WIDTHS: dict[Backbone, int] = {"resnet": 32, "regnet": 32, "convnext": 32, "vit": 64}
"""Channels of the first stage where nothing else is said."""


class BackboneConfig(Section):
    """A transformers backbone: packaged, built from scratch, or read from a local folder or a hub id."""

    kind: Backbone = "resnet"
    width: PositiveInt | None = Field(
        None,
        description="Channels of the first stage of a backbone built from scratch; without it training starts from the "
        "packaged weights of resnet, regnet or convnext, which saw phantoms at 64 px and no cohort.",
    )
    pretrained: str | None = Field(
        None, description="Folder, or hub id[@revision], with safetensors weights; public weights only."
    )
    local_files_only: bool = True

    @property
    def is_packaged(self) -> bool:
        """Whether training starts from the weights that ship with the package."""
        return self.pretrained is None and self.width is None and self.kind in PACKAGED

    @property
    def family(self) -> str:
        """What it is, whatever its size or where it is read from: the kind, or the name of pretrained weights."""
        name = hub_revision(self.pretrained)[0] if self.pretrained else self.kind
        return str(Path(name).resolve()) if Path(name).exists() else name.rstrip("/").lower()

    @property
    def built_width(self) -> int:
        """Channels of the first stage of our own backbone."""
        return self.width or WIDTHS[self.kind]


class ReidConfig(Section):
    """One re-identification network: an eye."""

    embedder: Import | None = Field(
        None, description="Somebody's own `raydistill.reid.embedder.Embedder`; nothing is trained then."
    )
    backbone: BackboneConfig = BackboneConfig()
    embedding_dim: PositiveInt = 128
    images_per_patient: PositiveInt = Field(4, ge=2, description="Images of one patient in a batch.")
    rehearsal: Share = Field(
        0.5,
        description="Phantoms in a batch for each real image, beside them, where training starts from the packaged "
        "weights: a small cohort doesn't make a network forget what they know.",
    )
    optimizer: OptimizerConfig = OptimizerConfig(steps=500, batch_size=64, lr=1e-3)
    deepspeed: DeepSpeedConfig = DeepSpeedConfig(zero_stage=0)
    compute: Compute = Compute(num_workers=1)
    seed: int = 0

    @property
    def rehearsed(self) -> float:
        """Phantoms for each real image."""
        return self.rehearsal if self.backbone.is_packaged else 0.0


SHARED = {
    ("auditor", "filter"): "a student would be graded by its own filter",
    ("judge", "filter"): "the filter's settings would be graded by itself",
    ("auditor", "judge"): "a student would be graded by what chose its filter's settings",
}
"""What is wrong with two eyes of one kind."""


class Eyes(Section):
    """Three pairs of eyes, never shared: the filter's, the tuning judge's and the final auditor's."""

    filter: ReidConfig = ReidConfig(seed=1)
    judge: ReidConfig = ReidConfig(backbone=BackboneConfig(kind="convnext"), seed=2)
    auditor: ReidConfig = ReidConfig(
        backbone=BackboneConfig(kind="regnet"),
        seed=3,
    )

    @model_validator(mode="after")
    def _distinct(self) -> "Eyes":
        eyes = {"filter": self.filter, "judge": self.judge, "auditor": self.auditor}
        kinds = {name: eye.embedder or eye.backbone.family for name, eye in eyes.items()}
        for (one, other), fault in SHARED.items():
            if kinds[one] == kinds[other]:
                raise ValueError(f"{one} and {other} have the same backbone: {fault}")
        own = [eye.embedder.factory for eye in (self.filter, self.judge, self.auditor) if eye.embedder]
        if len(set(own)) < len(own):
            raise ValueError("two eyes are the same embedder: what one can't see the other can't find")
        if len({self.filter.seed, self.judge.seed, self.auditor.seed}) < 3:
            raise ValueError("filter, judge and auditor need three different seeds")
        return self


class GuardConfig(Section):
    """The cheapest privacy there is: see when a model does better on its own images than on others, and stop there.

    The gap is the denoising loss of calibration images over that of train images, less one: 0 while nothing is
    memorised. It is measured on the weights in training with the same noise for both.
    """

    every: PositiveInt = Field(100, description="Steps between two measurements.")
    images: PositiveInt = Field(64, description="Images of each side, at most.")
    draws: PositiveInt = Field(2, description="Noise draws an image's loss is averaged over.")
    max_gap: PositiveFloat | None = Field(0.1, description="A larger gap stops the training; null only reports it.")
    patience: PositiveInt = Field(2, description="Measurements in a row that must be larger.")


class LoraConfig(Section):
    """Low-rank adaptation of the UNet's attention (Hu et al., arXiv 2106.09685): few parameters, little memorised."""

    rank: PositiveInt = 8
    alpha: PositiveInt = 8
    dropout: Share = 0.0
    target_modules: tuple[str, ...] = Field(("to_q", "to_k", "to_v", "to_out.0"), min_length=1)


class TrackingConfig(Section):
    """Where a training can be watched. TensorBoard's files are in `RUN/logs`."""

    tensorboard: bool = True
    wandb: dict[str, Any] | None = Field(None, description="Arguments of `wandb.init`, such as `{project: …}`.")
    mlflow: dict[str, Any] | None = Field(None, description="`tracking_uri` and `experiment_name`.")
    pictures: bool = Field(
        False, description="Send wandb and mlflow sample grids too; a teacher's may show what it has memorised."
    )


FRESH = ("block_out_channels", "layers_per_block", "text_hidden_size", "prediction_type")
"""Fields of `DiffusionConfig` that a fresh model is built by; pretrained weights bring their own."""


class DiffusionConfig(Section):
    """A Stable Diffusion folder to start from and how to train it. The student's and the teacher's are of this kind."""

    pretrained: str | None = Field(
        None,
        description="Folder, or hub id[@revision], of public weights; none builds a small model on the packaged VAE.",
    )
    local_files_only: bool = True
    block_out_channels: tuple[PositiveInt, ...] = Field((64, 128), min_length=2)
    layers_per_block: PositiveInt = 1
    text_hidden_size: PositiveInt = 64
    prediction_type: Literal["epsilon", "v_prediction"] = "v_prediction"
    snr_gamma: PositiveFloat | None = Field(
        None,
        description="Min-SNR weighting of the loss (Hang et al., arXiv 2303.09556), 5 in the paper; none by default. "
        "With v_prediction and a schedule that ends in pure noise, as the fresh model's does, the noisiest steps then "
        "hardly count.",
    )
    prompt_dropout: Share = Field(0.1, description="Share of prompts left empty in training, for guidance.")
    horizontal_flip: bool = Field(False, description="Anatomy has sides; off by default.")
    ema_decay: OpenShare = 0.995
    train_text_encoder: bool = True
    lora: LoraConfig | None = Field(None, description="Adapt few parameters instead of all; needs `pretrained`.")
    private_parts: tuple[Literal["vae", "text_encoder", "unet"], ...] = Field(
        (), description="Parts of `pretrained` that were tuned on real data; what raydistill trained itself says so."
    )
    guard: GuardConfig = GuardConfig()
    preview_every: int = Field(500, ge=0, description="Steps between two sample grids in the logs; 0 draws none.")
    optimizer: OptimizerConfig = OptimizerConfig(steps=1200, batch_size=32, lr=1e-3)
    deepspeed: DeepSpeedConfig = DeepSpeedConfig()
    compute: Compute = Compute()

    @model_validator(mode="after")
    def _works(self) -> "DiffusionConfig":
        if self.lora and self.pretrained is None:
            raise ValueError("lora adapts pretrained weights: name them, or train all of a fresh model")
        if self.lora and self.train_text_encoder:
            raise ValueError("lora leaves the text encoder as it is: set train_text_encoder: false")
        changed = [name for name in FRESH if getattr(self, name) != DiffusionConfig.model_fields[name].default]
        if self.pretrained and changed:
            raise ValueError(
                f"{', '.join(changed)} belong to a fresh model, and pretrained weights bring their own: leave them "
                "out, as jobs/stable_diffusion.yaml does"
            )
        if self.private_parts and self.pretrained is None:
            raise ValueError("private_parts speaks of pretrained, which isn't given")
        return self
