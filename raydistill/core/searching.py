"""The configuration of the search over filter settings: what it may set, how it looks, and what decides."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, model_validator

from raydistill.core.generation import SampleConfig
from raydistill.core.section import CountRange, Range, Section, Share, ShareRange
from raydistill.core.training import DiffusionConfig


class SearchSpace(Section):
    """What the search may set. A range is searched; a single number is what it is."""

    target_fpir: Range = Field((0.01, 0.05), description="Of the identity threshold; log-uniform.")
    near_copy_fpir: Range = Field(
        (0.05, 0.05),
        description="Of the near-copy threshold; log-uniform. Lower ones miss what the teacher makes of train images.",
    )
    patient_quota: CountRange | None = Field(
        None, description="Kept samples that may share a nearest patient, the least similar first; null: any number."
    )
    balance: ShareRange = Field(
        (0.0, 0.0), description="How far groups of the same findings come down to the median group: 1 all the way."
    )
    prompt_patients: CountRange | None = Field(
        None,
        description="Train patients who must share a sample's prompt; ingest.prompts.k do anyway. The prompt that says "
        "nothing always passes.",
    )
    guidance_scales: tuple[Annotated[float, Field(ge=1.0)], ...] = Field(
        (),
        description="The teacher's samples take turns in these, and those of one are kept; with "
        "teacher_samples.target_kept more are made with that. None: teacher_samples.guidance_scale.",
    )
    steps: tuple[Annotated[int, Field(ge=1, le=1000)], ...] = Field(
        (), description="The same with the solver's steps. None: teacher_samples.num_inference_steps."
    )

    def ways(self, usual: SampleConfig) -> tuple[tuple[float, int], ...]:
        """Return the ways that the teacher's samples take turns in; none where there is nothing to choose."""
        if not self.guidance_scales and not self.steps:
            return ()
        scales, steps = self.guidance_scales or (usual.guidance_scale,), self.steps or (usual.num_inference_steps,)
        return tuple((scale, count) for scale in scales for count in steps)


class TuneConfig(Section):
    """The search over filter settings."""

    num_trials: PositiveInt = 32
    algorithm: Literal["tpe", "nsga2", "random", "grid"] = Field(
        "tpe", description="tpe and nsga2 learn from what was tried, and of which bounds it broke."
    )
    goal: Literal["utility", "pareto"] = Field(
        "utility",
        description="pareto: also less risk and more samples; the most useful setting on the front of these is taken.",
    )
    space: SearchSpace = SearchSpace()
    candidates: int = Field(
        8,
        ge=0,
        description="Of the best settings so many are looked at by networks as well (evaluate.probe_steps each), one "
        "more for the better half in every rung, two for the last two; 0: the linear probe decides.",
    )
    agreement: int = Field(
        8,
        ge=0,
        description="Settings, 5 or more, drawn by chance from those tried, whether they keep the bounds or not, that "
        "a network looks at too, for rank_agreement alone: nothing is chosen by them. A candidate among them costs "
        "nothing more; 0: none.",
    )
    students: int = Field(
        0,
        ge=0,
        description="Of the settings that the networks rank best so many, 2 or more, get a short student each, trained "
        "by one worker of student.compute; that one is chosen from whose student's samples a network learns best, or "
        "of those within one standard error of it the one with the least risk.",
    )
    student_share: Share = Field(0.1, gt=0.0, description="Steps of a short student, for each of the student's.")
    student_samples: PositiveInt = Field(512, description="Images that each short student makes.")
    max_reidentification_rate: Share = Field(
        0.1,
        description="Bound on the share of what is kept that the judge takes for a train patient, upper; of strangers' "
        "images it takes evaluate.audit_fpir.",
    )
    max_near_copy_rate: Share = Field(
        0.1,
        description="Bound on the share of what is kept that looks like a copy at evaluate.audit_near_copy_fpir, "
        "upper. The filter measures the same, so only a near_copy_fpir below that one, or a few samples, break it.",
    )
    min_kept_share: Share = Field(0.1, description="A setting that keeps less can't train a student.")
    trials_per_batch: PositiveInt = Field(
        8,
        description="Trials suggested together, on what is known then: of tpe and nsga2 no more run at a time, however "
        "large the cluster. Of larger batches they learn more seldom.",
    )
    max_samples: PositiveInt = Field(
        10_000,
        description="Samples the search looks at, drawn at random from more; quotas and balance count all of them.",
    )
    rule_seeds: PositiveInt = Field(
        3,
        description="Classifiers trained afterwards for the search's setting and each simple rule beside it.",
    )

    @model_validator(mode="after")
    def _works(self) -> "TuneConfig":
        if self.students == 1:
            raise ValueError("students: a single student has nothing to be compared with; ask for 2 or more, or for 0")
        if 0 < self.agreement < 5:
            raise ValueError(
                "agreement: of fewer than 5 settings no order can be compared; ask for 5 or more, or for 0"
            )
        listed = max(1, len(self.space.guidance_scales)) * max(1, len(self.space.steps))
        if self.algorithm == "grid" and listed > self.num_trials:
            raise ValueError(
                f"num_trials: a grid of guidance_scales and steps alone has {listed} points; ask for as many"
            )
        return self


class ShortStudent(Section):
    """The search's last rung: a student of few steps.

    `start_seed` is that of the node which makes the student's start; one worker does what `training` and `samples` say.
    """

    start_seed: int
    training: DiffusionConfig
    samples: SampleConfig
