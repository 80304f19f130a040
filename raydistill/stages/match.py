"""Compare every sample, and the real queries, with every gallery image. Expensive and threshold-free.

Each eye has its own folder of matches, so that a later stage depends on the eyes it reads and on no other.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raydistill.core.columns import MATCHES
from raydistill.core.config import MatchConfig
from raydistill.core.seeds import generator
from raydistill.core.store import Store
from raydistill.distributed.data import map_shards
from raydistill.matching.near_copy import StructureIndex
from raydistill.matching.search import Gallery
from raydistill.reid.embedder import Embedder, load_embedder
from raydistill.stages.base import Context, Outcome, Stage
from raydistill.stages.images import pixels

MATCHED_PARTS = 8
"""Random pairs of equally made parts of the two galleries; more would only smooth the matched scores."""

UNSEEN_COLUMNS = (
    "matched_scores", "unseen_matched_scores", "unseen_score", "unseen_patient_id", "unseen_structure_score",
)  # fmt: skip

RECORD_COLUMNS = ["image_id", "patient_id", "image"]


class Match(Stage):
    """Inputs: `images`, `gallery` (train), `eye_<name>` networks, real queries `query_<role>`, optionally `unseen`.

    The queries `query_evaluation` and the unseen gallery are seen by the eye `auditor` only.
    Output: `<eye>/samples/part-*.parquet` and `<eye>/<role>/part-*.parquet`.
    """

    version: ClassVar[int] = 3
    resumable: ClassVar[bool] = True
    config: MatchConfig

    def run(self, context: Context) -> Outcome:
        """Embed the gallery once an eye, then match shard by shard on an actor pool."""
        eyes = [name.removeprefix("eye_") for name in context.inputs if name.startswith("eye_")]
        queries = {"samples": context.inputs["images"]} | {
            name.removeprefix("query_"): store for name, store in context.inputs.items() if name.startswith("query_")
        }
        names = [f"{role}/{shard}" for role, store in queries.items() for shard in store.shards()]
        arguments = {
            "inputs": dict(context.inputs),
            "eyes": eyes,
            "queries": queries,
            "out": context.out,
            "config": self.config,
            "seed": context.seed,
        }
        # The eye written last tells that a shard is finished for all; the auditor sees every role.
        map_shards(
            MatchShard,
            arguments,
            names,
            done_in=context.out / eyes[-1],
            compute=self.config.compute,
            progress=context.progress,
        )
        rows = (context.out / eyes[-1] / "samples").read_table(columns=["query_id"]).num_rows
        gallery = context.inputs["gallery"].read_table(columns=["image_id"]).num_rows
        return Outcome(counts={"samples": rows, "gallery": gallery})


class MatchShard:
    """Makes one shard of matches for every eye. Built on an actor: loads networks, embeds galleries."""

    def __init__(
        self,
        inputs: Mapping[str, Store],
        eyes: list[str],
        queries: Mapping[str, Store],
        out: Store,
        config: MatchConfig,
        seed: int,
    ) -> None:
        """Load each eye and let it see the gallery; build the structural index once for all."""
        device = config.compute.device
        self.queries, self.out, self.config = queries, out, config
        self.eyes = {eye: load_embedder(inputs[f"eye_{eye}"].keep_local(), device) for eye in eyes}
        train = inputs["gallery"].read_table(columns=RECORD_COLUMNS)
        unseen = inputs["unseen"].read_table(columns=RECORD_COLUMNS) if "unseen" in inputs else None
        self.seen = Reference(train, self.eyes, config)
        self.unseen = Reference(unseen, {"auditor": self.eyes["auditor"]}, config) if unseen is not None else None
        self.parts: list[tuple[Gallery, Gallery]] = []
        if self.unseen is not None:
            rng, ids = generator(seed, "matched_parts"), (self.seen.patient_ids, self.unseen.patient_ids)
            rows = [equally_made(*ids, rng) for _ in range(MATCHED_PARTS)]
            self.parts = [
                (self.seen.part(ours, "auditor"), self.unseen.part(theirs, "auditor")) for ours, theirs in rows
            ]

    def __call__(self, name: str) -> int:
        """Match the rows of one shard, decoded once, with every eye that may see them."""
        role, _, shard = name.partition("/")
        table = self.queries[role].read_table(shard)
        id_column = "sample_id" if role == "samples" else "image_id"
        table = table.filter(pa.compute.is_valid(table["image"]))
        eyes = [eye for eye in self.eyes if role != "evaluation" or eye == "auditor"]
        if not table.num_rows:
            for eye in eyes:
                self.out.write_table(f"{eye}/{name}", MATCHES.empty_table())
            return 0
        images = pixels(table)
        structure, places = self.seen.structure.search(images)
        for eye in eyes:
            embeddings = self.eyes[eye].embed(images, self.config.batch_size)
            gallery = self.seen.galleries[eye]
            found = gallery.search(embeddings, self.config.top_k)
            columns = {
                "query_id": table[id_column],
                "query_patient_id": table["patient_id"] if role != "samples" else pa.nulls(len(table), pa.string()),
                "score": found.scores[:, 0],
                "nearest_image_id": [gallery.image_ids[i] for i in found.indices[:, 0]],
                "nearest_patient_id": [gallery.patient_ids[i] for i in found.indices[:, 0]],
                "neighbour_scores": list(found.scores),
                "neighbour_image_ids": [[gallery.image_ids[i] for i in row] for row in found.indices],
                "structure_score": structure,
                "structure_image_id": [gallery.image_ids[i] for i in places],
                **self._unseen(eye, embeddings, images),
            }
            self.out.write_table(f"{eye}/{name}", pa.table(columns, schema=MATCHES))
        return len(table)

    def _unseen(self, eye: str, embeddings: NDArray[np.float32], images: NDArray[np.uint8]) -> dict[str, Any]:
        """Score against people the model never saw, and against equally large parts of those it saw."""
        if eye != "auditor" or self.unseen is None:
            return {name: pa.nulls(len(images), MATCHES.field(name).type) for name in UNSEEN_COLUMNS}
        best = [
            np.stack([part.search(embeddings, 1).scores[:, 0] for part in side], axis=1)
            for side in zip(*self.parts, strict=True)
        ]
        gallery = self.unseen.galleries[eye]
        found = gallery.search(embeddings, 1)
        return {
            "matched_scores": list(best[0]),
            "unseen_matched_scores": list(best[1]),
            "unseen_score": found.scores[:, 0],
            "unseen_patient_id": [gallery.patient_ids[i] for i in found.indices[:, 0]],
            "unseen_structure_score": self.unseen.structure.search(images)[0],
        }


class Reference:
    """Real images to compare with: one gallery of embeddings an eye, and one structural index."""

    def __init__(self, table: pa.Table, eyes: Mapping[str, Embedder], config: MatchConfig) -> None:
        """Embed the images of a table of records with every eye."""
        images = pixels(table)
        self.image_ids, self.patient_ids = table["image_id"].to_pylist(), table["patient_id"].to_pylist()
        self.structure = StructureIndex(images, config.near_copy_max_shift)
        self.galleries = {
            name: Gallery(eye.embed(images, config.batch_size), self.image_ids, self.patient_ids)
            for name, eye in eyes.items()
        }

    def part(self, rows: NDArray[np.int64], eye: str) -> Gallery:
        """Return some rows of one eye's gallery."""
        image_ids, patient_ids = ([ids[i] for i in rows] for ids in (self.image_ids, self.patient_ids))
        return Gallery(self.galleries[eye].embeddings[rows], image_ids, patient_ids)


def equally_made(
    first: list[str], second: list[str], rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Choose parts of two galleries with equally many patients, and equally many images of each.

    As many patients as the smaller gallery has are drawn from both. The one with the most images of the one part is
    paired with that of the other, and so on; of a pair's images the smaller number is drawn from both. If neither
    gallery was learned by heart, the parts are exchangeable, and a stranger is as often closer to either.

    Args:
        first: patient ids, one an image.
        second: patient ids of the other gallery, none of the first.
        rng: where the choices come from.

    Returns:
        Sorted rows of the first and of the second gallery, int64, equally many.
    """
    people = [_by_number(ids, rng) for ids in (first, second)]
    size = min(map(len, people))
    chosen = [sorted(own[:size], key=len, reverse=True) for own in people]
    pairs = [(mine[: len(theirs)], theirs[: len(mine)]) for mine, theirs in zip(*chosen, strict=True)]
    ours, others = (np.sort(np.concatenate(side)).astype(np.int64) for side in zip(*pairs, strict=True))
    return ours, others


def _by_number(ids: list[str], rng: np.random.Generator) -> list[NDArray[np.int64]]:
    """Return every patient's rows, patients and rows in random order."""
    names, codes = np.unique(ids, return_inverse=True)
    order = rng.permutation(len(codes))
    return [order[codes[order] == patient] for patient in rng.permutation(len(names))]
