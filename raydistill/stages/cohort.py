"""A source's rows as a cohort: clean, without duplicates, with roles; and what is to be said of it."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from raydistill.core.columns import ROLES
from raydistill.core.config import IngestConfig, PromptConfig
from raydistill.core.errors import InputError
from raydistill.core.progress import Progress
from raydistill.core.sources import Archive, SourceConfig
from raydistill.data.presidio import finder_of
from raydistill.data.prompts import Description, describe
from raydistill.data.pseudonyms import pseudonymised, read_key
from raydistill.data.records import Cleaned, Record, clean
from raydistill.data.reports import seen
from raydistill.data.rows import RawRow
from raydistill.data.scrub import scrub
from raydistill.data.splits import assign_roles
from raydistill.matching.deduplication import Duplicates, deduplicate

PROGRESS_ROWS = 50


def own_key(source: SourceConfig) -> bytes | None:
    """Return the secret that a source's ids are hashed with, where it names one.

    Raises:
        InputError: when it can't be read, or is too short.
    """
    return read_key(source.pseudonym_key) if isinstance(source, Archive) and source.pseudonym_key else None


def read_cohort(
    rows: Iterator[RawRow], source: SourceConfig, config: IngestConfig, private_key: bytes, progress: Progress
) -> tuple[Cleaned, Duplicates]:
    """Read a source under the names that may be written, clean it and take out what is there twice.

    Args:
        rows: of the source.
        source: says whether ids are hashed, and with which key.
        config: says what is bad, and what is a duplicate.
        private_key: hashes ids where the source names no key of its own.
        progress: is told how many rows were read.

    Raises:
        InputError: past `max_bad_rows`.
    """
    if isinstance(source, Archive) and source.pseudonymise:
        rows = pseudonymised(rows, own_key(source) or private_key)
    return deduplicate(clean(_counted(rows, progress), config), config.near_duplicate_similarity)


def roles_of(cleaned: Cleaned, config: IngestConfig, seed: int) -> list[str]:
    """Give every record its role.

    Raises:
        InputError: when there is no record, or `assign_roles` refuses them.
    """
    records = cleaned.records
    if not records:
        raise InputError(_nothing_usable(cleaned))
    patients, images = [record.patient_id for record in records], [record.image_id for record in records]
    studies, given = [record.study_index for record in records], [record.role for record in records]
    return assign_roles(patients, studies, images, given, config, seed)


def described(records: Sequence[Record], config: PromptConfig) -> tuple[list[Description], dict[str, Any]]:
    """Describe every record, by its text too where the policy is `free_text`.

    Returns:
        Descriptions in the records' order, and of the texts that were read: `texts`, how many; `changed`, out of how
        many something was taken; `removed`, how often what by kind (`data.scrub.PATTERNS`, `place`), and `section` for
        parts of reports that aren't read. Nothing that was taken is in it.
    """
    finder, removed, texts, changed, descriptions = finder_of(config), Counter[str](), 0, 0, []
    for record in records:
        text = None
        if config.policy == "free_text" and record.text:
            said, left_out = seen(record.text)
            text, counts = scrub(said or "", finder)
            texts, changed = texts + 1, changed + bool(counts)
            removed.update(counts + Counter(section=left_out))
        fields = (record.labels, record.view, record.sex, record.age)
        descriptions.append(describe(*fields, age_band_years=config.age_band_years, text=text or None))
    return descriptions, {"texts": texts, "changed": changed, "removed": dict(sorted(removed.items()))}


def counts_of(cleaned: Cleaned, roles: Sequence[str]) -> dict[str, int]:
    """Count rows, records, what was quarantined, and the images of each role."""
    images = Counter(roles)
    counts = {"rows": cleaned.rows, "records": len(cleaned.records), "quarantined": cleaned.quarantine.num_rows}
    return counts | {role: images[role] for role in ROLES}


def facts_of(cleaned: Cleaned, roles: Sequence[str]) -> dict[str, Any]:
    """Say who is in the cohort: patients and images by role, findings by role, and what was quarantined why."""
    findings: dict[str, Counter[str]] = {role: Counter() for role in ROLES}
    patients: dict[str, Counter[str]] = {role: Counter() for role in ROLES}
    for record, role in zip(cleaned.records, roles, strict=True):
        patients[role][record.patient_id] += 1
        findings[role].update(record.labels or ())
    names = sorted(set().union(*findings.values()))
    return {
        "images": {role: patients[role].total() for role in ROLES},
        "patients": {role: len(patients[role]) for role in ROLES},
        "patients_with_several_images": {role: sum(n > 1 for n in patients[role].values()) for role in ROLES},
        "findings": names,
        "findings_by_role": {role: {name: findings[role][name] for name in names} for role in ROLES},
        "roles_given": any(record.role is not None for record in cleaned.records),
        "quarantined": cleaned.reasons(),
    }


def shared_findings(cleaned: Cleaned, train: Sequence[int], k: int) -> dict[str, Any]:
    """Name the findings that at least k train patients have: a rarer word of the source could name a patient."""
    patients: dict[str, set[str]] = defaultdict(set)
    for record in (cleaned.records[i] for i in train):
        for name in record.labels or ():
            patients[name].add(record.patient_id)
    shared = sorted(name for name, having in patients.items() if len(having) >= k)
    return {"findings": shared, "too_rare": len(patients) - len(shared), "k": k}


def notes_on(cleaned: Cleaned, roles: Sequence[str], findings: Sequence[str], policy: str) -> list[str]:
    """Say what a user may not expect."""
    said = [bool(r.labels is not None or r.view or r.sex or r.age is not None) for r in cleaned.records]
    notes = []
    if policy == "template" and not any(said):
        notes.append(
            "the source has text alone, which ingest.prompts.policy=template leaves unread: every prompt is the base "
            "prompt; free_text would use it, scrubbed and k-anonymous"
        )
    if policy == "free_text" and not any(record.text for record in cleaned.records):
        notes.append("ingest.prompts.policy=free_text, and no row has text: prompts are made from the other fields")
    if "probe" not in roles:
        notes.append(
            "no probe: whether the auditor sees can't be shown, so the verdict won't be pass; give withheld images of "
            "train patients the role probe"
        )
    if known := _known_studies(cleaned, roles):
        notes.append(
            f"{known:,} probes are of studies that a model sees other images of, and easier to recognise than a later "
            "visit: tpir and auditor_sensitivity say rather too much"
        )
    if not findings:
        notes.append("no finding is shared by enough train patients: utility can't be measured")
    return notes


def _known_studies(cleaned: Cleaned, roles: Sequence[str]) -> int:
    """Count the probes of whose study another image is in train."""
    of = [(role, (record.patient_id, record.study_index)) for record, role in zip(cleaned.records, roles, strict=True)]
    seen = {study for role, study in of if role == "train"}
    return sum(role == "probe" and study in seen for role, study in of)


def _counted(rows: Iterator[RawRow], progress: Progress) -> Iterator[RawRow]:
    done = 0
    for done, row in enumerate(rows, start=1):
        yield row
        if done % PROGRESS_ROWS == 0:
            progress(done, 0, "rows")
    progress(done, done, "rows")


def _nothing_usable(cleaned: Cleaned) -> str:
    if not cleaned.rows:
        return "the source has no rows: check source.path"
    reasons = ", ".join(f"{count} {reason}" for reason, count in cleaned.reasons().items())
    first = cleaned.quarantine.slice(0, 1).to_pylist()[0]
    return (
        f"none of the source's {cleaned.rows} rows can be used: {reasons}. "
        f"First: row {first['row']}: {first['reason']} ({first['detail']}). Mend the source"
    )
