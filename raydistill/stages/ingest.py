"""Read a cohort, clean it, give every image its role and its prompt, and write the records."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import cached_property
from typing import Any, ClassVar

import pyarrow as pa

from raydistill.core.columns import RECORDS, ROLES
from raydistill.core.config import Config, IngestConfig
from raydistill.core.errors import InputError
from raydistill.core.progress import Progress
from raydistill.core.section import Section
from raydistill.core.sources import Archive, SourceConfig
from raydistill.core.store import Store
from raydistill.data.prompts import Description, PromptTable, describe
from raydistill.data.pseudonyms import key_digest, pseudonymised, read_key
from raydistill.data.records import Cleaned, Record, clean
from raydistill.data.rows import RawRow
from raydistill.data.scrub import scrub
from raydistill.data.sources import Source, open_source
from raydistill.data.splits import assign_roles
from raydistill.data.vocabulary import BASE_PROMPT
from raydistill.matching.deduplication import deduplicate
from raydistill.stages.base import Context, Outcome, Stage

ROWS_PER_SHARD = 2048
ROWS_PER_GROUP = 128
"""What a worker decodes at a time where images are embedded or compared."""
PROGRESS_ROWS = 50
PLACES = ("path", "images", "reports", "patients", "pseudonym_key")
"""Settings of sources that say where something lies, and not what is in it."""


class IngestNodeConfig(Section):
    """Where the cohort is, and how it becomes records."""

    source: SourceConfig
    ingest: IngestConfig = IngestConfig()


class Ingest(Stage):
    """No inputs. Output: a folder a role, `quarantine/`, `prompts/`, `sharing/`, `findings/`, `cohort/cohort.json`."""

    version: ClassVar[int] = 10
    needs_ray: ClassVar[bool] = False
    config: IngestNodeConfig

    @cached_property
    def source(self) -> Source:
        """The reader of the cohort."""
        return open_source(self.config.source)

    @cached_property
    def fingerprint(self) -> dict[str, Any]:
        """What the cohort holds, wherever it lies."""
        return self.source.fingerprint()

    def key_config(self) -> dict[str, Any]:
        """Put the source's content into the key, in place of its address."""
        section = self.config.source
        source = {name: value for name, value in section.model_dump(mode="json").items() if name not in PLACES}
        key = _own_key(section)
        pseudonyms = {"pseudonyms": key_digest(key)} if key else {}
        return {**super().key_config(), "source": source, "fingerprint": self.fingerprint, **pseudonyms}

    def check(self, config: Config) -> None:
        """Say whether the cohort is there and has the columns it needs."""
        _own_key(self.config.source)
        self.source.check()

    def run(self, context: Context) -> Outcome:
        """Clean, drop duplicates, split, describe, write."""
        config = self.config.ingest
        self.source.check()
        read = named(self.source.rows(), self.config.source, context.private_key)
        cleaned = clean(_counted(read, context.progress), config)
        cleaned, duplicates = deduplicate(cleaned, config.near_duplicate_similarity)
        roles = _roles(cleaned, config, context.seed)
        descriptions, scrubbed = _describe(cleaned.records, config)
        train = [i for i, role in enumerate(roles) if role == "train"]
        patients = [cleaned.records[i].patient_id for i in train]
        table = PromptTable.fit(patients, [descriptions[i] for i in train], config.prompts)
        prompts = [table.prompt_for(described) for described in descriptions]
        for role in ROLES:
            rows = [i for i, own in enumerate(roles) if own == role]
            _write_records(context.out / role, [cleaned.records[i] for i in rows], [prompts[i] for i in rows])
        context.out.write_table("quarantine/part-00000.parquet", cleaned.quarantine)
        context.out.write_table("prompts/part-00000.parquet", table.frequencies())
        context.out.write_table("sharing/part-00000.parquet", table.sharing())
        findings = _findings(cleaned, train, config.prompts.k)
        context.out.write_json("findings/findings.json", findings)
        facts = {**_cohort(cleaned, roles), "prompts": _prompt_facts(table, config), "scrubbed": scrubbed}
        facts["duplicates"] = asdict(duplicates)
        facts["notes"] = duplicates.notes() + _notes(cleaned, roles, findings["findings"], config.prompts.policy)
        context.out.write_json("cohort/cohort.json", facts)
        return Outcome(counts=_counts(cleaned, roles), facts=facts)


def named(rows: Iterator[RawRow], source: SourceConfig, private_key: bytes) -> Iterator[RawRow]:
    """Yield a source's rows under the names that may be written.

    Args:
        rows: as they are read.
        source: says whether ids are hashed, and with which key.
        private_key: hashes them where the source names no key of its own.
    """
    if not isinstance(source, Archive) or not source.pseudonymise:
        return rows
    return pseudonymised(rows, _own_key(source) or private_key)


def _own_key(source: SourceConfig) -> bytes | None:
    return read_key(source.pseudonym_key) if isinstance(source, Archive) and source.pseudonym_key else None


def _counted(rows: Iterator[RawRow], progress: Progress) -> Iterator[RawRow]:
    done = 0
    for done, row in enumerate(rows, start=1):
        yield row
        if done % PROGRESS_ROWS == 0:
            progress(done, 0, "rows")
    progress(done, done, "rows")


def _roles(cleaned: Cleaned, config: IngestConfig, seed: int) -> list[str]:
    records = cleaned.records
    if not records:
        raise InputError(_nothing_usable(cleaned))
    return assign_roles(
        [record.patient_id for record in records],
        [record.image_id for record in records],
        [record.role for record in records],
        config,
        seed,
    )


def _nothing_usable(cleaned: Cleaned) -> str:
    if not cleaned.rows:
        return "the source has no rows: check source.path"
    reasons = ", ".join(f"{count} {reason}" for reason, count in cleaned.reasons().items())
    first = cleaned.quarantine.slice(0, 1).to_pylist()[0]
    return (
        f"none of the source's {cleaned.rows} rows can be used: {reasons}. "
        f"First: row {first['row']}: {first['reason']} ({first['detail']}). Mend the source"
    )


def _describe(records: Sequence[Record], config: IngestConfig) -> tuple[list[Description], dict[str, int]]:
    """Describe every record; with free text also say how much was taken out of it."""
    removed: Counter[str] = Counter()
    descriptions = []
    for record in records:
        text = None
        if config.prompts.policy == "free_text" and record.text:
            text, counts = scrub(record.text)
            removed.update(counts)
        years = config.prompts.age_band_years
        fields = (record.labels, record.view, record.sex, record.age)
        descriptions.append(describe(*fields, age_band_years=years, text=text))
    return descriptions, dict(sorted(removed.items()))


def _notes(cleaned: Cleaned, roles: Sequence[str], findings: Sequence[str], policy: str) -> list[str]:
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
    if not findings:
        notes.append("no finding is shared by enough train patients: utility can't be measured")
    return notes


def _write_records(folder: Store, records: Sequence[Record], prompts: Sequence[str]) -> None:
    """Write shards, at least one: a role without images is an empty table and not a missing one."""
    for shard, start in enumerate(range(0, max(1, len(records)), ROWS_PER_SHARD)):
        part = slice(start, start + ROWS_PER_SHARD)
        rows = [{**vars(record), "prompt": prompt} for record, prompt in zip(records[part], prompts[part], strict=True)]
        table = pa.Table.from_pylist(rows, schema=RECORDS)
        folder.write_table(f"part-{shard:05d}.parquet", table, ROWS_PER_GROUP)


def _findings(cleaned: Cleaned, train: Sequence[int], k: int) -> dict[str, Any]:
    """Name the findings that at least k train patients have: a rarer word of the source could name a patient."""
    patients: dict[str, set[str]] = defaultdict(set)
    for record in (cleaned.records[i] for i in train):
        for name in record.labels or ():
            patients[name].add(record.patient_id)
    shared = sorted(name for name, having in patients.items() if len(having) >= k)
    return {"findings": shared, "too_rare": len(patients) - len(shared), "k": k}


def _counts(cleaned: Cleaned, roles: Sequence[str]) -> dict[str, int]:
    quarantined = cleaned.quarantine.num_rows
    images = Counter(roles)
    return {
        "rows": cleaned.rows,
        "records": len(cleaned.records),
        "quarantined": quarantined,
        **{role: images[role] for role in ROLES},
    }


def _cohort(cleaned: Cleaned, roles: Sequence[str]) -> dict[str, Any]:
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


def _prompt_facts(table: PromptTable, config: IngestConfig) -> dict[str, Any]:
    images = sum(table.counts.values())
    return {
        "policy": config.prompts.policy,
        "k": config.prompts.k,
        "fewest_patients_sharing": table.reached_k(),
        "distinct": len(table.counts),
        "images_with_base_prompt": table.counts.get(BASE_PROMPT, 0),
        "images": images,
    }
