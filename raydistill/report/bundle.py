"""`RUN/release/`: only what may leave, filled only when the verdict is `pass` or the configuration says so anyway.

`SHA256SUMS` is written last: a release without it isn't one. `student/` is a release of its own, with the documents
that the weights must not travel without, so that it can be handed on alone.
"""

import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from raydistill.core.errors import LineageError
from raydistill.core.licence import Licence, read_licence
from raydistill.core.manifest import is_under
from raydistill.core.signing import SIGNATURE, SUMS
from raydistill.core.store import Store
from raydistill.report.cards import data_card, data_set_name, description, model_card
from raydistill.report.certified import CERTIFICATE, certify, withdraw_certificate
from raydistill.report.checksums import hashed, is_signed_by, read_sums, write_sums
from raydistill.report.croissant import CROISSANT, croissant
from raydistill.report.dataset import DATA, Packed, released_samples
from raydistill.report.evidence import Artifacts, may_leave, read_judged
from raydistill.report.formats import IMAGE_FOLDER, WEBDATASET, image_folder, webdataset
from raydistill.report.html import render

FOLDER, STUDENT, LICENSE = "release", "student", "LICENSE"


def publish(artifacts: Artifacts, summary: dict[str, Any]) -> None:
    """Write the certificate, and fill RUN/release or make sure that there is none; a current one isn't touched.

    Args:
        artifacts: a finished run, or one that may not release.
        summary: its summary, with the verdict.

    Raises:
        LineageError: when a file that would be released isn't what its manifest says; there is no release then.
    """
    try:
        certificate = certify(artifacts, summary)
        if certificate and may_leave(artifacts, summary):
            told = artifacts.config.release
            bundle = Bundle(artifacts, summary, certificate, read_licence(told.licence, told.licence_text))
            if not bundle.is_current():
                bundle.fill()
        else:
            _empty(artifacts.run / FOLDER)
    except LineageError:
        withdraw(artifacts.run)
        raise


def withdraw(run: Store) -> None:
    """Delete a run's release and its certificate."""
    _empty(run / FOLDER)
    withdraw_certificate(run)


def _empty(release: Store) -> None:
    """Delete a release, its checksums first: killed in between, what is left isn't a release."""
    for folder in (release, release / STUDENT):
        folder.delete(SUMS)
    release.delete()


@dataclass(frozen=True)
class Bundle:
    """What a run releases.

    Args:
        artifacts: the run.
        summary: its summary, with the verdict.
        certificate: as it leaves.
        licence: of all of it.
    """

    artifacts: Artifacts
    summary: Mapping[str, Any]
    certificate: bytes
    licence: Licence

    @property
    def release(self) -> Store:
        """The folder that is filled."""
        return self.artifacts.run / FOLDER

    def is_current(self) -> bool:
        """Whether the folder already holds this, finished: what changes with anything else is compared by content."""
        release, key = self.release, self.artifacts.config.release.signing_key
        if not all(folder.exists(SUMS) and is_signed_by(folder, key) for folder in (release, release / STUDENT)):
            return False
        try:
            sums = read_sums(release)
            documents = self._documents(Packed.of(release, sums))
        except (LineageError, pa.ArrowException, OSError):
            return False
        formats = {form for form in (WEBDATASET, IMAGE_FOLDER) if any(is_under(path, form) for path in sums)}
        same = all(sums.get(path) == hashed(content) for path, content in documents.items())
        whole = {*sums, SUMS} == set(release.files()) - {SIGNATURE}
        return same and whole and formats == set(self.artifacts.config.release.more_formats)

    def fill(self) -> None:
        """Write it, one file at a time in memory."""
        release, key = self.release, self.artifacts.config.release.signing_key
        _empty(release)
        sums: dict[str, str] = {}

        def write(path: str, content: bytes) -> None:
            release.write_bytes(path, content)
            sums[path] = hashed(content)

        for path, content in chain(self._student(), self._data()):
            write(path, content)
        for path, content in self._documents(Packed.of(release, sums)).items():
            write(path, content)
        write("report.html", render(self.artifacts, self.summary, public=True).encode())
        own = {path.removeprefix(f"{STUDENT}/"): sums[path] for path in sums if is_under(path, STUDENT)}
        write_sums(release / STUDENT, own, key)
        for name in (SUMS, SIGNATURE) if key else (SUMS,):
            sums[f"{STUDENT}/{name}"] = hashed((release / STUDENT).read_bytes(name))
        write_sums(release, sums, key)

    def _documents(self, packed: Packed) -> dict[str, bytes]:
        """Make the small files, some of which change whenever anything of the release does."""
        told = self.artifacts, self.summary, json.loads(self.certificate), self.licence
        both = {CERTIFICATE: self.certificate, LICENSE: self.licence.text.encode()}
        said = data_set_name(self.artifacts), description(self.artifacts, self.summary), told[2]["decided"]
        return {
            **both,
            **{f"{STUDENT}/{path}": content for path, content in both.items()},
            "README.md": data_card(*told, packed).encode(),
            CROISSANT: croissant(*said, self.licence, packed),
            f"{STUDENT}/README.md": model_card(*told).encode(),
        }

    def _student(self) -> Iterator[tuple[str, bytes]]:
        for path in self._listed("student", "model"):
            yield f"{STUDENT}/{path.removeprefix('model/')}", read_judged(self.artifacts, "student", path)

    def _data(self) -> Iterator[tuple[str, bytes]]:
        formats = self.artifacts.config.release.more_formats
        for number, (path, samples) in enumerate(self._samples()):
            buffer = io.BytesIO()
            pq.write_table(samples, buffer, compression="zstd")
            yield f"{DATA}/{path.removeprefix('samples/')}", buffer.getvalue()
            if WEBDATASET in formats:
                yield webdataset(number, samples)
        if IMAGE_FOLDER in formats:
            yield from image_folder(samples for _, samples in self._samples())

    def _samples(self) -> Iterator[tuple[str, pa.Table]]:
        """Yield what leaves of each of the student's shards, with the shard's path."""
        judged = [self._table("student_verdicts", path) for path in self._listed("student_verdicts", "verdicts")]
        verdicts = pa.concat_tables(judged)
        for path in self._listed("student_samples", "samples"):
            yield path, released_samples(self._table("student_samples", path), verdicts)

    def _listed(self, node: str, folder: str) -> list[str]:
        return [entry.path for entry in self.artifacts.manifests[node].files if is_under(entry.path, folder)]

    def _table(self, node: str, path: str) -> pa.Table:
        return pq.read_table(io.BytesIO(read_judged(self.artifacts, node, path)))
