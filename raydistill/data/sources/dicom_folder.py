"""Folders of DICOM files."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from raydistill.core.errors import InputError
from raydistill.core.sources import LOOKED_AT, DicomSource
from raydistill.core.store import Store
from raydistill.data.dicom import is_dicom, read_instance, require_pydicom
from raydistill.data.rows import RawRow, Unusable, parse_row
from raydistill.data.sources.files import digest_below, files_below, read_file
from raydistill.data.sources.parts import Parts

INDEX = "DICOMDIR"
"""Says what else is there. Source: DICOM PS3.10, 8.6."""


class DicomReader:
    """Every file below a folder is a row, or as many as it has frames; hidden ones and `DICOMDIR` are none."""

    def __init__(self, config: DicomSource) -> None:
        """Take the address; nothing is read."""
        self.config = config
        self.store = Store.open(config.path)

    def check(self) -> None:
        """Look for a DICOM file among the first.

        Raises:
            InputError: no such folder, no DICOM file in it, or pydicom isn't installed.
        """
        require_pydicom()
        first = (read_file(RawRow(0), name, self.store).image for name in self._files()[:LOOKED_AT])
        if not any(isinstance(content, bytes) and is_dicom(content) for content in first):
            raise InputError(f"{self.store.uri}: no DICOM file among the first {LOOKED_AT} in this folder")

    def rows(self) -> Iterator[RawRow]:
        """Yield file by file in the order of their paths."""
        return self.parts().rows()

    def parts(self) -> Parts:
        """Return the paths; each file is a part."""
        return Parts(self._files(), self._images)

    def fingerprint(self) -> dict[str, Any]:
        """Digest every file in the folder."""
        return {"kind": "dicom", **digest_below(self.store)}

    def _files(self) -> list[str]:
        paths = [(path, path.rpartition("/")[2]) for path in files_below(self.store)]
        return [path for path, name in paths if name != INDEX and not name.startswith(".")]

    def _images(self, name: str) -> list[RawRow]:
        return list(self._instance(read_file(RawRow(0, origin=name), name, self.store)))

    def _instance(self, file: RawRow) -> Iterator[RawRow]:
        if not isinstance(file.image, bytes):
            yield file
            return
        try:
            found = read_instance(file.image, self.config, split=self.config.frames == "split")
        except Unusable as error:
            yield replace(file, image=None, problem=(error.reason, error.detail))
            return
        for number, frame in enumerate(found.frames):
            image_id = found.image_id and f"{found.image_id}/{number}" if len(found.frames) > 1 else found.image_id
            values = {**found.fields, "patient_id": found.patient_id, "image_id": image_id}
            yield replace(parse_row(0, values, None), origin=file.origin, image=frame)
