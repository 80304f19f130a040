"""Embed real images once, in one pass for all eyes, for every comparison with them."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import pyarrow as pa

from raydistill.core.columns import EMBEDDINGS
from raydistill.core.generation import MatchConfig
from raydistill.core.section import Compute, Section
from raydistill.core.store import Store
from raydistill.distributed.data import map_shards
from raydistill.distributed.shards import Piece, Shard
from raydistill.matching.search import checked
from raydistill.matching.thumbnails import KINDS, compared_by
from raydistill.reid.embedder import load_embedder
from raydistill.stages.base import Context, Outcome, Stage, View
from raydistill.stages.images import pixels

STRUCTURE = "structure"
PICTURES = tuple(f"{STRUCTURE}{kind}" for kind in KINDS)
"""Folders of what near-copies are found by, beside those of the eyes."""


class EmbedConfig(Section):
    """What of a match's configuration decides how a gallery is embedded."""

    batch_size: int
    near_copy_max_shift: int
    compute: Compute


class Embed(Stage):
    """Inputs: `images` (records), `eye_<name>` networks.

    Output: `<eye>/part-*.parquet`, and `PICTURES` like them; rows in the order of the images.
    """

    version: ClassVar[int] = 4
    resumable: ClassVar[bool] = True
    config: EmbedConfig

    def run(self, context: Context) -> Outcome:
        """Embed piece by piece on an actor pool."""
        images = context.inputs["images"]
        eyes = eyes_of(context.inputs)
        shards = [
            in_groups(images, name, name, [f"{folder}/{name}" for folder in (*eyes, *PICTURES)])
            for name in images.shards()
        ]
        map_shards(
            EmbedPiece,
            {"images": images, "eyes": eyes, "config": self.config},
            shards,
            out=context.out,
            work=context.work,
            compute=self.config.compute,
            progress=context.progress,
        )
        return Outcome(counts={"images": sum(sum(shard.rows) for shard in shards)})


class EmbedPiece:
    """Embeds a piece of the images. Built on an actor: loads the eyes."""

    def __init__(self, images: Store, eyes: Mapping[str, Store], config: EmbedConfig) -> None:
        """Load each eye onto the device that the configuration reserves."""
        self.images, self.config = images, config
        self.eyes = {name: load_embedder(store.keep_local(), config.compute.device) for name, store in eyes.items()}

    def __call__(self, piece: Piece) -> list[pa.Table]:
        """Return what each eye makes of the images, then what near-copies are found by.

        Raises:
            InputError: when an embedding isn't finite and of unit length.
        """
        table = self.images.read_row_group(piece.shard, piece.number, ["image_id", "patient_id", "image"])
        images = pixels(table)
        made = [checked(eye.embed(images, self.config.batch_size), name) for name, eye in self.eyes.items()]
        made += compared_by(images, self.config.near_copy_max_shift).values()
        ids = [table["image_id"], table["patient_id"]]
        return [pa.Table.from_arrays([*ids, pa.array(list(vectors))], schema=EMBEDDINGS) for vectors in made]


def galleries(
    images: Mapping[str, View], eyes: Mapping[str, View], match: MatchConfig, seed: int
) -> tuple[Embed, Embed]:
    """Return the nodes that embed whom a model may have learned from, and strangers of the same kind.

    Args:
        images: of every role; `train` is seen by all eyes, `evaluation` by the auditor alone.
        eyes: `eye_<name>` networks, the auditor's among them.
        match: how queries will be compared with them.
        seed: the run's.
    """
    how = EmbedConfig(batch_size=match.batch_size, near_copy_max_shift=match.near_copy_max_shift, compute=match.compute)
    seen, unseen = {"images": images["train"], **eyes}, {"images": images["evaluation"]}
    strangers = Embed("strangers", how, unseen | {"eye_auditor": eyes["eye_auditor"]}, seed)
    return Embed("gallery", how, seen, seed), strangers


def eyes_of(inputs: Mapping[str, Store]) -> dict[str, Store]:
    """Return the networks among a stage's inputs, `eye_<name>`, by name."""
    return {name.removeprefix("eye_"): store for name, store in inputs.items() if name.startswith("eye_")}


def in_groups(store: Store, name: str, unique: str, files: Sequence[str]) -> Shard:
    """Make a shard of which every piece is a row group of a file that is there.

    Args:
        store: where that file is.
        name: of that file.
        unique: name of the shard.
        files: that it becomes.
    """
    return Shard(unique, tuple(store.row_groups(name) or [0]), others=tuple(files))
