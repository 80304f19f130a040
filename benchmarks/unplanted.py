"""What nobody plants: of copies of another kind than the self-test's, how many are found all the same.

    python benchmarks/unplanted.py RUN

Train images of a finished run are changed in ways that no self-test plants, and strangers' the same way. They are
searched as a run searches samples, by the filter's network and by the auditor's, each with the near-copy measures, at
thresholds set anew on the run's calibration images for the rates of its policy and of its audit. Prints Markdown, and
as the last line one JSON object.
"""

import json
import sys
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import torch
from detectors import CONFIDENCE, MAX_SHIFT, Floats, Grey, Run
from numpy.typing import NDArray
from PIL import Image

from raydistill.core.seeds import generator
from raydistill.core.store import Store
from raydistill.data.images import mirrored
from raydistill.folder import opened
from raydistill.matching.calibration import calibrate
from raydistill.matching.near_copy import StructureIndex
from raydistill.matching.search import ExactSearch
from raydistill.metrics.intervals import clustered_rate
from raydistill.reid.embedder import embed_both_ways, load_embedder
from raydistill.stages.images import pixels, read_people

Treat = Callable[[Grey, np.random.Generator], Grey]


def cut(images: Grey, rng: np.random.Generator, kept: float) -> Grey:
    """Enlarge a part of each picture, of so many sides, from anywhere in it."""
    side = images.shape[1]
    corners = rng.uniform(0, side - kept * side, (len(images), 2))
    boxes = [(left, top, left + kept * side, top + kept * side) for left, top in corners]
    pairs = zip(images, boxes, strict=True)
    return np.stack(
        [np.asarray(Image.fromarray(i).resize((side, side), Image.Resampling.BICUBIC, b)) for i, b in pairs]
    )


def collage(images: Grey, rng: np.random.Generator) -> Grey:
    """Put the quarters of each picture together in another order, none where it was."""
    half, made = images.shape[1] // 2, images.copy()
    places = [(slice(down, down + half), slice(right, right + half)) for down in (0, half) for right in (0, half)]
    for row, image in enumerate(images):
        turn = int(rng.integers(1, 4))
        for number, place in enumerate(places):
            made[row][place] = image[places[(number + turn) % 4]]
    return made


TREATMENTS: Mapping[str, Treat] = {
    "as it is": lambda images, _: images,
    "mirrored, which is planted": lambda images, _: mirrored(images),
    "negative": lambda images, _: 255 - images,
    "0.8 of the side, enlarged": partial(cut, kept=0.8),
    "0.75 of the side": partial(cut, kept=0.75),
    "0.6 of the side": partial(cut, kept=0.6),
    "quarters in another order": collage,
    "mean of two people's": lambda images, _: (images // 2 + np.roll(images, 1, axis=0) // 2).astype(np.uint8),
    "turned by 90 degrees": lambda images, _: np.ascontiguousarray(np.rot90(images, axes=(1, 2))),
    "upside down": lambda images, _: np.ascontiguousarray(images[:, ::-1]),
}


class Judges:
    """The filter and the audit of a run, as far as they judge single pictures."""

    def __init__(self, run: Run, rates: Mapping[str, tuple[float, float]]) -> None:
        """Embed the train images, and set thresholds for each network's pair of rates on calibration images."""
        self.eyes = {name: load_embedder((run.of(f"reid_{name}") / "network").keep_local(), "cpu") for name in rates}
        gallery = run.images["train"]
        self.galleries = {name: ExactSearch(eye.embed(gallery, 64)) for name, eye in self.eyes.items()}
        self.index = StructureIndex.of(gallery, MAX_SHIFT)
        seen, people = self.scores(run.images["calibration"]), run.patients["calibration"]
        self.points = {
            name: [
                calibrate(scores, people, rate, CONFIDENCE).threshold
                for scores, rate in zip((seen[name], seen["structure"]), rates[name], strict=True)
            ]
            for name in rates
        }

    def scores(self, images: Grey) -> dict[str, Floats]:
        """Score pictures by each network, and by their structure."""
        found = {
            name: self.galleries[name].search_views(embed_both_ways(eye, images, 64), 1).cosines[:, 0]
            for name, eye in self.eyes.items()
        }
        return found | {"structure": self.index.search(images)[0].astype(np.float32)}

    def flags(self, images: Grey) -> dict[str, NDArray[np.bool_]]:
        """Say which pictures either measure of each judge flags."""
        seen = self.scores(images)
        return {
            name: (seen[name] >= identity) | (seen["structure"] >= structure)
            for name, (identity, structure) in self.points.items()
        }


def main(folder: str) -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    config, run = opened(folder).config, Run(Store.open(folder))
    policy = run.of("tune").read_json("policy/policy.json")
    audit = config.evaluate.audit_fpir, config.evaluate.audit_near_copy_fpir
    judges = Judges(run, {"filter": (policy["target_fpir"], policy["near_copy_fpir"]), "auditor": audit})
    columns = ["image", "patient_id"]
    people = {
        role: read_people(run.of("ingest") / role, columns, config.selftest.num_images, config.seed)
        for role in ("train", "calibration")
    }
    print("| train images | the filter | the audit | both together | strangers, both together |\n|---|---|---|---|---|")
    figures = {}
    for name, treat in TREATMENTS.items():
        cells = []
        for role, table in people.items():
            found = judges.flags(treat(pixels(table), generator(config.seed, "unplanted", name)))
            either = clustered_rate(found["filter"] | found["auditor"], table["patient_id"].to_numpy(), CONFIDENCE)
            assert either.interval is not None
            if role == "train":
                cells += [f"{found[judge].mean():.2f}" for judge in ("filter", "auditor")]
                figures[name] = round(float(found["auditor"].mean()), 4)
            cells.append(f"{either.value:.2f} ({either.interval[0]:.2f} to {either.interval[1]:.2f})")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
    print(f"\n{json.dumps(figures)}")


if __name__ == "__main__":
    main(sys.argv[1])
