"""Which images are taken for near-duplicates at ingest: other visits, other patients, planted copies.

    python benchmarks/near_duplicates.py nih_cxr14_64.parquet

Prints two Markdown tables and, as the last line, one JSON object of figures; about three minutes on one core.
"""

import io
import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from raydistill.core.config import IngestConfig
from raydistill.data.images import decode_batch, encode_png
from raydistill.data.phantom import num_visits, render
from raydistill.matching.duplicates import near_duplicates
from raydistill.matching.near_copy import StructureIndex

Grey = NDArray[np.uint8]
Treatment = Callable[[NDArray[np.float64]], NDArray[np.float64] | Grey]

DEFAULT = IngestConfig().near_duplicate_similarity
THRESHOLDS = (0.98, 0.985, 0.99, 0.993, 0.995, 0.996, 0.997, 0.998, 0.999)
COPIED = 150
"""Images of each cohort that copies are planted of, evenly spread."""


@dataclass(frozen=True)
class Cohort:
    """Images (N, R, R) and whose they are (N,)."""

    images: Grey
    patients: NDArray[np.generic]


def nih(path: str) -> Cohort:
    """Read the radiographs."""
    table = pq.read_table(path, columns=["image", "patient_id"])
    return Cohort(decode_batch(table["image"].to_pylist()), np.array(table["patient_id"].to_pylist()))


def phantoms(resolution: int) -> Cohort:
    """Render the cohort of `jobs/demo.yaml`."""
    numbers = np.arange(400)
    visits = num_visits(numbers, seed=0, max_visits=6)
    patients = np.repeat(numbers, visits)
    return Cohort(
        render(patients, np.concatenate([np.arange(n) for n in visits]), seed=0, resolution=resolution).images, patients
    )


def shift(down: float, right: float, image: NDArray[np.float64]) -> NDArray[np.float64]:
    """Move by 64ths of the side."""
    step = len(image) / 64
    return np.asarray(ndimage.shift(image, (down * step, right * step), order=1, mode="nearest"))


def crop(left: float, top: float, right: float, bottom: float, image: NDArray[np.float64]) -> NDArray[np.float32]:
    """Cut 64ths of the side off and enlarge what is left."""
    side, step = len(image), len(image) / 64
    box = (left * step, top * step, side - right * step, side - bottom * step)
    picture = Image.fromarray(image.astype(np.float32))
    return np.asarray(picture.resize((side, side), Image.Resampling.LANCZOS, box=box))


def jpeg(quality: int, image: NDArray[np.float64]) -> Grey:
    """Save and load."""
    buffer = io.BytesIO()
    Image.fromarray(grey(image)).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def resize(factor: float, image: NDArray[np.float64]) -> NDArray[np.float32]:
    """Make smaller and large again."""
    side = len(image)
    small = Image.fromarray(image.astype(np.float32)).resize((round(side * factor),) * 2, Image.Resampling.LANCZOS)
    return np.asarray(small.resize((side, side), Image.Resampling.LANCZOS))


def contrast(gain: float, image: NDArray[np.float64]) -> NDArray[np.float64]:
    """Multiply the distance from the mean."""
    return (image - image.mean()) * gain + image.mean()


def noise(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """Add Gaussian noise of 2 % of the grey range."""
    return image + np.random.default_rng(0).normal(0, 0.02 * 255, image.shape)


TREATMENTS: Mapping[str, Treatment] = {
    "JPEG, quality 90": partial(jpeg, 90),
    "JPEG, quality 70": partial(jpeg, 70),
    "JPEG, quality 50": partial(jpeg, 50),
    "shift by 1 px": partial(shift, 1, 0),
    "shift by 1 px, both ways": partial(shift, 1, -1),
    "shift by 2 px, both ways": partial(shift, 2, 2),
    "shift by 0.5 px, both ways": partial(shift, 0.5, 0.5),
    "shift by 0.25 and 0.75 px": partial(shift, 0.25, 0.75),
    "1 px cut on every side": partial(crop, 1, 1, 1, 1),
    "2 px cut on every side": partial(crop, 2, 2, 2, 2),
    "1 px cut at a corner": partial(crop, 1, 1, 0, 0),
    "2 px cut at a corner": partial(crop, 2, 0, 0, 2),
    "contrast + 10 %": partial(contrast, 1.1),
    "contrast − 10 %": partial(contrast, 0.9),
    "gamma 1.2": lambda image: 255 * (image / 255) ** 1.2,
    "blur, σ 1 px": lambda image: ndimage.gaussian_filter(image, len(image) / 64, mode="nearest"),
    "half the size": partial(resize, 0.5),
    "noise of 2 %": noise,
    "shift by 1 px, brighter, JPEG 70": lambda image: jpeg(70, 1.05 * shift(1, -1, image)),
    "mirrored": lambda image: image[:, ::-1],
    "shift by 4 px": partial(shift, 4, 0),
    "4 px cut on every side": partial(crop, 4, 4, 4, 4),
    "turned by 2 degrees": lambda image: ndimage.rotate(image, 2, reshape=False, order=1, mode="nearest"),
}
"""Pixels are 64ths of the side. The last three are more than the search looks for, and no part of any total."""
BEYOND = 3


def grey(image: NDArray[np.floating] | Grey) -> Grey:
    """Round to 8 bits."""
    return np.asarray(np.rint(np.clip(image, 0, 255)), dtype=np.uint8)


def similarity(earlier: Grey, later: Grey) -> float:
    """Measure one pair; 0 where it is negative."""
    found = near_duplicates([encode_png(earlier), encode_png(later)], 1e-3).get(1)
    return found.similarity if found else 0.0


def removed(cohort: Cohort, threshold: float) -> tuple[int, int]:
    """Count the images that ingest would remove: of the same patient as the kept one, of another."""
    found = near_duplicates([encode_png(image) for image in cohort.images], threshold)
    same = sum(bool(cohort.patients[row] == cohort.patients[near.of]) for row, near in found.items())
    return same, len(found) - same


def planted(cohort: Cohort) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Measure copies against their originals, in both orders; and in the existing measure of `near_copy`."""
    measured = {}
    originals = cohort.images[:: max(1, len(cohort.images) // COPIED)]
    for name, treat in TREATMENTS.items():
        pairs = [(image, grey(treat(image.astype(np.float64)))) for image in originals]
        both = [similarity(*pair) for pair in pairs] + [similarity(*pair[::-1]) for pair in pairs]
        coarse = [StructureIndex.of(image[None], 2).search(copy[None])[0][0] for image, copy in pairs]
        measured[name] = np.array(both), np.array(coarse, dtype=np.float64)
    return measured


def highest_visit(cohort: Cohort) -> tuple[float, float]:
    """Find the most similar two visits of one patient: in this measure, in that of `near_copy`."""
    fine, coarse = 0.0, 0.0
    for row in range(1, len(cohort.images)):
        before = np.flatnonzero(cohort.patients[:row] == cohort.patients[row])
        if len(before):
            image = cohort.images[row]
            fine = max(fine, *(similarity(earlier, image) for earlier in cohort.images[before]))
            coarse = max(coarse, float(StructureIndex.of(cohort.images[before], 2).search(image[None])[0][0]))
    return fine, coarse


def seconds(images: Grey) -> float:
    """Time the search through 2,000 images."""
    encoded = [encode_png(image) for image in images[:2000]]
    start = time.perf_counter()
    near_duplicates(encoded, DEFAULT or 1.0)
    return time.perf_counter() - start


def line(*cells: object) -> str:
    """Write a row of a Markdown table."""
    return f"| {' | '.join(map(str, cells))} |"


def main(path: str) -> None:
    """Measure and print."""
    cohorts = {"NIH, 64 px": nih(path), "phantoms, 64 px": phantoms(64), "phantoms, 32 px": phantoms(32)}
    copies = {name: planted(cohort) for name, cohort in cohorts.items()}
    print(line("threshold", *(f"{name}: visits, others' images, copies found" for name in cohorts)))
    print(line(*["---"] * (1 + len(cohorts))))
    figures: dict[str, object] = {"threshold": DEFAULT}
    for threshold in THRESHOLDS:
        cells = []
        for name, cohort in cohorts.items():
            same, across = removed(cohort, threshold)
            share = np.mean([fine >= threshold for fine, _ in list(copies[name].values())[:-BEYOND]])
            cells.append(f"{same}, {across}, {share:.3f}")
            if threshold == DEFAULT:
                figures[name] = {"visits": same, "across_patients": across, "copies_found": round(float(share), 4)}
        print(line(threshold, *cells))
    print()
    print(line("planted copy", *cohorts, "5th percentile, NIH", "the same in `near_copy`"))
    print(line(*["---"] * (3 + len(cohorts))))
    for name in TREATMENTS:
        shares = [f"{np.mean(measured[name][0] >= DEFAULT):.2f}" for measured in copies.values()]
        low = [f"{np.quantile(values, 0.05):.4f}" for values in copies["NIH, 64 px"][name]]
        print(line(name, *shares, *low))
    fine, coarse = highest_visit(cohorts["NIH, 64 px"])
    print(line("two visits of one patient, highest", *[""] * len(cohorts), f"{fine:.4f}", f"{coarse:.4f}"))
    print()
    twice = np.concatenate([cohorts["NIH, 64 px"].images, phantoms(64).images, cohorts["phantoms, 64 px"].images])
    print(json.dumps({**figures, "seconds_2000": round(seconds(twice), 2)}))


if __name__ == "__main__":
    main(sys.argv[1])
