"""The configuration of what is asked of models, and of how that is compared with real images."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, model_validator

from raydistill.core.section import Compute, Section

Solver = Literal["dpmsolver++", "unipc", "ddim", "pndm"]
"""Names of the solvers of the reverse diffusion; `diffusion.solvers` has their sources."""


class RequestConfig(Section):
    """Which prompts are asked for: k-anonymous frequencies of the train split, unless told otherwise."""

    table: str | None = Field(
        None,
        min_length=1,
        description="CSV or Parquet with a column `prompt`, and optionally `count` and the structured fields.",
    )
    balance: Literal["frequency", "prompt", "finding"] = Field(
        "frequency", description="Each prompt as often as in its table, each as often as another, or each finding so."
    )
    per_prompt: PositiveInt | None = Field(
        None,
        description="Ask for each prompt exactly so many times, times its `count` in a table; no num_samples then.",
    )

    @model_validator(mode="after")
    def _works(self) -> "RequestConfig":
        if self.per_prompt and self.balance != "frequency":
            raise ValueError(f"per_prompt fixes how often each is asked for: balance {self.balance} contradicts it")
        return self


class SampleConfig(Section):
    """What is asked of a model."""

    num_samples: PositiveInt = 512
    target_kept: PositiveInt | None = Field(
        None, description="Ask the teacher for more until the filter has kept so many, or max_samples were made."
    )
    max_samples: PositiveInt | None = Field(None, description="With target_kept; 4 times num_samples by default.")
    requests: RequestConfig = RequestConfig()
    guidance_scale: float = Field(2.0, ge=1.0)
    solver: Solver = "dpmsolver++"
    num_inference_steps: PositiveInt = Field(20, le=1000, description="Of the schedule's 1,000.")
    ways: tuple[tuple[Annotated[float, Field(ge=1.0)], Annotated[int, Field(ge=1, le=1000)]], ...] = Field(
        (),
        description="Pairs of guidance_scale and num_inference_steps that the samples take turns in, in the place of "
        "those two; tune.space sets them for the teacher's.",
    )
    batch_size: PositiveInt = Field(32, description="Fixed shape of every batch; a tail is padded.")
    precision: Literal["fp32", "bf16", "fp16"] = Field("fp32", description="Of the networks; noise stays in float32.")
    compiled: bool = Field(False, description="Compile the UNet with torch: worth it for many images on a GPU.")
    rows_per_piece: PositiveInt = Field(
        128,
        description="Images that a worker makes at a time and that a kill costs, at most; whole batches. One row group "
        "of a shard; part of the key, as the shards' size is.",
    )
    rows_per_shard: PositiveInt | None = Field(
        None, description="By default a 64th of the samples, but no shard under 128 rows or much over 256 MB."
    )
    compute: Compute = Compute()

    @model_validator(mode="after")
    def _works(self) -> "SampleConfig":
        if self.precision == "fp16" and not self.compute.num_gpus:
            raise ValueError("precision fp16 needs a GPU (compute.num_gpus): on a CPU take fp32 or bf16")
        if self.rows_per_piece % self.batch_size:
            raise ValueError(
                f"rows_per_piece {self.rows_per_piece} isn't a multiple of batch_size {self.batch_size}: each piece's "
                "last batch would be filled up with images that nobody keeps"
            )
        if self.max_samples and not self.target_kept:
            raise ValueError("max_samples bounds what target_kept asks for, which isn't set")
        if self.max_samples and not self.requests.per_prompt and self.max_samples < self.num_samples:
            raise ValueError(f"max_samples {self.max_samples} is less than num_samples {self.num_samples}")
        most = self.budget(self.num_samples)
        is_known = self.max_samples or not self.requests.per_prompt
        if self.target_kept and is_known and self.target_kept > most:
            raise ValueError(f"target_kept {self.target_kept} can't be reached with max_samples {most}")
        return self

    def budget(self, asked: int) -> int:
        """Samples that are made at most, for `target_kept`, where so many are asked for at first."""
        return self.max_samples or 4 * asked


ATTACK_SHARE = 2
"""How many times as many samples as the student's own an attack asks for, all ways together."""


class AttackConfig(Section):
    """How the student is asked harder than its samples were: each training prompt as often as another, in many ways."""

    num_samples: PositiveInt | None = Field(
        None,
        description="Samples asked for in each way, the prompts in turn, and each prompt at least once; by default all "
        "ways together twice as many as the student's own samples.",
    )
    guidance_scales: tuple[Annotated[float, Field(ge=1.0)], ...] = Field(
        (1.0, 4.0, 8.0),
        min_length=1,
        description="Strong guidance draws what was learned by heart; none, what is rare.",
    )
    num_inference_steps: PositiveInt = Field(
        10,
        le=1000,
        description="Of the guidance sweep: half the usual, for what is known by heart needs few, and twice as many "
        "samples show more.",
    )
    few_steps: PositiveInt = Field(5, le=1000, description="Steps of one more way: what is known by heart needs few.")

    def ways(self, samples: SampleConfig) -> dict[str, SampleConfig]:
        """Return what is asked, by name, where a model's samples are usually made in a given way."""
        changes: dict[str, dict[str, float]] = {
            f"guidance_{scale:g}": {"guidance_scale": scale, "num_inference_steps": self.num_inference_steps}
            for scale in self.guidance_scales
        }
        changes[f"steps_{self.few_steps}"] = {"num_inference_steps": self.few_steps}
        each = self.num_samples or -(-ATTACK_SHARE * samples.num_samples // len(changes))
        asked = {"num_samples": each, "requests": RequestConfig(per_prompt=1)}
        return {name: samples.model_copy(update={**asked, **change}) for name, change in changes.items()}


class MatchConfig(Section):
    """Exact search of every sample against every gallery image."""

    top_k: PositiveInt = 5
    batch_size: PositiveInt = 128
    near_copy_max_shift: int = Field(
        2,
        ge=0,
        le=6,
        description="Pixels of translation the structural measure searches; with many everything resembles everything.",
    )
    search_device: Literal["cpu", "cuda"] = Field(
        "cpu", description="Where FAISS proposes neighbours; cuda needs compute.num_gpus and the extra `gpu`."
    )
    gallery_mb: PositiveInt = Field(
        4096, description="Of galleries on a node; larger ones are spread over workers of their own, each with a part."
    )
    compute: Compute = Compute()

    @model_validator(mode="after")
    def _works(self) -> "MatchConfig":
        if self.search_device == "cuda" and not self.compute.num_gpus:
            raise ValueError("search_device cuda needs a GPU for each worker: set compute.num_gpus")
        return self
