"""Read a cohort, clean it, give every image its role and its prompt, and write the records."""

from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property
from typing import Any, ClassVar

import pyarrow as pa

from raydistill.core.columns import RECORDS, ROLES
from raydistill.core.config import Config, IngestConfig
from raydistill.core.section import Compute, Section
from raydistill.core.sources import SourceConfig
from raydistill.core.store import Store
from raydistill.data.presidio import finder_of, versions_of
from raydistill.data.prompts import PromptTable
from raydistill.data.pseudonyms import key_digest
from raydistill.data.records import Record
from raydistill.data.sources import Source, open_source
from raydistill.data.vocabulary import BASE_PROMPT
from raydistill.stages.base import Context, Outcome, Stage
from raydistill.stages.cohort import (
    counts_of,
    described,
    facts_of,
    notes_on,
    own_key,
    read_cohort,
    roles_of,
    shared_findings,
)
from raydistill.stages.reading import rows_of

ROWS_PER_SHARD = 2048
ROWS_PER_GROUP = 128
"""What a worker decodes at a time where images are embedded or compared."""
PLACES = ("path", "images", "reports", "patients", "pseudonym_key")
"""Settings of sources that say where something lies, and not what is in it."""


class IngestNodeConfig(Section):
    """Where the cohort is, and how it becomes records."""

    source: SourceConfig
    ingest: IngestConfig = IngestConfig()


class Ingest(Stage):
    """No inputs. Output: a folder a role, `quarantine/`, `prompts/`, `sharing/`, `findings/`, `cohort/cohort.json`."""

    version: ClassVar[int] = 15
    config: IngestNodeConfig

    @property
    def compute(self) -> Compute | None:
        """What the stage asks of the cluster; nothing where threads of the driver read."""
        return self.config.ingest.compute

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
        key = own_key(section)
        pseudonyms = {"pseudonyms": key_digest(key)} if key else {}
        found_by = {"found_by": versions} if (versions := versions_of(self.config.ingest.prompts)) else {}
        return {**super().key_config(), "source": source, "fingerprint": self.fingerprint, **pseudonyms, **found_by}

    def check(self, config: Config) -> None:
        """Say whether the cohort is there and has the columns it needs, and texts can be scrubbed as asked."""
        own_key(self.config.source)
        finder_of(self.config.ingest.prompts)
        self.source.check()

    def run(self, context: Context) -> Outcome:
        """Clean, drop duplicates, split, describe, write."""
        config = self.config.ingest
        self.source.check()
        cleaned, duplicates = read_cohort(
            rows_of(self.source, config), self.config.source, config, context.private_key, context.progress
        )
        roles = roles_of(cleaned, config, context.seed)
        descriptions, scrubbed = described(cleaned.records, config.prompts)
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
        findings = shared_findings(cleaned, train, config.prompts.k)
        context.out.write_json("findings/findings.json", findings)
        facts = {**facts_of(cleaned, roles), "prompts": _prompt_facts(table, config), "scrubbed": scrubbed}
        facts["duplicates"] = asdict(duplicates)
        facts["notes"] = duplicates.notes() + notes_on(cleaned, roles, findings["findings"], config.prompts.policy)
        context.out.write_json("cohort/cohort.json", facts)
        return Outcome(counts=counts_of(cleaned, roles), facts=facts)


def _write_records(folder: Store, records: Sequence[Record], prompts: Sequence[str]) -> None:
    """Write shards, at least one: a role without images is an empty table and not a missing one."""
    for shard, start in enumerate(range(0, max(1, len(records)), ROWS_PER_SHARD)):
        part = slice(start, start + ROWS_PER_SHARD)
        both = zip(records[part], prompts[part], strict=True)
        rows = [{**vars(record), "image": record.image, "prompt": prompt} for record, prompt in both]
        table = pa.Table.from_pylist(rows, schema=RECORDS)
        folder.write_table(f"part-{shard:05d}.parquet", table, ROWS_PER_GROUP)


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
