"""PadChest as it lies on disk. Source: Bustos et al., arXiv 1901.07441, and the columns that its download describes."""

import ast
from collections.abc import Mapping
from typing import Any

from raydistill.core.sources import PadchestSource
from raydistill.data.records import LEFT_OUT
from raydistill.data.rows import Unusable
from raydistill.data.sources.archive import TableArchive, named_like

VIEWS = {"PA": "pa", "L": "lateral", "AP": "ap", "AP_horizontal": "ap"}
"""Column Projection; of the others COSTAL is of ribs, and EXCLUDE of no use."""

SEXES = {"M": "M", "F": "F"}
"""The others say nothing: `O`, and `nan` where there was none."""

NORMAL = {"normal": "No Finding"}
UNSURE = {"suboptimal study", "unchanged"}
"""Labels that name no finding."""


class PadchestReader(TableArchive):
    """The one table, and PNG files of 16 bits in folders by number. Reports are Spanish, stemmed and unpunctuated."""

    kind = "padchest"
    needed = (
        *("ImageID", "ImageDir", "StudyDate_DICOM", "StudyID", "PatientID", "PatientBirth", "PatientSex_DICOM"),
        *("Projection", "Report", "Labels"),
    )

    def __init__(self, config: PadchestSource) -> None:
        """Take the address, and whether images lie in folders; nothing is read."""
        super().__init__(config.path)
        self.folders = config.folders

    def tables(self) -> list[str]:
        """Return the one table; of two versions the later."""
        return named_like(self.store, "PADCHEST_", [".csv.gz", ".csv"], "PadChest")[-1:]

    def describe(self, values: Mapping[str, str]) -> dict[str, Any]:
        """The age is the year of the study less that of birth: up to a year too high."""
        name = values["ImageID"]
        if values["Projection"] == "EXCLUDE":
            raise Unusable(LEFT_OUT, "Projection says that the image is to be excluded")
        return {
            "file_name": f"{_number(values['ImageDir'])}/{name}" if self.folders else name,
            "image_id": name,
            "patient_id": values["PatientID"],
            "study_id": values["StudyID"],
            "labels": _labels(values["Labels"]),
            "view": VIEWS.get(values["Projection"]),
            "sex": SEXES.get(values["PatientSex_DICOM"]),
            "age": _age(values["PatientBirth"], values["StudyDate_DICOM"]),
            "text": values["Report"],
        }


def _number(cell: str) -> str:
    """Write a folder's number as it is called, whether or not the table was saved with decimals."""
    return cell.removesuffix(".0")


def _labels(cell: str) -> list[str] | None:
    """Read a Python list of words, some with spaces around them; the same finding at several places once."""
    if cell.strip() in ("", "nan"):
        return None
    try:
        words = ast.literal_eval(cell)
        if not isinstance(words, list):
            raise TypeError
        stripped = [word.strip().lower() for word in words]
    except (ValueError, SyntaxError, TypeError, AttributeError, MemoryError, RecursionError):
        raise Unusable("bad_field", f"Labels is {cell[:60]!r}, not a list of words") from None
    if "exclude" in stripped:
        raise Unusable(LEFT_OUT, "Labels says that the image is to be excluded")
    return [NORMAL.get(word, word) for word in dict.fromkeys(stripped) if word and word not in UNSURE] or None


def _age(birth: str, study: str) -> int | None:
    """Reckon the age from a year, perhaps with decimals, and a date such as `20140915`."""
    year = birth.removesuffix(".0")
    return int(study[:4]) - int(year) if year.isdecimal() and study[:4].isdecimal() else None
