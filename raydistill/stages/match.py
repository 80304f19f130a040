"""Compare every sample, and the real queries, with every gallery image. Expensive and threshold-free.

A query and its mirror image are one: the better of the two counts, for every gallery and every measure.

Each eye has its own folder of matches, so that a later stage depends on the eyes it reads and on no other.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import faiss
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raydistill.core.columns import MATCHES
from raydistill.core.config import Config
from raydistill.core.errors import ConfigError
from raydistill.core.generation import MatchConfig
from raydistill.core.store import Store
from raydistill.distributed.data import map_shards
from raydistill.distributed.shards import Piece
from raydistill.matching.reference import MATCHED_PARTS
from raydistill.matching.search import Neighbours
from raydistill.reid.embedder import embed_both_ways, load_embedder
from raydistill.stages.base import Context, Outcome, Stage
from raydistill.stages.embed import STRUCTURE, eyes_of, in_groups
from raydistill.stages.gallery import GALLERY, UNSEEN, Galleries, Plan, digest_of
from raydistill.stages.images import pixels

UNSEEN_COLUMNS = (
    "matched_scores", "unseen_matched_scores", "matched_patient_ids", "unseen_matched_patient_ids",
    "unseen_score", "unseen_patient_id", "unseen_structure_score",
)  # fmt: skip

SAMPLES = "samples"
"""The role of what a model made, beside the roles of real images."""


class Match(Stage):
    """Inputs: `images`, `gallery` and optionally `unseen` (`Embed`), `eye_<name>`, real queries `query_<role>`.

    The queries `query_evaluation` and the unseen gallery are seen by the eye `auditor` only.
    Output: `<eye>/samples/part-*.parquet` and `<eye>/<role>/part-*.parquet`, and `<eye>/gallery.json`.
    """

    version: ClassVar[int] = 9
    resumable: ClassVar[bool] = True
    config: MatchConfig

    def check(self, config: Config) -> None:
        """Refuse to search on a GPU with a FAISS that can't."""
        if self.config.search_device == "cuda" and not hasattr(faiss, "StandardGpuResources"):
            raise ConfigError(
                "match.search_device: cuda needs FAISS's GPU build and this is its CPU build: pip uninstall faiss-cpu, "
                "then pip install faiss-gpu-cu12 (the two can't be installed together)"
            )

    def run(self, context: Context) -> Outcome:
        """Match piece by piece on an actor pool; a piece is a row group of the queries."""
        real = {n.removeprefix("query_"): store for n, store in context.inputs.items() if n.startswith("query_")}
        samples = context.inputs["images"]
        with place(context, self.config, context.seed) as galleries:
            make_matches(context, {SAMPLES: samples, **real}, self.config, galleries)
            size, parts = len(galleries.image_ids()), galleries.plan.parts
        rows = sum(sum(samples.row_groups(shard)) for shard in samples.shards())
        return Outcome(counts={"samples": rows, "gallery": size}, facts={"gallery_parts": parts})


def place(context: Context, config: MatchConfig, seed: int) -> AbstractContextManager[Galleries]:
    """Put the galleries of the inputs where workers find them, for as long as the context lasts.

    Args:
        context: with the inputs `gallery`, `eye_<name>` and optionally `unseen`.
        config: how.
        seed: of the equally made parts; of the node whose matches they are.
    """
    inputs = context.inputs
    return Galleries.place(Plan(inputs["gallery"], tuple(eyes_of(inputs)), inputs.get("unseen"), seed), config)


def make_matches(context: Context, queries: Mapping[str, Store], config: MatchConfig, galleries: Galleries) -> None:
    """Match every query with the galleries, into a folder for each eye.

    Args:
        context: with the inputs `eye_<name>`.
        queries: by role.
        config: how.
        galleries: what to compare with.
    """
    eyes = eyes_of(context.inputs)
    ids = galleries.image_ids()
    compared = {"images": len(ids), "sha256": digest_of(ids)}
    for eye in eyes:
        context.out.write_json(f"{eye}/{GALLERY}", compared)
    shards = [
        in_groups(store, name, f"{role}/{name}", [f"{eye}/{role}/{name}" for eye in _seeing(role, eyes)])
        for role, store in queries.items()
        for name in store.shards()
    ]
    map_shards(
        MatchPiece,
        {"eyes": eyes, "queries": queries, "galleries": galleries, "config": config},
        shards,
        out=context.out,
        work=context.work / "matches",
        compute=config.compute,
        progress=context.progress,
    )


def _seeing(role: str, eyes: Mapping[str, Any]) -> list[str]:
    return [eye for eye in eyes if role != "evaluation" or eye == "auditor"]


class MatchPiece:
    """Makes a piece of the matches of every eye. Built on an actor: loads networks, finds galleries."""

    def __init__(
        self, eyes: Mapping[str, Store], queries: Mapping[str, Store], galleries: Galleries, config: MatchConfig
    ) -> None:
        """Load each eye onto the device that the configuration reserves."""
        self.queries, self.config = queries, config
        self.eyes = {eye: load_embedder(store.keep_local(), config.compute.device) for eye, store in eyes.items()}
        self.reference = galleries.open(config.search_device)
        self.image_ids, self.patient_ids = galleries.image_ids(), galleries.patient_ids()
        self.unseen_ids = galleries.patient_ids(unseen=True) if galleries.plan.unseen else None

    def __call__(self, piece: Piece) -> list[pa.Table]:
        """Match the rows of a piece, decoded once, with every eye that may see them."""
        role, _, shard = piece.shard.partition("/")
        ids = ["sample_id"] if role == SAMPLES else ["image_id", "patient_id"]
        table = self.queries[role].read_row_group(shard, piece.number, [*ids, "image"])
        table = table.filter(pa.compute.is_valid(table["image"]))
        eyes = _seeing(role, self.eyes)
        if not table.num_rows:
            return [MATCHES.empty_table()] * len(eyes)
        images = pixels(table)
        copied = self.reference.copied(STRUCTURE, images)
        whose = table["patient_id"] if role != SAMPLES else pa.nulls(len(table), pa.string())
        common = {
            "query_id": table[ids[0]],
            "query_patient_id": whose,
            "structure_score": copied.cosines[:, 0],
            "structure_image_id": self.image_ids.take(copied.indices[:, 0]),
        }
        return [pa.table(common | self._seen_by(eye, images), schema=MATCHES) for eye in eyes]

    def _seen_by(self, eye: str, images: NDArray[np.uint8]) -> dict[str, Any]:
        embeddings = embed_both_ways(self.eyes[eye], images, self.config.batch_size)
        found = self.reference.nearest(eye, embeddings, self.config.top_k)
        nearest, width = found.indices[:, 0], found.indices.shape[1]
        neighbours = self.image_ids.take(found.indices.ravel())
        offsets = pa.array(width * np.arange(len(images) + 1), pa.int32())
        return {
            "score": found.cosines[:, 0],
            "nearest_image_id": self.image_ids.take(nearest),
            "nearest_patient_id": self.patient_ids.take(nearest),
            "neighbour_scores": pa.ListArray.from_arrays(offsets, found.cosines.ravel()),
            "neighbour_image_ids": pa.ListArray.from_arrays(offsets, neighbours),
            **self._unseen(eye, embeddings, images),
        }

    def _unseen(self, eye: str, embeddings: NDArray[np.float32], images: NDArray[np.uint8]) -> dict[str, Any]:
        """Score against people the model never saw, and against equally large parts of those it saw."""
        if eye != "auditor" or self.unseen_ids is None:
            return {name: pa.nulls(len(images), MATCHES.field(name).type) for name in UNSEEN_COLUMNS}
        ours, theirs = (
            [self.reference.nearest(f"{side}matched/{number}", embeddings, 1) for number in range(MATCHED_PARTS)]
            for side in ("", f"{UNSEEN}_")
        )
        found = self.reference.nearest(UNSEEN, embeddings, 1)
        return {
            "matched_scores": _side_by_side(ours),
            "unseen_matched_scores": _side_by_side(theirs),
            "matched_patient_ids": _whose(ours, self.patient_ids),
            "unseen_matched_patient_ids": _whose(theirs, self.unseen_ids),
            "unseen_score": found.cosines[:, 0],
            "unseen_patient_id": self.unseen_ids.take(found.indices[:, 0]),
            "unseen_structure_score": self.reference.copied(f"{UNSEEN}_{STRUCTURE}", images).cosines[:, 0],
        }


def _whose(parts: Sequence[Neighbours], patients: pa.Array) -> pa.ListArray:
    rows = np.stack([part.indices[:, 0] for part in parts], axis=1)
    offsets = pa.array(len(parts) * np.arange(len(rows) + 1), pa.int32())
    return pa.ListArray.from_arrays(offsets, patients.take(pa.array(rows.ravel())))


def _side_by_side(parts: Sequence[Neighbours]) -> list[NDArray[np.float32]]:
    return list(np.concatenate([part.cosines for part in parts], axis=1))
