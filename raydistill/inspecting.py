"""What a source holds and what it can support, before anything is trained or written."""

import secrets
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict

from raydistill.core.columns import ROLES
from raydistill.core.config import Config
from raydistill.core.errors import InputError
from raydistill.core.progress import Progress, silent
from raydistill.core.seeds import derive_seed
from raydistill.data.presidio import finder_of
from raydistill.data.pseudonyms import MIN_KEY_BYTES
from raydistill.data.records import Cleaned, Record
from raydistill.data.rows import RawRow
from raydistill.data.sources import open_source
from raydistill.data.vocabulary import NO_FINDING
from raydistill.matching.calibration import supported_fpir
from raydistill.stages.cohort import described, facts_of, notes_on, read_cohort, roles_of, shared_findings

EXAMPLES = 3
"""Rows that are shown of each reason."""

NOT_KNOWN = "not known"


class Example(BaseModel):
    """A row that can't be used.

    Attributes:
        row: its number in the source.
        origin: where in the source it lies; it may hold an id, so it is shown and never kept.
        detail: what is wrong with it.
    """

    row: int
    origin: str | None
    detail: str


class Inspection(BaseModel):
    """What there is.

    Attributes:
        kind: of the source.
        rows: that were read; images and what was quarantined come to as many.
        images: that can be used.
        patients: whose they are.
        images_per_patient: `fewest`, `median`, `most`, and how many patients have `several`.
        labels: images by finding; one may have several.
        views: images by view.
        sexes: images by sex.
        ages: `lowest`, `median` and `highest` in years, and of how many images they are `known`.
        texts: images with text.
        scrubbed: of the texts that a run would read, what it would take out, as `stages.cohort.described` counts it.
        quarantined: rows by reason.
        examples: the first of each reason.
        duplicates: as `matching.deduplication.Duplicates` counts them.
        under_two_patients: rows whose picture is another patient's, equal or nearly.
        roles: patients and images by role, as a run with the same seed splits them; None where it can't.
        supported_fpir: the smallest that the calibration patients support; None without any.
        shared_findings: those that enough train patients have: utility is measured on them.
        refusals: why a run would stop.
        notes: what a user may not expect.
    """

    model_config = ConfigDict(frozen=True)

    kind: str
    rows: int
    images: int
    patients: int
    images_per_patient: dict[str, float]
    labels: dict[str, int]
    views: dict[str, int]
    sexes: dict[str, int]
    ages: dict[str, float]
    texts: int
    scrubbed: dict[str, Any]
    quarantined: dict[str, int]
    examples: dict[str, list[Example]]
    duplicates: dict[str, Any]
    under_two_patients: int
    roles: dict[str, dict[str, int]] | None
    supported_fpir: float | None
    shared_findings: list[str]
    refusals: list[str]
    notes: list[str]


def inspect(config: Config, progress: Progress = silent) -> Inspection:
    """Read a configuration's source as ingest would, and write nothing.

    Args:
        config: its source, and how it would be cleaned and split. However many rows are bad, all are read.
        progress: is told how many rows were read.

    Raises:
        InputError: when the source isn't there, or isn't what its kind says.
    """
    source = open_source(config.source)
    source.check()
    finder_of(config.ingest.prompts)
    origins: dict[int, str | None] = {}
    rows = _remembering(source.rows(), origins)
    unbounded = config.ingest.model_copy(update={"max_bad_rows": 2**63})
    key = secrets.token_bytes(MIN_KEY_BYTES)
    cleaned, duplicates = read_cohort(rows, config.source, unbounded, key, progress)
    split = _split(cleaned, config)
    return Inspection(
        kind=config.source.kind,
        rows=cleaned.rows,
        **_held(cleaned.records),
        scrubbed=described(cleaned.records, config.ingest.prompts)[1],
        quarantined=cleaned.reasons(),
        examples=_examples(cleaned, origins),
        duplicates=asdict(duplicates),
        under_two_patients=duplicates.exact_across_patients + duplicates.near_across_patients,
        roles=split.roles,
        supported_fpir=split.supported_fpir,
        shared_findings=split.findings,
        refusals=_too_many(cleaned, config) + split.refusals,
        notes=duplicates.notes() + split.notes + _unsupported(split, config),
    )


@dataclass
class _Split:
    """How a run would split a cohort, or why it would not."""

    roles: dict[str, dict[str, int]] | None = None
    supported_fpir: float | None = None
    findings: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def _split(cleaned: Cleaned, config: Config) -> _Split:
    try:
        roles = roles_of(cleaned, config.ingest, derive_seed(config.seed, "ingest"))
    except InputError as error:
        return _Split(refusals=[str(error)])
    facts = facts_of(cleaned, roles)
    train = [i for i, role in enumerate(roles) if role == "train"]
    findings = shared_findings(cleaned, train, config.ingest.prompts.k)["findings"]
    return _Split(
        roles={role: {"patients": facts["patients"][role], "images": facts["images"][role]} for role in ROLES},
        supported_fpir=supported_fpir(facts["patients"]["calibration"]),
        findings=findings,
        notes=notes_on(cleaned, roles, findings, config.ingest.prompts.policy),
    )


def _remembering(rows: Iterable[RawRow], origins: dict[int, str | None]) -> Iterator[RawRow]:
    for raw in rows:
        origins[raw.row] = raw.origin
        yield raw


def _held(records: Sequence[Record]) -> dict[str, Any]:
    images = Counter(record.patient_id for record in records)
    labels: Counter[str] = Counter()
    for record in records:
        labels.update([NOT_KNOWN] if record.labels is None else record.labels or [NO_FINDING])
    ages = [record.age for record in records if record.age is not None]
    several = sum(count > 1 for count in images.values())
    return {
        "images": len(records),
        "patients": len(images),
        "images_per_patient": {**_spread(list(images.values()), "fewest", "most"), "several": several},
        "labels": dict(labels.most_common()),
        "views": dict(Counter(record.view or NOT_KNOWN for record in records).most_common()),
        "sexes": dict(Counter(record.sex or NOT_KNOWN for record in records).most_common()),
        "ages": {**_spread(ages, "lowest", "highest"), "known": len(ages)},
        "texts": sum(bool(record.text) for record in records),
    }


def _spread(values: Sequence[float], lowest: str, highest: str) -> dict[str, float]:
    return {lowest: min(values), "median": statistics.median(values), highest: max(values)} if values else {}


def _examples(cleaned: Cleaned, origins: dict[int, str | None]) -> dict[str, list[Example]]:
    examples: dict[str, list[Example]] = {reason: [] for reason in cleaned.reasons()}
    for entry in cleaned.quarantine.to_pylist():
        if len(shown := examples[entry["reason"]]) < EXAMPLES:
            origin = origins.get(entry["row"])
            detail = entry["detail"].removeprefix(f"{origin}: ")
            shown.append(Example(row=entry["row"], origin=origin, detail=detail))
    return examples


def _too_many(cleaned: Cleaned, config: Config) -> list[str]:
    most = config.ingest.max_bad_rows
    if cleaned.bad <= most:
        return []
    return [f"{cleaned.bad} rows can't be used, more than ingest.max_bad_rows = {most}: mend them or raise the limit"]


def _unsupported(split: _Split, config: Config) -> list[str]:
    """Say what is asked of the cohort that it can't support."""
    if split.roles is None or split.supported_fpir is None:
        return []
    asked = {
        "tune.space.target_fpir": config.tune.space.target_fpir[0],
        "tune.space.near_copy_fpir": config.tune.space.near_copy_fpir[0],
        "evaluate.audit_fpir": config.evaluate.audit_fpir,
        "evaluate.audit_near_copy_fpir": config.evaluate.audit_near_copy_fpir,
    }
    notes = [
        f"{name} asks for an FPIR of {fpir:g}; {split.roles['calibration']['patients']} calibration patients support "
        f"{split.supported_fpir:.3g}, which is used instead"
        for name, fpir in asked.items()
        if fpir < split.supported_fpir
    ]
    least, there = config.release.budgets.min_evaluation_patients, split.roles["evaluation"]["patients"]
    if there < least:
        notes.append(
            f"{there} evaluation patients, and release.budgets.min_evaluation_patients is {least}: "
            "no verdict will be pass"
        )
    return notes
