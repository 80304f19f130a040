"""WebDataset shards: tar files in which the files of a sample follow one another and share a name.

Read with the standard library: the package of that name also runs commands that an address names, and unpickles.
Source: Aizman et al., High Performance I/O For Large Scale Deep Learning, arXiv 2001.01858.
"""

import json
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from tarfile import (  # type: ignore[attr-defined]  # typeshed lacks the first
    EOFHeaderError,
    HeaderError,
    ReadError,
)
from typing import IO, Any

from raydistill.core.errors import InputError
from raydistill.core.kinds import IMAGE_ENDINGS
from raydistill.core.sources import WebDatasetSource
from raydistill.core.store import Store, readable
from raydistill.data.rows import RawRow, parse_row
from raydistill.data.schema import check_columns
from raydistill.data.sources.columns import by_our_names, called_by_us
from raydistill.data.sources.csv_table import RENAMING
from raydistill.data.sources.files import MAX_FILE_BYTES, digest

IMAGES = tuple(ending.removeprefix(".") for ending in IMAGE_ENDINGS)
FIELDS, CAPTION = "json", "txt"
KEYS = "files of a sample share their name up to its first dot"
SHARDS = (".tar", ".tar.gz", ".tgz")


@dataclass
class Sample:
    """The files of one sample.

    Args:
        key: path in the shard, up to the first dot of the name.
        files: what is read of them, by the rest of the name, in lower case.
        too_large: such rests of files that aren't read.
        twice: such rests that another file has, too.
    """

    key: str
    files: dict[str, bytes] = field(default_factory=dict)
    too_large: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)

    @property
    def images(self) -> list[str]:
        """Which of the files are images."""
        return [kind for kind in IMAGES if kind in self.files]


class WebDatasetReader:
    """One shard, or every one below a folder in the order of their names; a sample is a row."""

    def __init__(self, config: WebDatasetSource) -> None:
        """Take the address; nothing is read."""
        self.config = config
        self.store = Store.open(config.path)

    def check(self) -> None:
        """Read the first sample.

        Raises:
            InputError: no such shard, none that is a tar file, or fields that are missing.
        """
        shards = self._shards()
        first = next(chain.from_iterable(map(self._samples, shards)), None)
        if first is None:
            raise InputError(f"{self.store.uri}: no sample in {len(shards)} shards")
        if not first.files and not first.too_large:
            raise InputError(f"{self.store.uri}: the first sample, {first.key}, has no .{FIELDS} and no image; {KEYS}")
        row = self._row(0, shards[0], first)
        if row.problem:
            return
        names = called_by_us([*_fields(first), "image"], self.config.columns, self.store.uri)
        check_columns(names, "image", f"{self.store.uri}: the first sample's {FIELDS}", RENAMING)

    def rows(self) -> Iterator[RawRow]:
        """Yield shard by shard, sample by sample."""
        samples = ((shard, sample) for shard in self._shards() for sample in self._samples(shard))
        for row, (shard, sample) in enumerate(samples):
            yield self._row(row, shard, sample)

    def fingerprint(self) -> dict[str, Any]:
        """Digest the shards."""
        return {"kind": "webdataset", **digest(self.store, [(self.store / name).path for name in self._shards()])}

    def _shards(self) -> list[str]:
        """Names below the store; the empty name where the address is one shard."""
        with readable(self.store.uri):
            if not self.store.exists():
                raise InputError(f"{self.store.uri}: no such file or folder; set source.path to the shards")
            names = [""] if self.store.is_file() else [n for n in self.store.files() if n.endswith(SHARDS)]
        if not names:
            raise InputError(f"{self.store.uri}: no .tar file in this folder")
        return names

    def _samples(self, shard: str) -> Iterator[Sample]:
        at = self.store / shard
        try:
            with readable(at.uri), at.filesystem.open_input_stream(at.path, compression=None) as stream:
                yield from samples(stream)
        except (tarfile.TarError, EOFError) as error:
            raise InputError(f"{at.uri}: isn't a whole tar file: {error}; get this shard again") from error

    def _row(self, row: int, shard: str, sample: Sample) -> RawRow:
        origin = f"{shard}/{sample.key}".lstrip("/")
        if sample.too_large:
            return RawRow(row, origin=origin, problem=("too_large", f".{sample.too_large[0]}: over {MAX_FILE_BYTES}"))
        if sample.twice or len(sample.images) > 1:
            several = [f"two .{kind}" for kind in sample.twice] or [f".{kind}" for kind in sample.images]
            return RawRow(row, origin=origin, problem=("bad_field", f"{' and '.join(several)} in a sample; {KEYS}"))
        try:
            values = by_our_names(_fields(sample), self.config.columns)
        except ValueError as error:
            return RawRow(row, origin=origin, problem=("bad_field", f".{FIELDS}: {error}"))
        own = {"image_id": origin, "text": sample.files.get(CAPTION, b"").decode(errors="replace")}
        named = {name: value for name, value in values.items() if value is not None}
        image = next((sample.files[kind] for kind in sample.images), None)
        raw = parse_row(row, {**own, **named}, "role")
        return RawRow(**{**vars(raw), "origin": origin, "image": image})


class _Member(tarfile.TarInfo):
    """A member of an archive that says where it ends: tarfile takes a header that it can't read for the end."""

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> "_Member":
        try:
            return super().fromtarfile(tarfile)
        except HeaderError as error:
            if isinstance(error, EOFHeaderError):
                raise
            raise ReadError(f"{error} where a file or the end should be") from error


def samples(stream: IO[bytes]) -> Iterator[Sample]:
    """Yield the samples of a shard: files that follow one another and share their name up to its first dot.

    Raises:
        tarfile.TarError: when it isn't a whole tar file.
    """
    sample: Sample | None = None
    with tarfile.open(fileobj=stream, mode="r|*", tarinfo=_Member) as archive:
        for member in archive:
            if not member.isfile():
                continue
            folder, slash, name = member.name.rpartition("/")
            stem, _, rest = name.partition(".")
            if sample is None or sample.key != folder + slash + stem:
                if sample is not None:
                    yield sample
                sample = Sample(folder + slash + stem)
            _add(sample, rest.lower(), member, archive)
    if sample is not None:
        yield sample


def _add(sample: Sample, kind: str, member: tarfile.TarInfo, archive: tarfile.TarFile) -> None:
    if kind not in (*IMAGES, FIELDS, CAPTION):
        return
    if member.size > MAX_FILE_BYTES:
        sample.too_large.append(kind)
        return
    if kind in sample.files:
        sample.twice.append(kind)
    content = archive.extractfile(member)
    sample.files[kind] = content.read() if content else b""


def _fields(sample: Sample) -> Mapping[str, Any]:
    """Read what is said of a sample; a ValueError says what is wrong with it."""
    try:
        values = json.loads(sample.files.get(FIELDS, b"{}"))
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(values, dict):
        raise ValueError("isn't a JSON object")
    return values
