"""Running a wired pipeline over a run folder: what is cached, what isn't, and what broke.

The manifest, written last, is the only completion marker; so the same command again does nothing but say so, and
after a kill at any moment it continues with what has no manifest yet.
"""

import importlib.metadata
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import yaml
from pydantic import ValidationError

from raydistill import __version__
from raydistill.core.config import Config
from raydistill.core.errors import InputError, LineageError, NothingToDo
from raydistill.core.loading import parse
from raydistill.core.manifest import SCHEMA_VERSION, SUMMARY, InputEntry, Manifest, artifact_key, digest_files
from raydistill.core.progress import Progress, Standings, silent, unseen
from raydistill.core.secret import private_key, private_seed, run_secret
from raydistill.core.section import Compute
from raydistill.core.store import Store, readable
from raydistill.stages.base import Context, Outcome, Stage

SOFTWARE = ("torch", "ray", "deepspeed", "diffusers", "transformers", "numpy", "pyarrow", "optuna")

WORK = ".work"
"""Folder of a run with the scratch of nodes that aren't finished; it may hold latents of real images."""

LOGS = "logs"
"""Folder of a run with what people watch: TensorBoard's files, sample grids. No part of any artifact."""

State = Literal["cached", "to run", "waiting"]


@dataclass(frozen=True)
class Planned:
    """One line of a plan: a node, whether its artifact is there, its key once that can be known, what it reads."""

    node: str
    stage: str
    state: State
    key: str | None
    inputs: dict[str, str]


class Runner:
    """One run folder and one wired pipeline.

    Args:
        run: the run folder.
        config: the resolved configuration.
        stages: nodes, each after its inputs.
        known: keys taken as given, by node: of a finished run, where the source needn't be there any more.
    """

    def __init__(
        self, run: Store, config: Config, stages: Sequence[Stage], known: Mapping[str, str] | None = None
    ) -> None:
        """Bind a pipeline to a folder; nothing is read or written yet."""
        self.run, self.config, self.stages, self.known = run, config, stages, known or {}
        self.manifests: dict[str, Manifest] = {}

    def is_of_this(self) -> bool:
        """Whether the run folder is of this very configuration."""
        return self.run.exists("config.yaml") and self.run.read_bytes("config.yaml") == self._resolved()

    def _resolved(self) -> bytes:
        resolved = {"schema": SCHEMA_VERSION, **self.config.model_dump(mode="json")}
        return yaml.safe_dump(resolved, sort_keys=False, allow_unicode=True).encode()

    def open(self) -> None:
        """Make the run folder this configuration's; the summary of another goes, which has other keys.

        Raises:
            InputError: when the folder holds something else, or a run of another schema.
        """
        check_folder(self.run, self.config)
        try:
            if not self.is_of_this():
                self.run.delete(SUMMARY)
            self.run.write_bytes("config.yaml", self._resolved())
        except OSError as error:
            raise InputError(f"{self.run.uri} can't be written: {error}; choose another --run-dir") from error

    def plan(self) -> list[Planned]:
        """Say of every node whether its artifact is there, without running anything."""
        lines = []
        self.manifests = {}
        for stage in self.stages:
            inputs = {name: f"{view.node.node}/{view.folder}".rstrip("/") for name, view in stage.inputs.items()}
            if not all(view.node.node in self.manifests for view in stage.inputs.values()):
                lines.append(Planned(stage.node, type(stage).__name__, "waiting", None, inputs))
                continue
            key = self._key(stage)
            manifest = self.load(stage.node, key)
            state: State = "cached" if manifest else "to run"
            lines.append(Planned(stage.node, type(stage).__name__, state, key, inputs))
        return lines

    def is_cached(self, stage: Stage) -> bool:
        """Whether a node whose inputs are complete needs no run."""
        return self.load(stage.node, self._key(stage)) is not None

    def execute(
        self, stage: Stage, progress: Progress = silent, standings: Standings = unseen
    ) -> tuple[Manifest, bool]:
        """Bring one node up to date.

        Args:
            stage: a node whose inputs are complete.
            progress: told how far the stage is.
            standings: shown what a search has found so far.

        Returns:
            Its manifest, and whether it was cached.
        """
        key = self._key(stage)
        manifest = self.load(stage.node, key)
        if manifest:
            return manifest, True
        context = self.context(stage, progress, standings)
        out = context.out
        if not stage.resumable:
            out.delete()
        is_resumed = any(store.files() for store in (out, context.work, context.logs) if store)
        started, clock = datetime.now(UTC), time.monotonic()
        outcome = _run(stage, context)
        out.delete_partial()
        files = out.fingerprint()
        manifest = Manifest(
            node=stage.node,
            stage=type(stage).__name__,
            version=stage.version,
            key=key,
            digest=digest_files(files),
            config=stage.key_config(),
            inputs=self._entries(stage),
            files=files,
            counts=outcome.counts,
            facts=outcome.facts,
            software=software(),
            started=started.isoformat(timespec="seconds"),
            seconds=round(time.monotonic() - clock, 2),
            compute=stage.compute.model_dump(mode="json") if isinstance(stage.compute, Compute) else None,
            resumed=is_resumed,
        )
        out.write_bytes("manifest.json", manifest.model_dump_json(indent=1).encode())
        self.manifests[stage.node] = manifest
        context.work.delete()
        return manifest, False

    def context(self, stage: Stage, progress: Progress = silent, standings: Standings = unseen) -> Context:
        """Return what a stage whose inputs are complete runs with."""
        key, sources = self._key(stage), {name: self.manifests[v.node.node] for name, v in stage.inputs.items()}
        folders = {name: self.artifact(source.node, source.key) for name, source in sources.items()}
        secret = run_secret(self.run)
        return Context(
            inputs={name: folders[name] / view.folder for name, view in stage.inputs.items()},
            out=self.artifact(stage.node, key),
            work=self.run / WORK / stage.node / key,
            seed=stage.seed,
            private_seed=private_seed(secret, stage.node),
            private_key=private_key(secret, stage.node),
            manifests=sources,
            logs=self.run / LOGS / stage.node / key,
            tracking=self.config.tracking,
            cluster=self.config.cluster,
            progress=progress,
            standings=standings,
        )

    def verify(self) -> Iterator[tuple[str, int]]:
        """Re-hash every artifact of the chain, first to last.

        Yields:
            Each sound node's name and its number of files.

        Raises:
            LineageError: at the first broken link, naming the node and the file.
        """
        for stage in self.stages:
            node = stage.node
            key = self._key(stage)
            manifest = self.load(stage.node, key)
            if manifest is None:
                raise LineageError(f"{node}: no artifact with key {key}; the run isn't complete, or a file is missing")
            _compare(node, manifest, self.artifact(node, key))
            if _views(manifest.inputs) != _views(self._entries(stage)):
                raise LineageError(f"{node}: its inputs aren't the artifacts that are there now")
            yield node, len(manifest.files)

    def artifact(self, node: str, key: str) -> Store:
        """Return the folder of an artifact."""
        return self.run / node / key

    def load(self, node: str, key: str) -> Manifest | None:
        """Read a node's manifest, None when there is no complete artifact with this key."""
        out = self.artifact(node, key)
        if not out.exists("manifest.json"):
            return None
        try:
            manifest = Manifest.model_validate_json(out.read_bytes("manifest.json"))
        except ValidationError as error:
            raise LineageError(
                f"{node}: {out.uri}/manifest.json is damaged; delete that folder to make it again"
            ) from error
        self.manifests[node] = manifest
        return manifest

    def _entries(self, stage: Stage) -> dict[str, InputEntry]:
        entries = {}
        for name, view in stage.inputs.items():
            source = self.manifests[view.node.node]
            digest = source.view_digest(view.folder)
            entries[name] = InputEntry(node=source.node, key=source.key, folder=view.folder, digest=digest)
        return entries

    def _key(self, stage: Stage) -> str:
        if stage.node in self.known:
            return self.known[stage.node]
        digests: Mapping[str, str] = {name: entry.digest for name, entry in self._entries(stage).items()}
        return artifact_key(type(stage).__name__, stage.version, stage.key_config(), digests)


def check_folder(run: Store, config: Config | None = None) -> None:
    """Refuse a folder that isn't empty and isn't a run of this schema.

    Args:
        run: the folder.
        config: what is to be written there; an audit isn't written into a run, nor a run into an audit.

    Raises:
        InputError: naming the folder and what is in the way.
    """
    with readable(run.uri):
        if run.is_file():
            raise InputError(f"{run.uri} is a file: choose another --run-dir")
        if not run.exists("config.yaml"):
            if run.files():
                raise InputError(
                    f"{run.uri} isn't empty and isn't a run folder (no config.yaml): choose another --run-dir"
                )
            return
        there = parse(run.read_bytes("config.yaml"), f"{run.uri}/config.yaml")
    schema, was_audit = there.get("schema"), bool(there.get("audited"))
    if schema != SCHEMA_VERSION:
        raise InputError(
            f"{run.uri} belongs to a run of schema {schema}, this is {SCHEMA_VERSION}: choose another --run-dir"
        )
    if config and was_audit is not (config.audited is not None):
        kinds = ("an audit", "a run") if was_audit else ("a run", "an audit")
        raise InputError(
            f"{run.uri} holds {kinds[0]}, and {kinds[1]} would take its report, certificate and configuration away: "
            "choose another --run-dir"
        )


def software() -> dict[str, str]:
    """Versions of what a result depends on."""
    import faiss

    # Its builds for CPUs and for GPUs are packages of different names.
    versions = {name: importlib.metadata.version(name) for name in SOFTWARE} | {"faiss": faiss.__version__}
    return {"raydistill": __version__, "python": platform.python_version(), **versions}


def _run(stage: Stage, context: Context) -> Outcome:
    """Run a stage, or skip it where its inputs leave it nothing to do."""
    missing = [manifest.skipped for manifest in context.manifests.values() if manifest.skipped]
    try:
        if missing and not stage.accepts_skipped:
            raise NothingToDo(missing[0])
        return stage.run(context)
    except NothingToDo as nothing:
        context.out.delete()
        return Outcome(facts={"skipped": str(nothing)})


def _views(inputs: Mapping[str, InputEntry]) -> dict[str, tuple[str, str, str]]:
    """What was read, by name; the same content under another key is the same."""
    return {name: (entry.node, entry.folder, entry.digest) for name, entry in inputs.items()}


def _compare(node: str, manifest: Manifest, out: Store) -> None:
    """Hold an artifact's files against its manifest."""
    there = {entry.path: entry for entry in out.fingerprint()}
    for entry in manifest.files:
        if entry.path not in there:
            raise LineageError(f"{node}: {entry.path} is missing from {out.uri}")
        if there.pop(entry.path) != entry:
            raise LineageError(f"{node}: {entry.path} in {out.uri} isn't what its manifest says")
    if there:
        raise LineageError(f"{node}: {min(there)} in {out.uri} isn't in its manifest")
    if digest_files(manifest.files) != manifest.digest:
        raise LineageError(f"{node}: the manifest's digest doesn't fit its files")
