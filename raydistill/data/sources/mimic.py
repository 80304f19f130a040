"""MIMIC-CXR-JPG as it lies on disk. Source: Johnson et al., arXiv 1901.07042, and PhysioNet's page of version 2.1.0."""

import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import Any

from raydistill.core.errors import InputError
from raydistill.core.sources import MimicSource
from raydistill.core.store import Store, readable
from raydistill.data.reports import caption
from raydistill.data.rows import RawRow
from raydistill.data.sources.archive import TableArchive, labelled, named_like, require_columns
from raydistill.data.sources.chexpert import FINDINGS
from raydistill.data.sources.files import digest
from raydistill.data.sources.tables import whole_lines

ENDS = (".csv.gz", ".csv")
MAX_REPORT_BYTES = 1 << 20


class MimicReader(TableArchive):
    """The images of the metadata table, with the findings of their study, and its report's impression.

    What is known of studies and of patients is kept in memory: a line each.
    """

    kind = "mimic_cxr_jpg"
    needed = ("dicom_id", "subject_id", "study_id", "ViewPosition")

    def __init__(self, config: MimicSource) -> None:
        """Take addresses and policies; nothing is read."""
        super().__init__(config.path)
        self.config = config
        self._read_report: Callable[[str], str | None] = lambda name: None

    def tables(self) -> list[str]:
        """Return the table of images."""
        return named_like(self.store, "mimic-cxr-", [f"-metadata{end}" for end in ENDS], "MIMIC-CXR-JPG")[-1:]

    def check(self) -> None:
        """Look at the headers of all tables, and whether there are reports where some are named."""
        super().check()
        require_columns(self.store, self._labels, ("subject_id", "study_id", *FINDINGS), self.kind)
        if self.config.patients:
            folder, name = beside(self.config.patients)
            require_columns(folder, name, ("subject_id", "gender", "anchor_age", "anchor_year"), "MIMIC-IV")
        with self._reports():
            pass

    def named(self) -> Iterator[tuple[RawRow, str | None]]:
        """Yield image after image, in the order of the table."""
        with self._reports() as self._read_report:
            yield from super().named()

    def describe(self, values: Mapping[str, str]) -> dict[str, Any]:
        """Name the file by patient, study and image."""
        subject, study, image = values["subject_id"], values["study_id"], values["dicom_id"]
        place = f"p{subject[:2]}/p{subject}/s{study}"
        marks = self._marks.get(study)
        return {
            "file_name": f"files/{place}/{image}.jpg",
            "image_id": image,
            "patient_id": subject,
            "study_id": study,
            "labels": labelled(marks, FINDINGS, self.config.uncertain) if marks else None,
            "view": values["ViewPosition"],
            "text": caption(self._read_report(f"files/{place}.txt") or ""),
            **self._person(subject, values.get("StudyDate", "")),
        }

    def fingerprint(self) -> dict[str, Any]:
        """Digest the archive, and the reports and the table of patients that lie elsewhere."""
        others = {name: getattr(self.config, name) for name in ("reports", "patients")}
        opened = {name: Store.open(place) for name, place in others.items() if place}
        return super().fingerprint() | {name: digest(at, [*_all(at)])["digest"] for name, at in opened.items()}

    @property
    def _labels(self) -> str:
        ends = [f"-{self.config.labeler}{end}" for end in ENDS]
        return named_like(self.store, "mimic-cxr-", ends, "MIMIC-CXR-JPG")[-1]

    @cached_property
    def _marks(self) -> dict[str, dict[str, str]]:
        """Marks by study: of findings that the report speaks of, and no more."""
        lines = whole_lines(self.store, self._labels)
        return {line["study_id"]: {name: line[name] for name in FINDINGS if line[name]} for line in lines}

    @cached_property
    def _people(self) -> dict[str, tuple[str, int]]:
        """Sex, and the year of birth, in MIMIC-IV's shifted years."""
        if not self.config.patients:
            return {}
        folder, name = beside(self.config.patients)
        try:
            lines = whole_lines(folder, name)
            return {x["subject_id"]: (x["gender"], int(x["anchor_year"]) - int(x["anchor_age"])) for x in lines}
        except ValueError as error:
            raise InputError(f"source.patients {(folder / name).uri}: anchor_year or anchor_age: {error}") from error

    def _person(self, subject: str, date: str) -> dict[str, Any]:
        sex, born = self._people.get(subject, (None, None))
        return {"sex": sex, "age": int(date[:4]) - born if born is not None and date[:4].isdecimal() else None}

    @contextmanager
    def _reports(self) -> Iterator[Callable[[str], str | None]]:
        """Open the reports, if there are any: a function from the path of one to its text."""
        if not self.config.reports:
            yield lambda name: None
            return
        at = Store.open(self.config.reports)
        if not at.is_file():
            if not at.exists():
                raise InputError(f"source.reports {at.uri}: no such file or folder")
            yield lambda name: at.read_bytes(name).decode(errors="replace") if at.exists(name) else None
            return
        with _readable_zip(at.uri), at.filesystem.open_input_file(at.path) as file, zipfile.ZipFile(file) as archive:
            yield lambda name: _unzipped(archive, name)


@contextmanager
def _readable_zip(where: str) -> Iterator[None]:
    try:
        with readable(where):
            yield
    # A member that is encrypted is a RuntimeError, one that ends too soon an EOFError without a word.
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise InputError(f"{where}: can't be read: {str(error) or type(error).__name__}") from error


def _unzipped(archive: zipfile.ZipFile, name: str) -> str | None:
    try:
        with archive.open(name) as file:
            return file.read(MAX_REPORT_BYTES).decode(errors="replace")
    except KeyError:
        return None


def beside(path: str) -> tuple[Store, str]:
    """Split the address of a file into its folder and its name."""
    at = Store.open(path)
    return Store(at.filesystem, at.path.rpartition("/")[0], at.uri.rpartition("/")[0]), at.path.rpartition("/")[2]


def _all(at: Store) -> list[str]:
    return [at.path] if at.is_file() else [f"{at.path}/{name}" for name in at.files()]
