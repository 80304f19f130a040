"""Folders of DICOM files."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from raydistill.core.errors import InputError
from raydistill.core.kinds import DICOM_HEADER, LOOKED_AT, is_dicom
from raydistill.core.sources import DicomSource
from raydistill.core.store import Store, readable
from raydistill.data.dicom import read_instance, require_pydicom
from raydistill.data.records import LEFT_OUT
from raydistill.data.rows import RawRow, Unusable, parse_row
from raydistill.data.sources.files import digest_below, files_below, read_file
from raydistill.data.sources.parts import Parts

INDEX = "DICOMDIR"
"""Says what else is there. Source: DICOM PS3.10, 8.6."""

ENDINGS = {".dcm", ".dicom", ".dic", ".ima", ".img", ".raw", ".acr", ".gz", ".zip"}
"""Of names that images of machines have, or what may hold such; so do names without an ending, or with a UID's."""

BARE = (b"\x02\0", b"\x08\0", b"\0\x02", b"\0\x08")
"""How a data set without the header of a file begins: its first group, in either byte order. Source: PS3.5, 7.1."""


class DicomReader:
    """Every file below a folder is a row, or as many as it has frames; hidden ones and `DICOMDIR` are none.

    What is plainly something else, such as the viewer that an export brings, is left out.
    """

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
        with readable(self.store.uri):
            found = any(map(self._begins_as_dicom, self._files()[:LOOKED_AT]))
        if not found:
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

    def _begins_as_dicom(self, name: str) -> bool:
        try:
            return is_dicom(self.store.read_start(name, DICOM_HEADER))
        except OSError:
            # A file's own trouble is its row's; an object store's is no row's.
            if self.store.is_local:
                return False
            raise

    def _images(self, name: str) -> list[RawRow]:
        return list(self._instance(read_file(RawRow(0, origin=name), name, self.store)))

    def _instance(self, file: RawRow) -> Iterator[RawRow]:
        if not isinstance(file.image, bytes):
            yield file
            return
        if _is_something_else(file.origin or "", file.image):
            yield replace(file, image=None, problem=(LEFT_OUT, "isn't DICOM, by neither its name nor its header"))
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


def _is_something_else(name: str, content: bytes) -> bool:
    endings = [ending.lower() for ending in PurePosixPath(name).suffixes]
    could_be = not endings or endings[-1][1:].isdecimal() or not ENDINGS.isdisjoint(endings)
    return not (could_be or is_dicom(content) or content.startswith(BARE))
