"""Croissant metadata of the released data set: what its files and columns are, for machines of any maker.

The format is Croissant 1.0 with its RAI extension, https://docs.mlcommons.org/croissant/docs/croissant-spec.html and
https://docs.mlcommons.org/croissant/docs/croissant-rai-spec.html; `croissant_context.json` is its standard context.
"""

import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from raydistill.core.licence import Licence
from raydistill.core.manifest import FileEntry
from raydistill.report.dataset import DATA, DESCRIPTIONS, RELEASED, Packed
from raydistill.report.words import LIMITS

CROISSANT = "croissant.json"
CONFORMS_TO = ["http://mlcommons.org/croissant/1.0", "http://mlcommons.org/croissant/RAI/1.0"]
PARQUET = "application/x-parquet"
SHARDS, SAMPLES = "parquet-files", "samples"
PAPER = "https://arxiv.org/abs/2306.01322"
VERSION = "1.0.0"
"""A bundle never changes: another one is another data set."""


def croissant(name: str, description: str, decided: str, licence: Licence, packed: Packed) -> bytes:
    """Return the content of croissant.json.

    Args:
        name: of the data set.
        description: what it is, and on top whether it was released against the verdict.
        decided: the day of the decision, ISO 8601.
        licence: of the bundle.
        packed: its Parquet files.
    """
    said = {
        "@context": json.loads(files("raydistill.report").joinpath("templates/croissant_context.json").read_text()),
        "@type": "sc:Dataset",
        "name": name,
        "description": description,
        "conformsTo": CONFORMS_TO,
        "license": licence.url or f"{licence.name}, see LICENSE",
        "url": PAPER,
        "version": VERSION,
        "datePublished": decided,
        "citeAs": f"Privacy Distillation: Reducing Re-identification Risk of Diffusion Models. {PAPER}",
        "keywords": ["synthetic", "medical images", "privacy distillation"],
        "isLiveDataset": False,
        "rai:dataCollection": "Sampled from a text-to-image model; no picture was taken of anybody.",
        "rai:dataUseCases": "Research and teaching that can do without patients. Not for diagnosis.",
        "rai:dataLimitations": list(LIMITS),
        "rai:personalSensitiveInformation": "The risk that a picture leads back to a patient of the training set was "
        "measured; README.md, report.html and certificate.json say how and with what result.",
        "distribution": [*(_file(entry) for entry in packed.files), _shards()],
        "recordSet": [_records()],
    }
    return f"{json.dumps(said, indent=1, ensure_ascii=False)}\n".encode()


def _file(entry: FileEntry) -> Mapping[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": entry.path,
        "name": entry.path.rpartition("/")[2],
        "contentUrl": entry.path,
        "contentSize": f"{entry.size} B",
        "encodingFormat": PARQUET,
        "sha256": entry.sha256,
    }


def _shards() -> Mapping[str, Any]:
    return {
        "@type": "cr:FileSet",
        "@id": SHARDS,
        "name": SHARDS,
        "description": "All Parquet files; each alone is described, with its hash, beside this.",
        "encodingFormat": PARQUET,
        "includes": f"{DATA}/*.parquet",
    }


def _records() -> Mapping[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": SAMPLES,
        "name": SAMPLES,
        "description": "One record an image.",
        "key": {"@id": f"{SAMPLES}/sample_id"},
        "field": [_field(name) for name in RELEASED.names],
    }


def _field(name: str) -> Mapping[str, Any]:
    source: dict[str, Any] = {"fileSet": {"@id": SHARDS}, "extract": {"column": name}}
    if name == "image":
        source["transform"] = {"jsonPath": "bytes"}
    return {
        "@type": "cr:Field",
        "@id": f"{SAMPLES}/{name}",
        "name": name,
        "description": DESCRIPTIONS[name],
        "dataType": "sc:ImageObject" if name == "image" else "sc:Text",
        "source": source,
        **({"repeated": True} if name == "labels" else {}),
    }
