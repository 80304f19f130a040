"""NIH ChestX-ray14 as it lies after unpacking. Source: Wang et al., arXiv 1705.02315, and the download's README."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from raydistill.data.sources.archive import TableArchive, named_like
from raydistill.data.sources.files import files_below


class NihReader(TableArchive):
    """`Data_Entry_2017.csv` (or `…_v2020.csv`) and the PNG files, in whatever folders below.

    Ages beyond 120 years, of which the table has some, are bad rows.
    """

    kind = "nih_cxr14"
    needed = (
        *("Image Index", "Finding Labels", "Follow-up #", "Patient ID", "Patient Age", "Patient Gender"),
        "View Position",
    )

    def tables(self) -> list[str]:
        """Return the one table; of two versions the later."""
        return named_like(self.store, "Data_Entry_2017", [".csv"], "NIH ChestX-ray14")[-1:]

    def describe(self, values: Mapping[str, str]) -> dict[str, Any]:
        """Findings are separated by `|`; the first image of a patient is follow-up 0."""
        name = values["Image Index"]
        return {
            "file_name": self._places.get(name, name),
            "image_id": name,
            "patient_id": values["Patient ID"],
            "study_index": values["Follow-up #"],
            "labels": values["Finding Labels"],
            "view": values["View Position"],
            "sex": values["Patient Gender"],
            "age": values["Patient Age"],
        }

    @cached_property
    def _places(self) -> dict[str, str]:
        """Paths by name: the download has the images in twelve folders, and doesn't say which is where."""
        paths = [path for path in files_below(self.store) if path.endswith(".png")]
        return {path.rpartition("/")[2]: path for path in reversed(paths)}
