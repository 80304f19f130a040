"""The released data set: which samples leave, in which form, and what is said of it to machines."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from raydistill.core.manifest import FileEntry, is_under
from raydistill.core.store import Store
from raydistill.stages.images import keep_rows

DATA = "data"
"""The folder of its Parquet files."""

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
RELEASED = pa.schema(
    [
        pa.field("image", IMAGE),
        pa.field("sample_id", pa.string()),
        pa.field("prompt", pa.string()),
        pa.field("labels", pa.list_(pa.string())),
        pa.field("view", pa.string()),
        pa.field("sex", pa.string()),
        pa.field("age_band", pa.string()),
    ]
)
"""The released data set. Seeds stay inside, and can't be derived (`stages.sample.ReleasedSample`): with the student
they would give back the samples that were dropped.
Fields are nullable because `datasets` takes its features for those that equal its own, which are."""

DESCRIPTIONS = {
    "image": "A synthetic grey image, PNG.",
    "sample_id": "Name of the sample, unique in the data set.",
    "prompt": "The text that the model was asked with.",
    "labels": "Findings that were asked for; none: a picture without findings, null: nothing in particular.",
    "view": "The projection that was asked for.",
    "sex": "The sex that was asked for.",
    "age_band": "The band of ages that was asked for.",
}

STRING = {"dtype": "string", "_type": "Value"}
FEATURES = dict.fromkeys(RELEASED.names, STRING) | {"image": {"_type": "Image"}, "labels": [STRING]}
"""What `datasets` reads from a Parquet file's metadata; a list in brackets is understood by every version."""

CARD_TYPES = {"image": {"dtype": "image"}, "labels": {"list": "string"}}
"""The same in a card's front matter, of the columns that aren't strings."""


@dataclass(frozen=True)
class Packed:
    """The Parquet files of a release as they lie there.

    Args:
        files: with sizes and hashes, paths relative to the release, sorted.
        rows: images in all of them.
        num_bytes: their size uncompressed.
    """

    files: tuple[FileEntry, ...]
    rows: int
    num_bytes: int

    @classmethod
    def of(cls, release: Store, sums: Mapping[str, str]) -> "Packed":
        """Look at a release's Parquet files; only their footers are read.

        Args:
            release: the folder.
            sums: SHA-256 by path.
        """
        paths = sorted(path for path in sums if is_under(path, DATA))
        files = tuple(FileEntry(path=path, size=release.size(path), sha256=sums[path]) for path in paths)
        about = [pq.read_metadata((release / path).path, filesystem=release.filesystem) for path in paths]
        groups = (footer.row_group(number) for footer in about for number in range(footer.num_row_groups))
        return cls(files, sum(footer.num_rows for footer in about), sum(group.total_byte_size for group in groups))

    @property
    def dataset_info(self) -> dict[str, Any]:
        """What the front matter of a card tells `datasets`: features, rows and sizes in bytes."""
        return {
            "features": [{"name": name, **CARD_TYPES.get(name, {"dtype": "string"})} for name in RELEASED.names],
            "splits": [{"name": "train", "num_bytes": self.num_bytes, "num_examples": self.rows}],
            "download_size": sum(file.size for file in self.files),
            "dataset_size": self.num_bytes,
        }


def released_samples(samples: pa.Table, verdicts: pa.Table) -> pa.Table:
    """Return the samples that the filter keeps, in the form that leaves.

    Args:
        samples: columns.SAMPLES.
        verdicts: columns.VERDICTS; a sample without one isn't released.

    Returns:
        `RELEASED`, with the features that `datasets` reads in its metadata.
    """
    samples = keep_rows(verdicts, samples, "sample_id")
    pairs = zip(samples["image"].to_pylist(), samples["sample_id"].to_pylist(), strict=True)
    images = pa.array([{"bytes": image, "path": f"{sample_id}.png"} for image, sample_id in pairs], IMAGE)
    columns = {name: images if name == "image" else samples[name] for name in RELEASED.names}
    metadata = {"huggingface": json.dumps({"info": {"features": FEATURES}})}
    return pa.table(columns, schema=RELEASED.with_metadata(metadata))


def rows_of(table: pa.Table) -> Iterable[tuple[str, bytes, dict[str, Any]]]:
    """Yield each sample of `RELEASED` as the name of its image file, its PNG and its other columns."""
    for row in table.to_pylist():
        image = row.pop("image")
        yield image["path"], image["bytes"], row
