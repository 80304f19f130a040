"""The configuration: typed, frozen, strict about names, resolved once and written into the run folder.

Every default that changes a privacy number stands here with its reason. Hardware is data: nothing looks at the
driver's devices. Fields of `Compute` say where and how fast a stage runs, never what it computes; they are not part
of an artifact's key.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

Share = Annotated[float, Field(ge=0.0, le=1.0)]
OpenShare = Annotated[float, Field(gt=0.0, lt=1.0)]


def _ascending(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] >= bounds[1]:
        raise ValueError("a range goes from a smaller to a larger number")
    return bounds


Range = Annotated[tuple[OpenShare, OpenShare], AfterValidator(_ascending)]


class Section(BaseModel):
    """Base of every section: unknown keys are errors, values can't change after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Compute(Section):
    """Where a stage runs. No part of a key, as the result doesn't depend on it; an eye's number of workers excepted."""

    num_workers: PositiveInt = 2
    num_cpus: PositiveFloat = Field(1.0, description="CPUs a worker claims.")
    num_gpus: float = Field(0.0, ge=0.0, description="GPUs a worker claims; 0 computes on the CPU.")

    @property
    def device(self) -> str:
        """The torch device of a worker, by configuration and not by looking."""
        return "cuda" if self.num_gpus else "cpu"


class Import(Section):
    """Somebody's own part at one of the four extension points, by an import string."""

    factory: str = Field(description="`package.module:Class`, called with `options` as keywords.")
    options: dict[str, Any] = Field(default_factory=dict)


class ParquetSource(Section):
    """A Parquet file, a folder of them, or a URI of either."""

    kind: Literal["parquet"]
    path: str


class ImageFolderSource(Section):
    """A folder of image files with `metadata.csv`, `metadata.jsonl` or `metadata.parquet` (column `file_name`)."""

    kind: Literal["image_folder"]
    path: str


class PhantomSource(Section):
    """The embedded cohort: procedural chest-radiograph-like images whose truth is known."""

    kind: Literal["phantom"]
    num_patients: PositiveInt = 400
    max_visits: PositiveInt = Field(6, description="Visits a patient has: 1 to this many, few having many.")
    resolution: PositiveInt = Field(64, le=2048)
    seed: int = 0


class CustomSource(Import):
    """Somebody's own reader, a `raydistill.data.sources.Source`."""

    kind: Literal["custom"]


SourceConfig = Annotated[ParquetSource | ImageFolderSource | PhantomSource | CustomSource, Field(discriminator="kind")]


class PromptConfig(Section):
    """How prompts are made from records. Prompts are data too."""

    policy: Literal["template", "free_text"] = Field(
        "template", description="`template`: from structured fields; `free_text`: the `text` column, scrubbed."
    )
    k: PositiveInt = Field(5, description="A prompt is used as it is only if at least k train patients share it.")
    age_band_years: PositiveInt = 20
    max_findings: PositiveInt = Field(2, description="Findings beyond this many are dropped from the prompt.")


class IngestConfig(Section):
    """How records become images of one size with patient-disjoint roles."""

    resolution: PositiveInt = Field(32, le=2048, description="Side of the square 8-bit grey images, in pixels.")
    calibration_share: OpenShare = Field(0.2, description="Share of patients for thresholds and tuning.")
    evaluation_share: OpenShare = Field(0.25, description="Share of patients nothing is trained or tuned on.")
    probe_share: Share = Field(0.5, description="Share of train patients with several images who give one as probe.")
    max_bad_rows: int = Field(100, ge=0, description="More quarantined rows than this stop the run.")
    max_image_pixels: PositiveInt = Field(64_000_000, description="Larger images are quarantined, undecoded.")
    prompts: PromptConfig = PromptConfig()

    @model_validator(mode="after")
    def _leaves_train(self) -> "IngestConfig":
        if self.calibration_share + self.evaluation_share >= 1:
            raise ValueError("calibration_share and evaluation_share leave no patient for train")
        return self


class DeepSpeedConfig(Section):
    """What of DeepSpeed the training loop uses."""

    zero_stage: Literal[0, 1, 2] = 1
    precision: Literal["fp32", "bf16"] = "fp32"
    gradient_clipping: PositiveFloat = 1.0


class OptimizerConfig(Section):
    """AdamW with a warm-up and a schedule from diffusers' `get_scheduler`."""

    steps: PositiveInt
    batch_size: PositiveInt = Field(description="Global batch: the sum over the workers.")
    lr: PositiveFloat
    weight_decay: float = Field(0.01, ge=0.0)
    warmup_steps: int = Field(50, ge=0)
    schedule: Literal["constant_with_warmup", "cosine", "linear"] = "cosine"
    checkpoint_every: PositiveInt = Field(200, description="Steps between two checkpoints.")


class BackboneConfig(Section):
    """A transformers backbone: built small from scratch, or read from a local folder or a hub id."""

    kind: Literal["resnet", "convnext", "vit"] = "resnet"
    width: PositiveInt = Field(24, description="Channels of the first stage when built from scratch.")
    pretrained: str | None = Field(None, description="Folder or hub id with safetensors weights; public weights only.")
    local_files_only: bool = True


class ReidConfig(Section):
    """One re-identification network: an eye."""

    embedder: Import | None = Field(
        None, description="Somebody's own `raydistill.reid.embedder.Embedder`; nothing is trained then."
    )
    backbone: BackboneConfig = BackboneConfig()
    embedding_dim: PositiveInt = 128
    images_per_patient: PositiveInt = Field(4, ge=2, description="Images of one patient in a batch.")
    optimizer: OptimizerConfig = OptimizerConfig(steps=500, batch_size=64, lr=1e-3)
    deepspeed: DeepSpeedConfig = DeepSpeedConfig(zero_stage=0)
    compute: Compute = Compute(num_workers=1)
    seed: int = 0


class Eyes(Section):
    """Three pairs of eyes, never shared: the filter's, the tuning judge's and the final auditor's."""

    filter: ReidConfig = ReidConfig(seed=1)
    judge: ReidConfig = ReidConfig(backbone=BackboneConfig(kind="vit", width=64), seed=2)
    auditor: ReidConfig = ReidConfig(
        backbone=BackboneConfig(kind="convnext"),
        optimizer=OptimizerConfig(steps=500, batch_size=64, lr=3e-3),
        seed=3,
    )

    @model_validator(mode="after")
    def _distinct(self) -> "Eyes":
        if (self.auditor.embedder or self.auditor.backbone) == (self.filter.embedder or self.filter.backbone):
            raise ValueError("auditor and filter have the same backbone: a student would be graded by its own filter")
        own = [eye.embedder.factory for eye in (self.filter, self.judge, self.auditor) if eye.embedder]
        if len(set(own)) < len(own):
            raise ValueError("two eyes are the same embedder: what one can't see the other can't find")
        if len({self.filter.seed, self.judge.seed, self.auditor.seed}) < 3:
            raise ValueError("filter, judge and auditor need three different seeds")
        return self


class DiffusionConfig(Section):
    """A Stable Diffusion folder to start from and how to train it. The student's and the teacher's are of this kind."""

    pretrained: str | None = Field(
        None, description="Folder or hub id of public weights; none builds the tiny model on the packaged public VAE."
    )
    local_files_only: bool = True
    block_out_channels: tuple[PositiveInt, ...] = Field((64, 128), min_length=2)
    layers_per_block: PositiveInt = 1
    text_hidden_size: PositiveInt = 64
    prediction_type: Literal["epsilon", "v_prediction"] = "v_prediction"
    prompt_dropout: Share = Field(0.1, description="Share of prompts left empty in training, for guidance.")
    horizontal_flip: bool = Field(False, description="Anatomy has sides; off by default.")
    ema_decay: OpenShare = 0.995
    train_text_encoder: bool = True
    optimizer: OptimizerConfig = OptimizerConfig(steps=1200, batch_size=32, lr=1e-3)
    deepspeed: DeepSpeedConfig = DeepSpeedConfig()
    compute: Compute = Compute()


class SampleConfig(Section):
    """What is asked of a model."""

    num_samples: PositiveInt = 512
    guidance_scale: float = Field(2.0, ge=1.0)
    num_inference_steps: PositiveInt = 20
    batch_size: PositiveInt = Field(32, description="Fixed shape of every batch; a tail is padded.")
    rows_per_shard: PositiveInt = 128
    compute: Compute = Compute()


class MatchConfig(Section):
    """Exact search of every sample against every gallery image."""

    top_k: PositiveInt = 5
    batch_size: PositiveInt = 128
    near_copy_max_shift: int = Field(
        2, ge=0, lt=16, description="Pixels of translation the structural measure searches."
    )
    compute: Compute = Compute()


class SelfTestConfig(Section):
    """Planted near-copies of train images, and the same treatment of people nobody trained on."""

    num_images: PositiveInt = Field(64, description="Images of each kind per treatment.")
    strengths: tuple[OpenShare, ...] = Field(
        (0.2, 0.35, 0.5), min_length=1, description="Shares of the noise schedule to return from."
    )
    num_inference_steps: PositiveInt = 20
    compute: Compute = Compute()


class TuneConfig(Section):
    """The search over filter settings."""

    num_trials: PositiveInt = 12
    target_fpir: Range = Field((0.01, 0.2), description="Range searched, log-uniform.")
    near_copy_fpir: Range = Field((0.005, 0.1), description="Range searched, log-uniform.")
    max_excess_risk: Share = Field(0.1, description="Bound on the judge's upper excess risk of what is kept.")
    min_kept_share: Share = Field(0.1, description="A setting that keeps less can't train a student.")
    max_concurrent_trials: PositiveInt = 2


class FilterConfig(Section):
    """What decides beside the thresholds."""

    policy: Import | None = Field(
        None, description="Somebody's own `raydistill.matching.policy.MatchPolicy`; none compares with the thresholds."
    )


class EvaluateConfig(Section):
    """What the final evaluation measures."""

    confidence: OpenShare = 0.95
    bootstrap: PositiveInt = Field(500, description="Resamples of patients for an interval.")
    audit_fpir: OpenShare = Field(0.05, description="Target FPIR of the auditor's threshold.")
    audit_near_copy_fpir: OpenShare = Field(0.01, description="Target FPIR of the audit's near-copy threshold.")
    membership_timesteps: tuple[OpenShare, ...] = Field((0.1, 0.25, 0.4, 0.6), min_length=1)
    membership_images: PositiveInt = Field(256, description="Members and non-members, at most.")
    probe_steps: PositiveInt = Field(300, description="Training budget of the findings classifier, equal for all.")
    metrics: dict[str, Import] = Field(
        default_factory=dict, description="Somebody's own `raydistill.metrics.custom.Metric`s, by name."
    )
    compute: Compute = Compute(num_workers=1)


class Budgets(Section):
    """What a release may cost. The verdict is `pass` only if every bound of every interval lies inside."""

    max_excess_risk: Share = Field(0.05, description="Upper bound of the student's excess risk.")
    max_near_copy_excess: Share = Field(0.02, description="Upper bound of the student's near-copies beyond chance.")
    max_closer_to_train_share: Share = Field(0.6, description="Upper bound; 0.5 when nothing is memorised.")
    max_membership_auc: Share = Field(0.6, description="Upper bound for the student.")
    min_sensitivity: Share = Field(
        0.8, description="Lower bound of the filter's self-test, over all planted copies and over the model's own."
    )
    max_false_flag_rate: Share = Field(0.2, description="Upper bound of the filter's self-test.")
    min_consistency_jaccard: Share = Field(0.0, description="Lower bound; 0 reports and does not judge.")
    max_utility_loss: Share = Field(0.1, description="Real minus student macro AUROC, at most.")
    min_auditor_tpir: Share = Field(
        0.2, description="Share of known patients' new images that the auditor must find; a blind one can't certify."
    )
    min_evaluation_patients: PositiveInt = Field(30, description="Fewer can't support any claim.")


class ReleaseConfig(Section):
    """The gate."""

    budgets: Budgets = Budgets()
    release_anyway: bool = Field(False, description="Fill RUN/release whatever the verdict; the cards then say so.")
    allow_private_weights: bool = Field(
        False, description="Accept a student that starts from weights tuned on real data."
    )
    licence: str = Field("other", description="Licence of the bundle, as a Hugging Face licence tag.")


class ClusterConfig(Section):
    """The local Ray that is started when no cluster is reachable."""

    num_cpus: PositiveInt = Field(4, description="Logical CPUs of the local Ray; actors claim fractions of them.")
    object_store_mb: PositiveInt = 300
    health_check_interval_s: PositiveFloat = Field(
        0.5, description="Ray Train's poll; a checkpoint counts once polled."
    )
    max_failures: int = Field(3, ge=0, description="Restarts of a training worker group.")


class Config(Section):
    """A whole run."""

    name: str = Field("run", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    seed: int = 0
    source: SourceConfig = PhantomSource(kind="phantom")
    ingest: IngestConfig = IngestConfig()
    eyes: Eyes = Eyes()
    teacher: DiffusionConfig = DiffusionConfig()
    student: DiffusionConfig = DiffusionConfig()
    teacher_samples: SampleConfig = SampleConfig()
    student_samples: SampleConfig = SampleConfig()
    match: MatchConfig = MatchConfig()
    selftest: SelfTestConfig = SelfTestConfig()
    tune: TuneConfig = TuneConfig()
    filter: FilterConfig = FilterConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    release: ReleaseConfig = ReleaseConfig()
    cluster: ClusterConfig = ClusterConfig()
