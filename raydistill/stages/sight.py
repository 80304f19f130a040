"""What can an auditor see? Treated images of the gallery, scored against it; no model or other network is needed."""

from collections.abc import Mapping
from typing import Any, ClassVar

import pyarrow as pa

from raydistill.core.config import SelfTestConfig
from raydistill.core.generation import MatchConfig
from raydistill.core.section import Compute, Section
from raydistill.core.seeds import derive_seed
from raydistill.core.store import Store
from raydistill.data.distortions import TREATMENTS, distort
from raydistill.distributed.data import map_shards
from raydistill.distributed.shards import Piece, Shard
from raydistill.reid.embedder import embed_both_ways, load_embedder
from raydistill.stages.base import Context, Outcome, Stage
from raydistill.stages.embed import STRUCTURE
from raydistill.stages.gallery import Galleries, Plan
from raydistill.stages.images import pixels, read_people

SEEN = pa.schema(
    [
        pa.field("source_role", pa.string(), nullable=False),
        pa.field("patient_id", pa.string(), nullable=False),
        pa.field("treatment", pa.string(), nullable=False),
        pa.field("auditor_score", pa.float32(), nullable=False),
        pa.field("structure_score", pa.float32(), nullable=False),
        pa.field("is_copy", pa.bool_(), nullable=False),
    ]
)
"""One treated image of a train patient: what of the self-test's table an audit reads."""


class SightConfig(Section):
    """How many images are treated, and how they are compared."""

    selftest: SelfTestConfig
    match: MatchConfig


class Sight(Stage):
    """Inputs: `train`, `gallery` (`Embed`), `eye_auditor`. Output: `planted/<treatment>.parquet`, `SEEN`."""

    version: ClassVar[int] = 1
    resumable: ClassVar[bool] = True
    config: SightConfig

    @property
    def compute(self) -> Compute:
        """What the stage asks of the cluster."""
        return self.config.selftest.compute

    def run(self, context: Context) -> Outcome:
        """Treat and score, a treatment at a time."""
        plan = Plan(context.inputs["gallery"], ("auditor",), None, context.seed)
        with Galleries.place(plan, self.config.match) as galleries:
            map_shards(
                SightShard,
                {"inputs": dict(context.inputs), "galleries": galleries, "config": self.config, "seed": self.seed},
                [Shard(f"{name}.parquet", (self.config.selftest.num_images,)) for name in TREATMENTS],
                out=context.out / "planted",
                work=context.work,
                compute=self.config.selftest.compute,
                progress=context.progress,
            )
        return Outcome(counts={"planted": len(TREATMENTS) * self.config.selftest.num_images})


class SightShard:
    """Treats images in one way. Built on an actor."""

    def __init__(self, inputs: Mapping[str, Store], galleries: Galleries, config: SightConfig, seed: int) -> None:
        """Load the auditor, find the gallery."""
        how = config.selftest
        self.eye = load_embedder(inputs["eye_auditor"].keep_local(), how.compute.device)
        self.reference = galleries.open(config.match.search_device if how.compute.num_gpus else "cpu")
        columns = ["image_id", "patient_id", "image"]
        self.records = read_people(inputs["train"], columns, how.num_images, derive_seed(seed, "train"))
        self.config, self.seed = config, seed

    def __call__(self, piece: Piece) -> tuple[pa.Table]:
        """Return the scores of every treated image."""
        treatment, count = piece.shard.removesuffix(".parquet"), self.records.num_rows
        seeds = [derive_seed(self.seed, treatment, image_id) for image_id in self.records["image_id"].to_pylist()]
        treated = distort(pixels(self.records), treatment, seeds)
        embeddings = embed_both_ways(self.eye, treated, self.config.match.batch_size)
        columns: dict[str, Any] = {
            "source_role": ["train"] * count,
            "patient_id": self.records["patient_id"],
            "treatment": [treatment] * count,
            "auditor_score": self.reference.nearest("auditor", embeddings, 1).cosines[:, 0],
            "structure_score": self.reference.copied(STRUCTURE, treated).cosines[:, 0],
            "is_copy": [True] * count,
        }
        return (pa.table(columns, schema=SEEN),)
