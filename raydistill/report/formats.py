"""The released images in more forms than Parquet, for tools that want files: WebDataset and image folder."""

import io
import json
import tarfile
from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa

from raydistill.report.dataset import rows_of

WEBDATASET, IMAGE_FOLDER = "webdataset", "image_folder"


def webdataset(number: int, table: pa.Table) -> tuple[str, bytes]:
    """Return one shard: an uncompressed tar in which files of one base name are one sample (PNG, and JSON of the rest).

    The form is that of https://github.com/webdataset/webdataset. Equal samples make equal bytes: no times, no users.

    Args:
        number: of the shard.
        table: `dataset.RELEASED`.

    Returns:
        Its path in the release, and its bytes.
    """
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as shard:
        for name, image, about in rows_of(table):
            base = name.removesuffix(".png")
            for extension, content in (("png", image), ("json", _json(about).encode())):
                entry = tarfile.TarInfo(f"{base}.{extension}")
                entry.size, entry.mode = len(content), 0o644
                shard.addfile(entry, io.BytesIO(content))
    return f"{WEBDATASET}/shard-{number:05d}.tar", buffer.getvalue()


def image_folder(tables: Iterable[pa.Table]) -> Iterator[tuple[str, bytes]]:
    """Yield PNG files and at last `metadata.jsonl`, whose `file_name` names them, as `datasets` reads an image folder.

    Args:
        tables: `dataset.RELEASED`; no more than one of them is in memory.

    Yields:
        Path in the release, and bytes.
    """
    lines = []
    for table in tables:
        for name, image, about in rows_of(table):
            yield f"{IMAGE_FOLDER}/{name}", image
            lines.append(_json({"file_name": name, **about}) + "\n")
    yield f"{IMAGE_FOLDER}/metadata.jsonl", "".join(lines).encode()


def _json(row: dict[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False)
