"""What queries are compared with, put where the workers of a job find it: embeddings of real images."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa

from raydistill.core.generation import MatchConfig
from raydistill.core.seeds import generator
from raydistill.core.store import Store
from raydistill.distributed.shared import Shared, Spread, room_in_object_store
from raydistill.matching.reference import MATCHED_PARTS, Arrays, Compared, Parts, Reference, equally_made
from raydistill.matching.search import Places, Vectors
from raydistill.stages.embed import PICTURES, STRUCTURE

MB = 2**20

GALLERY = "gallery.json"
"""Beside the matches of an eye: how many images they were compared with, and a hash of their ids."""

SHARE_OF_OBJECT_STORE = 0.4
"""Of a node's object store that a gallery may take before it is spread: blocks on their way need room too."""

UNSEEN = "unseen"
"""Name of the gallery of people that the model never saw; the auditor's."""


@dataclass(frozen=True)
class Plan:
    """Where galleries are and how they are cut; small, so that every worker can read its own part.

    Attributes:
        seen: an `Embed` artifact, of train images.
        eyes: whose galleries of it are needed.
        unseen: another, of people that the model never saw, seen by the auditor.
        seed: of the matched parts.
        parts: how many workers share it.
    """

    seen: Store
    eyes: tuple[str, ...]
    unseen: Store | None
    seed: int
    parts: int = 1

    def arrays(self, part: int) -> Arrays:
        """Read one of the parts: of all arrays every `parts`-th row from `part` on."""
        galleries = {eye: vectors_of(self.seen / eye, part, self.parts) for eye in self.eyes}
        structures = {folder: vectors_of(self.seen / folder, part, self.parts) for folder in PICTURES}
        rows = {}
        if self.unseen:
            galleries[UNSEEN] = vectors_of(self.unseen / "auditor", part, self.parts)
            structures |= {
                f"{UNSEEN}_{folder}": vectors_of(self.unseen / folder, part, self.parts) for folder in PICTURES
            }
            for number, sides in enumerate(self._matched()):
                for whole, prefix, chosen in zip(("auditor", UNSEEN), ("", f"{UNSEEN}_"), sides, strict=True):
                    mine, name = chosen[chosen % self.parts == part], f"{prefix}matched/{number}"
                    galleries[name], rows[name] = galleries[whole][mine // self.parts], mine
        for name, vectors in {**galleries, **structures}.items():
            rows.setdefault(name, part + self.parts * np.arange(len(vectors)))
        return Arrays(galleries, structures, rows)

    def _matched(self) -> list[tuple[Places, Places]]:
        assert self.unseen
        seen, unseen = (_ids(store / STRUCTURE, "patient_id").to_numpy(False) for store in (self.seen, self.unseen))
        rng = generator(self.seed, "matched_parts")
        return [equally_made(seen, unseen, rng) for _ in range(MATCHED_PARTS)]

    def bytes(self) -> int:
        """Size of all arrays together, without reading them."""
        sizes = {eye: _shape(self.seen / eye) for eye in (*self.eyes, *PICTURES)}
        total = sum(rows * width for rows, width in sizes.values())
        if self.unseen:
            unseen = [_shape(self.unseen / name) for name in ("auditor", *PICTURES)]
            total += sum(rows * width for rows, width in unseen)
            total += 2 * MATCHED_PARTS * min(sizes["auditor"], unseen[0])[0] * unseen[0][1]
        return total * np.dtype(np.float32).itemsize


def part_of(plan: Plan, part: int, device: str) -> Reference:
    """Read one of the parts of a plan and make it searchable."""
    return Reference(plan.arrays(part), device)


@dataclass(frozen=True)
class Galleries:
    """A reference on its way to workers, and whose images its rows are.

    Attributes:
        plan: how it is cut.
        held: where its arrays are: in the object store, or with actors that hold the parts; None reads the files.
        names: of the arrays in the object store by kind, `galleries` and `structures`.
    """

    plan: Plan
    held: Shared | Spread | None = None
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    @contextmanager
    def place(cls, plan: Plan, config: MatchConfig) -> Iterator["Galleries"]:
        """Put one copy on each node that asks; spread the gallery over actors where that would be too much.

        They are gone, and what they claimed is free, when the context ends.
        """
        most = min(config.gallery_mb * MB, SHARE_OF_OBJECT_STORE * room_in_object_store())
        parts = max(1, -(-plan.bytes() // max(1, int(most))))
        if parts == 1:
            yield cls._shared(plan)
            return
        plan = replace(plan, parts=parts)
        arguments = [{"plan": plan, "part": part, "device": config.search_device} for part in range(parts)]
        spread = Spread.start(part_of, arguments, config.compute)
        try:
            yield cls(plan, spread)
        finally:
            spread.stop()

    @classmethod
    def _shared(cls, plan: Plan) -> "Galleries":
        arrays = plan.arrays(0)
        names = {"galleries": tuple(arrays.galleries), "structures": tuple(arrays.structures)}
        return cls(plan, Shared.put({**arrays.galleries, **arrays.structures}), names)

    def open(self, device: str) -> Compared:
        """Return what a worker searches."""
        if self.held is None:
            return part_of(self.plan, 0, device)
        if isinstance(self.held, Spread):
            return Parts(self.held.ask)
        arrays = self.held.get()
        galleries, structures = (
            {name: arrays[name] for name in self.names[kind]} for kind in ("galleries", "structures")
        )
        return Reference(Arrays(galleries, structures, {}), device)

    def image_ids(self) -> pa.Array:
        """Image ids of the rows of every gallery of train images."""
        return _ids(self.plan.seen / STRUCTURE, "image_id")

    def patient_ids(self, unseen: bool = False) -> pa.Array:
        """Patient ids of the rows, of the unseen gallery if asked for."""
        store = self.plan.unseen if unseen else self.plan.seen
        assert store
        return _ids(store / STRUCTURE, "patient_id")


def digest_of(image_ids: pa.ChunkedArray | pa.Array) -> str:
    """Return a hash of a set of image ids, in whatever order: whether two galleries hold the same images."""
    return hashlib.sha256("\n".join(sorted(image_ids.to_pylist())).encode()).hexdigest()


def vectors_of(folder: Store, part: int = 0, parts: int = 1) -> Vectors:
    """Read embeddings (rows, D) of an `Embed` artifact's folder: of all shards every `parts`-th row from `part` on."""
    mine, start = [], 0
    for shard in folder.shards():
        vectors = _vectors(folder, shard)
        # A copy: a view would keep the whole array.
        mine.append(vectors[(part - start) % parts :: parts].copy())
        start += len(vectors)
    return np.ascontiguousarray(np.concatenate(mine))


def _vectors(folder: Store, shard: str) -> Vectors:
    column = folder.read_table(shard, columns=["embedding"])["embedding"].combine_chunks()
    return np.asarray(column.flatten().to_numpy(), dtype=np.float32).reshape(len(column), -1)


def _shape(folder: Store) -> tuple[int, int]:
    """Rows and dimensions of embeddings."""
    shards = folder.shards()
    width = len(folder.read_row_group(shards[0], 0, ["embedding"])["embedding"][0])
    return sum(sum(folder.row_groups(shard)) for shard in shards), width


def _ids(folder: Store, column: str) -> pa.Array:
    return folder.read_table(columns=[column])[column].combine_chunks()
