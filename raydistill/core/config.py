"""The configuration: typed, frozen, strict about names, resolved once and written into the run folder.

Every default that changes a privacy number stands here with its reason. Hardware is data: nothing looks at the
driver's devices. What only says where a stage runs (`section.NOT_IN_KEY`) isn't part of an artifact's key.
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PositiveFloat, PositiveInt, model_validator

from raydistill.core.auditing import AuditedConfig
from raydistill.core.generation import AttackConfig, MatchConfig, RequestConfig, SampleConfig
from raydistill.core.licence import spelled
from raydistill.core.searching import ShortStudent, TuneConfig
from raydistill.core.section import Compute, Import, OpenShare, Section, Share
from raydistill.core.sources import PhantomSource, SourceConfig
from raydistill.core.training import BackboneConfig, DiffusionConfig, Eyes, TrackingConfig


class PromptConfig(Section):
    """How prompts are made from records. Prompts are data too."""

    policy: Literal["template", "free_text"] = Field(
        "template", description="`template`: from structured fields; `free_text`: the `text` column, scrubbed."
    )
    k: PositiveInt = Field(
        5, description="A prompt is used as it is only if at least k train patients share it; under 5 nothing passes."
    )
    age_band_years: PositiveInt = 20
    max_findings: PositiveInt = Field(2, description="Findings beyond this many are dropped from the prompt.")
    scrubber: Literal["rules", "presidio"] = Field(
        "rules", description="Free text is scrubbed by `rules`; with `presidio` by Presidio too (extra `text`)."
    )
    spacy_model: str | None = Field(
        None, description="spaCy model, by name or folder, by which Presidio finds names and places; null: it doesn't."
    )

    @model_validator(mode="after")
    def _is_used(self) -> "PromptConfig":
        if self.spacy_model and self.scrubber != "presidio":
            raise ValueError("spacy_model is read with scrubber=presidio alone")
        return self


class IngestConfig(Section):
    """How records become images of one size with patient-disjoint roles."""

    resolution: PositiveInt = Field(32, le=2048, description="Side of the square 8-bit grey images, in pixels.")
    calibration_share: OpenShare = Field(0.2, description="Share of patients for thresholds and tuning.")
    evaluation_share: OpenShare = Field(0.25, description="Share of patients nothing is trained or tuned on.")
    probe_share: Share = Field(0.5, description="Share of train patients with several images who give one as probe.")
    max_train_images_per_patient: int | None = Field(
        10,
        ge=2,
        description="More of a train patient become probes: a model knows best whom it saw most. null: no bound",
    )
    max_bad_rows: int = Field(100, ge=0, description="More bad rows than this stop the run; duplicates aren't bad.")
    near_duplicate_similarity: OpenShare | None = Field(
        0.997,
        description="An image this similar to an earlier one is quarantined; null: none is. At 0.997 nearly all copies "
        "of NIH radiographs are found, and no other visit is taken for one (docs/results.md).",
    )
    max_image_pixels: PositiveInt = Field(64_000_000, description="Larger images are quarantined, undecoded.")
    compute: Compute | None = Field(
        None, description="Workers that read and decode, for large archives; threads of the driver do where it is null."
    )
    prompts: PromptConfig = PromptConfig()

    @model_validator(mode="after")
    def _leaves_train(self) -> "IngestConfig":
        if self.calibration_share + self.evaluation_share >= 1:
            raise ValueError("calibration_share and evaluation_share leave no patient for train")
        return self


class SelfTestConfig(Section):
    """Planted near-copies of train images, and the same treatment of people nobody trained on."""

    num_images: PositiveInt = Field(64, description="Images of each kind per treatment, of as many patients as can be.")
    strengths: tuple[OpenShare, ...] = Field(
        (0.1, 0.2, 0.35, 0.5), min_length=1, description="Shares of the noise schedule to return from."
    )
    num_inference_steps: PositiveInt = 20
    batch_size: PositiveInt = Field(32, description="Images that are noised and denoised at a time.")
    compute: Compute = Compute()


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
    shadow_share: Share = Field(
        0.5,
        description="Steps, for each of the teacher's, of a shadow model trained on calibration images: it tells the "
        "membership attack how difficult each image is. 0 trains none.",
    )
    membership_images: PositiveInt = Field(
        1000, description="Members and non-members, at most; a TPR at 0.1 % FPR takes a thousand."
    )
    max_images: PositiveInt = Field(
        10_000,
        description="Images of a set that utility, fidelity and membership look at, drawn at random from more; the "
        "re-identification risk is that of all.",
    )
    probe_steps: PositiveInt = Field(300, description="Training budget of a findings classifier, equal for all.")
    networks: PositiveInt = Field(
        3,
        description="Findings classifiers that each set of images teaches, with the same seeds: a single one has luck, "
        "and nobody knows how much.",
    )
    encoder: BackboneConfig | None = Field(
        None, description="A public encoder (`pretrained`), in whose eyes fidelity is measured too, as `encoder_…`."
    )
    metrics: dict[str, Import] = Field(
        default_factory=dict, description="Somebody's own `raydistill.metrics.custom.Metric`s, by name."
    )
    compute: Compute = Compute(num_workers=1)

    @model_validator(mode="after")
    def _works(self) -> "EvaluateConfig":
        if self.encoder is not None and self.encoder.pretrained is None:
            raise ValueError("encoder.pretrained: which public weights? A network that learned nothing sees nothing")
        return self


class Budgets(Section):
    """What a release may cost. The verdict is `pass` only if every bound of every interval lies inside."""

    max_excess_risk: Share = Field(0.05, description="Upper bound of the student's excess risk.")
    max_leak_rate: Share = Field(
        0.05, description="Upper bound of the same, corrected for what the auditor overlooks and imagines."
    )
    max_near_copy_excess: Share = Field(0.02, description="Upper bound of the student's near-copies beyond chance.")
    max_copied_excess: Share = Field(
        0.01, description="Upper bound of the student's certain copies; if any are proven, however few, that fails."
    )
    max_closer_to_train_share: Share = Field(0.6, description="Upper bound; 0.5 when nothing is memorised.")
    max_membership_auc: Share = Field(0.6, description="Upper bound for the student.")
    max_membership_tpr: Share = Field(
        0.1, description="Members found at 1 % false positives; if more are proven, however uncertain, that fails."
    )
    min_sensitivity: Share = Field(
        0.9,
        description="Lower bound of the filter's self-test, over all planted copies, over the model's own, and over "
        "those of them that another network recognises; 0 reports, and certifies nothing.",
    )
    max_false_flag_rate: Share = Field(0.1, description="Upper bound of the filter's self-test.")
    min_consistency_jaccard: Share = Field(
        0.8,
        description="Lower bound, of planted pictures with another network, and of the networks without the structural "
        "measure that they share; 0 reports, and certifies nothing.",
    )
    max_utility_loss: Share = Field(0.1, description="Real minus student macro AUROC, at most.")
    min_auditor_tpir: Share = Field(
        0.2, description="Share of known patients' new images that the auditor must find; a blind one can't certify."
    )
    min_auditor_sensitivity: Share = Field(
        0.8,
        description="Share of the self-test's planted copies that the audit must find, by any of its measures; also of "
        "those alone that the model made.",
    )
    min_certain_sensitivity: Share = Field(
        0.5,
        description="Share of the copies that weren't made by a model which the audit must find certain: an image of a "
        "train patient among calibration images under another id would hide it.",
    )
    min_evaluation_patients: PositiveInt = Field(
        100, description="Fewer can't support any claim: a rate of 1 % false positives takes a hundred people."
    )


class EvidenceConfig(Section):
    """How the evidence is made that a verdict stands on; part of the certificate."""

    evaluate: EvaluateConfig
    selftest: SelfTestConfig
    attack: AttackConfig
    student_samples: SampleConfig
    match: MatchConfig = MatchConfig()
    eyes: Eyes = Eyes()
    filter: FilterConfig = FilterConfig()


class ReleaseConfig(Section):
    """The gate."""

    budgets: Budgets = Budgets()
    release_anyway: bool = Field(False, description="Fill RUN/release whatever the verdict; the cards then say so.")
    allow_private_weights: bool = Field(
        False, description="Accept a student that starts from weights tuned on real data."
    )
    signing_key: str | None = Field(
        None,
        description="PEM file of an Ed25519 private key that signs certificates and releases; keep it outside the run.",
    )
    licence: Annotated[str, AfterValidator(spelled)] = Field(
        "other", description="Licence of the bundle by its SPDX id, such as CC-BY-4.0; `other`: as licence_text says."
    )
    licence_text: str | None = Field(
        None,
        description="UTF-8 text file with the licence's words, for the bundle's LICENSE; that of `other` grants "
        "nothing without one.",
    )
    more_formats: tuple[Literal["webdataset", "image_folder"], ...] = Field(
        (), description="Forms that the released images leave in besides Parquet."
    )


class ClusterConfig(Section):
    """The local Ray that is started when no cluster is reachable, and what a cluster that is joined can become."""

    num_cpus: PositiveInt = Field(4, description="Logical CPUs of the local Ray; actors claim fractions of them.")
    object_store_mb: PositiveInt = 300
    grows: bool = Field(
        False,
        description="Nodes are added to a joined cluster by hand: wait for what it doesn't have. An autoscaler of "
        "Ray's is found without this.",
    )
    autoscaling_config: str | None = Field(
        None,
        description="The launcher's YAML file, which says what the cluster can grow to; by default the one that "
        "`ray up` leaves on the head node.",
    )
    health_check_interval_s: PositiveFloat = Field(
        0.5, description="Ray Train's poll; a checkpoint counts once polled."
    )
    max_failures: int = Field(3, ge=0, description="Restarts of a training worker group.")
    resize_s: PositiveFloat = Field(
        60.0, description="Seconds between two looks whether an elastic training has room for more workers."
    )


Preset = Literal["laptop", "one_gpu", "8xh100", "spot_sampling"]


class Config(Section):
    """A whole run."""

    name: str = Field("run", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    preset: Preset | None = Field(
        None, description="Where the stages run, all of them; what else is said of that goes before it."
    )
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
    attack: AttackConfig = AttackConfig()
    tune: TuneConfig = TuneConfig()
    filter: FilterConfig = FilterConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    release: ReleaseConfig = ReleaseConfig()
    audited: AuditedConfig | None = Field(
        None, description="Audit what somebody else made, and train nothing; every other section is as usual."
    )
    tracking: TrackingConfig = TrackingConfig()
    cluster: ClusterConfig = ClusterConfig()

    @model_validator(mode="after")
    def _works(self) -> "Config":
        if self.student_samples.target_kept:
            raise ValueError(
                "student_samples.target_kept: no student is trained on these; it is teacher_samples' to set"
            )
        if self.tune.students and self.student_samples.precision == "fp16" and not self.student.compute.num_gpus:
            raise ValueError(
                "student_samples.precision fp16: tune.students sample where they are trained, and student.compute has "
                "no num_gpus"
            )
        if self.teacher_samples.ways and self.tune.space.ways(self.teacher_samples):
            raise ValueError("teacher_samples.ways: tune.space.guidance_scales and steps say what is taken turns in")
        if self.tune.space.prompt_patients and self.tune.space.prompt_patients[1] <= self.ingest.prompts.k:
            raise ValueError(
                "tune.space.prompt_patients: every prompt is shared by ingest.prompts.k anyway; go beyond it"
            )
        if self.tune.space.prompt_patients and self.teacher_samples.requests.table:
            raise ValueError("tune.space.prompt_patients: of a table's prompts nobody knows who shares them")
        return self

    @property
    def teacher_samples_in_turn(self) -> SampleConfig:
        """The teacher's samples, in all ways among which the search chooses."""
        ways = self.tune.space.ways(self.teacher_samples)
        return self.teacher_samples.model_copy(update={"ways": ways}) if ways else self.teacher_samples

    @property
    def evidence(self) -> EvidenceConfig:
        """How the evidence is made."""
        parts = {name: getattr(self, name) for name in EvidenceConfig.model_fields}
        return EvidenceConfig(**parts)

    @property
    def shadow(self) -> DiffusionConfig:
        """How the shadow model is trained: as the teacher, for a share of its steps."""
        return _shortened(self.teacher, self.evaluate.shadow_share, self.teacher.optimizer.warmup)

    def short_student(self, start_seed: int) -> ShortStudent | None:
        """How the students of the search's last rung are trained and asked; None where there are none."""
        share = self.tune.student_share
        if not self.tune.students:
            return None
        training = _shortened(self.student, share, round(share * self.student.optimizer.warmup))
        compute = training.compute.model_copy(update={"num_workers": 1})
        asked = {"num_samples": self.tune.student_samples, "requests": RequestConfig(), "compiled": False}
        return ShortStudent(
            start_seed=start_seed,
            training=training.model_copy(update={"compute": compute}),
            samples=self.student_samples.model_copy(update=asked | {"compute": compute}),
        )


def _shortened(config: DiffusionConfig, share: float, warmup: int) -> DiffusionConfig:
    """Return a training for a share of its steps, with so many to warm up if they are enough for that."""
    steps = max(1, round(share * config.optimizer.steps))
    optimizer = config.optimizer.model_copy(update={"steps": steps, "warmup_steps": min(warmup, steps - 1)})
    return config.model_copy(update={"optimizer": optimizer, "preview_every": 0})
