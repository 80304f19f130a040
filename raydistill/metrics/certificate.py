"""What a certificate is: the form of `certificate.json`, for machines that read it."""

from datetime import date
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from raydistill.metrics.result import Verdict

SCHEMA_URI = "https://json-schema.org/draft/2020-12/schema"


SCHEMA = 4
"""Of the form. 3 had no `roles_given`; 2 had no `decisions`; 1 had no `settings.prompts`, could name folders of a
machine, and called samples "as released"."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class InputOf(_Part):
    """A folder that the student's training read."""

    node: str
    folder: str
    key: str
    digest: str = Field(description="SHA-256 over the files of the folder.")


class Evidence(_Part):
    """A node of the run: the key is known before it runs, the digest after."""

    key: str
    digest: str


class Student(_Part):
    """What is certified."""

    key: str
    digest: str
    inputs: dict[str, InputOf]
    started_from: dict[str, Any] | None = Field(description="Names and hashes of the weights that training began with.")
    touched_real_data: list[str] = Field(description="Ways in which it saw real images other than by kept samples.")


class Role(_Part):
    """How many real people and pictures of one role there were; outside the house few are told in words."""

    images: int | str
    patients: int | str


class Certificate(_Part):
    """The decision about a student, with what it rests on."""

    schema_: int = Field(alias="schema", ge=SCHEMA)
    decided: date = Field(description="The day of the decision, UTC.")
    verdict: Verdict
    reasons: list[str]
    student: Student
    cohort: dict[str, Role] = Field(description="On whom it was measured: real images and patients, by role.")
    roles_given: bool = Field(
        description="Whether the source said who is in which role, and was believed; else raydistill dealt patients by "
        "chance."
    )
    samples: dict[str, int] = Field(
        description="The student's images that were judged, all before the filter: as asked for by default, and asked "
        "harder. Those that are released are the former less what the filter drops."
    )
    filter: dict[str, Any] | None = Field(description="Thresholds and the rates they were set at.")
    budgets: dict[str, float]
    settings: dict[str, dict[str, Any]] = Field(
        description="How the evidence was made: evaluation, self-test, attack, samples; prompts: at least `prompts.k` "
        "patients share each."
    )
    evaluations: int = Field(
        ge=0,
        description="Students whose evaluation lies in this run folder; of several the one that passes is a chosen "
        "one. Another run folder begins anew, and what was deleted isn't counted.",
    )
    decisions: int = Field(
        ge=0,
        description="Decisions that lie in this run folder, this one among them: more than evaluations, where the "
        "budgets were changed after looking. Of several the one that passes is a chosen one. Another run folder begins "
        "anew, and what was deleted isn't counted.",
    )
    evidence: dict[str, Evidence] = Field(description="Every node that the decision read.")
    limits: str


def json_schema() -> dict[str, Any]:
    """Return the JSON schema of `certificate.json`, as it lies in docs/certificate.schema.json."""
    return {"$schema": SCHEMA_URI, **Certificate.model_json_schema(by_alias=True)}
