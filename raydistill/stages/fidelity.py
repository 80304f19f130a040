"""Fidelity in an evaluation: in the eyes of several extractors, and finding by finding.

The public features never saw a cohort; the domain network learned findings from the real train images; a public encoder
is somebody's, where one is configured. Each has a floor of real images that it wasn't trained on.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from transformers import AutoModelForImageClassification, PreTrainedModel

from raydistill.core.config import EvaluateConfig
from raydistill.core.scratch import temporary_folder
from raydistill.core.store import Store
from raydistill.core.training import BackboneConfig, ReidConfig
from raydistill.diffusion.features import public_features
from raydistill.metrics import fidelity
from raydistill.metrics.classifier import BLOCK, as_input
from raydistill.metrics.result import MetricResult, results_table
from raydistill.reid.model import ReidNetwork

Grey = NDArray[np.uint8]
Floats = NDArray[np.float32]
Extractor = Callable[[Grey], Floats]

DOMAIN, ENCODER = "domain_", "encoder_"
"""How the names of metrics begin that don't rest on the public features."""

EXTRACTOR = "extractor"
FEWEST = 20
"""Images with a finding that either set needs for a figure of its own."""


@dataclass(frozen=True)
class Images:
    """One set: uint8 (N, R, R), labels of each image (None where nobody said), and patients where they are real."""

    pixels: Grey
    labels: list[list[str] | None]
    patients: NDArray[Any] | None


def write_extractor(model: PreTrainedModel, out: Store) -> None:
    """Keep a findings classifier as the domain extractor of the evaluations to come."""
    with temporary_folder() as folder:
        model.save_pretrained(folder)
        out.upload(folder, EXTRACTOR)


def extractors(domain: Store | None, encoder: BackboneConfig | None, resolution: int) -> dict[str, Extractor]:
    """Return what looks at images, by how its metrics' names begin.

    Args:
        domain: where `write_extractor` wrote; nothing is there in a cohort without findings.
        encoder: a public encoder.
        resolution: side of the images in pixels.
    """
    found: dict[str, Extractor] = {"": lambda images: public_features(images, pooled=True)}
    if domain is not None and domain.exists("config.json"):
        model = AutoModelForImageClassification.from_pretrained(domain.keep_local()).eval()
        found[DOMAIN] = lambda images: in_blocks(lambda part: model.base_model(as_input(part)).pooler_output, images)
    if encoder is not None:
        network = ReidNetwork.build(ReidConfig(backbone=encoder), resolution, seed=0).eval()
        found[ENCODER] = lambda images: in_blocks(lambda part: network.features(torch.from_numpy(part)), images)
    return found


def in_blocks(look: Callable[[Grey], torch.Tensor], images: Grey) -> Floats:
    """Describe images (N, R, R) block by block: float32 (N, D)."""
    with torch.inference_mode():
        parts = [look(images[start : start + BLOCK]).flatten(1).float() for start in range(0, len(images), BLOCK)]
    return np.asarray(torch.cat(parts).numpy())


def fidelity_metrics(
    looks: Mapping[str, Extractor],
    judged: Images,
    real: Images,
    floors: Mapping[str, Images],
    how: EvaluateConfig,
    seed: int,
) -> dict[str, MetricResult]:
    """Compare a set with real images in the eyes of every extractor.

    Args:
        looks: of `extractors`.
        judged: the set.
        real: evaluation images.
        floors: other real images, by extractor; the key "" is for those that have none of their own.
        how: the confidence.
        seed: root of blocks and cuts.
    """
    metrics: dict[str, MetricResult] = {}
    for prefix, look in looks.items():
        sets = real, judged, floors.get(prefix, floors[""])
        found = fidelity.all_metrics(
            *(look(images.pixels) for images in sets),
            patients=real.patients,
            judged_patients=judged.patients,
            confidence=how.confidence,
            seed=seed,
        )
        metrics |= {f"{prefix}{name}": result for name, result in found.items()}
    return metrics


def fidelity_by_finding(
    looks: Mapping[str, Extractor],
    judged: Images,
    real: Images,
    floors: Mapping[str, Images],
    findings: list[str],
    how: EvaluateConfig,
    seed: int,
) -> pa.Table:
    """Return the same for the images with each finding, as `result.results_table`; rows are `finding: metric`.

    A finding that fewer than `FEWEST` images of any set have is left out. `group_size` is how many people have it.
    """
    results: dict[str, MetricResult] = {}
    sizes: list[int] = []
    for finding in findings:
        mine, its = _having(judged, finding), _having(real, finding)
        theirs = {prefix: _having(images, finding) for prefix, images in floors.items()}
        if min(len(images.pixels) for images in (mine, its, *theirs.values())) < FEWEST:
            continue
        found = fidelity_metrics(looks, mine, its, theirs, how, seed)
        results |= {f"{finding}: {name}": result for name, result in found.items()}
        people = its.pixels if its.patients is None else set(its.patients.tolist())
        sizes += [len(people)] * len(found)
    return results_table(results).append_column("group_size", pa.array(sizes, pa.int64()))


def _having(images: Images, finding: str) -> Images:
    rows = np.array([finding in (labels or ()) for labels in images.labels], dtype=bool)
    patients = None if images.patients is None else images.patients[rows]
    return Images(
        images.pixels[rows], [labels for labels, has in zip(images.labels, rows, strict=True) if has], patients
    )
