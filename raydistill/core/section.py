"""What every section of the configuration is made of, and where a stage runs."""

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

NOT_IN_KEY = frozenset(
    {
        *("compute", "checkpoint_every", "checkpoint_minutes", "log_every", "preview_every", "max_loss_ratio"),
        *("zero_stage", "offload_optimizer", "gradient_checkpointing"),
        *("gradient_accumulation_steps", "micro_batch_size"),
        *("search_device", "gallery_mb"),
        *("signing_key", "licence", "licence_text", "more_formats", "release_anyway"),
    }
)
"""Names of fields that say where and how a stage runs, what is seen of it, and whether and how a bundle is packed;
never what it computes."""

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
SELECTOR = rf"(!?)(?:({_LABEL})|in\(({_LABEL}(?:, *{_LABEL})*)\))"
"""What a node's label must be, as Ray writes it: `a`, `!a`, `in(a,b)`, `!in(a,b)`."""

Share = Annotated[float, Field(ge=0.0, le=1.0)]
OpenShare = Annotated[float, Field(gt=0.0, lt=1.0)]


def _twice(value: Any) -> Any:
    return (value, value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _ascending(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] > bounds[1]:
        raise ValueError("a range goes from a smaller to a larger number")
    return bounds


Range = Annotated[
    tuple[OpenShare, OpenShare],
    BeforeValidator(_twice, json_schema_input_type=OpenShare | tuple[OpenShare, OpenShare]),
    AfterValidator(_ascending),
]
ShareRange = Annotated[
    tuple[Share, Share],
    BeforeValidator(_twice, json_schema_input_type=Share | tuple[Share, Share]),
    AfterValidator(_ascending),
]
CountRange = Annotated[
    tuple[PositiveInt, PositiveInt],
    BeforeValidator(_twice, json_schema_input_type=PositiveInt | tuple[PositiveInt, PositiveInt]),
    AfterValidator(_ascending),
]
"""What a search may try: from the first to the second; of a single number, that alone."""


class Section(BaseModel):
    """Base of every section: unknown keys are errors, values can't change after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Compute(Section):
    """Where a stage runs. No part of a key, as the result doesn't depend on it; an eye's number of workers excepted."""

    num_workers: PositiveInt | tuple[PositiveInt, PositiveInt] = Field(
        2, description="Or the fewest and the most: training goes on with as many as the cluster has."
    )
    num_cpus: PositiveFloat = Field(1.0, description="CPUs a worker claims.")
    num_gpus: float = Field(0.0, ge=0.0, description="GPUs a worker claims; 0 computes on the CPU.")
    accelerator_type: str | None = Field(
        None, description="Only nodes with this GPU, by Ray's name of it, such as H100 or A100-80G."
    )
    memory_gb: PositiveFloat | None = Field(
        None, description="GiB of a node's memory that a worker claims; nothing is claimed, or bounded, without."
    )
    label_selector: dict[str, Annotated[str, Field(pattern=rf"^{SELECTOR}$")]] = Field(
        default_factory=dict,
        description="Only nodes with these labels, as Ray writes it: `zone: a`, `zone: in(a,b)`, `zone: '!a'`.",
    )
    placement: Literal["pack", "spread"] = Field(
        "pack", description="Workers on as few nodes as can be, or on as many."
    )
    price_per_hour: PositiveFloat | None = Field(
        None, description="Of a worker, for `raydistill plan`; goes before its table of prices."
    )

    @model_validator(mode="after")
    def _works(self) -> "Compute":
        if self.accelerator_type and not self.num_gpus:
            raise ValueError(
                f"accelerator_type {self.accelerator_type} without num_gpus: how many does a worker claim?"
            )
        if self.min_workers > self.max_workers:
            raise ValueError(f"num_workers {list(self.workers)}: the fewest come first")
        return self

    @property
    def workers(self) -> tuple[int, int]:
        """Fewest and most workers."""
        return (self.num_workers, self.num_workers) if isinstance(self.num_workers, int) else self.num_workers

    @property
    def min_workers(self) -> int:
        """Workers without which the stage can't run."""
        return self.workers[0]

    @property
    def max_workers(self) -> int:
        """Workers that the stage takes when it gets them."""
        return self.workers[1]

    @property
    def memory_bytes(self) -> int:
        """What `memory_gb` is in bytes; 0 where nothing is claimed."""
        return int((self.memory_gb or 0) * 2**30)

    @property
    def device(self) -> str:
        """The torch device of a worker, by configuration and not by looking."""
        return "cuda" if self.num_gpus else "cpu"


class Import(Section):
    """Somebody's own part at one of the four extension points, by an import string."""

    factory: str = Field(description="`package.module:Class`, called with `options` as keywords.")
    options: dict[str, Any] = Field(default_factory=dict)
