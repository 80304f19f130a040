"""The big job of the sample benchmark: phantoms by the million, matched and judged; it goes on where it was killed.

    python benchmarks/million.py ROWS FOLDER

The path is that of a run: Ray Data, pieces and shards, PNG and Parquet, two networks, exact search, a filter. Only the
images come from the phantom's renderer, as nothing else here makes a million of them in minutes.
"""

import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from raydistill.core.config import ClusterConfig, FilterConfig
from raydistill.core.generation import MatchConfig
from raydistill.distributed.environment import prepare_libraries
from raydistill.distributed.session import session

# Before they are imported; hence E402 below.
prepare_libraries()

import numpy as np  # noqa: E402
import pyarrow as pa  # noqa: E402

from raydistill.core.columns import RECORDS, SAMPLES  # noqa: E402
from raydistill.core.section import Compute  # noqa: E402
from raydistill.core.store import Store  # noqa: E402
from raydistill.core.training import BackboneConfig, ReidConfig  # noqa: E402
from raydistill.data.images import encode_png  # noqa: E402
from raydistill.data.phantom import render  # noqa: E402
from raydistill.distributed.data import map_shards  # noqa: E402
from raydistill.distributed.shards import Piece, cut  # noqa: E402
from raydistill.matching.policy import policy_at  # noqa: E402
from raydistill.reid.model import ReidNetwork  # noqa: E402
from raydistill.stages.base import Context, Stage  # noqa: E402
from raydistill.stages.embed import Embed, EmbedConfig  # noqa: E402
from raydistill.stages.filter import Filter, FilterNodeConfig  # noqa: E402
from raydistill.stages.match import Match, MatchPiece  # noqa: E402

SIDE, ROWS_PER_PIECE, SHARDS = 16, 1000, 16
COMPUTE = Compute(num_workers=2, num_cpus=0.9)
PEOPLE = {"train": 200, "probe": 20, "calibration": 100, "evaluation": 100}


def note(folder: Store, job: str, piece: Piece) -> None:
    """Write down that a piece is begun: what is lost with a kill has been paid for."""
    with open(f"{folder.path}/{job}.log", "a") as lines:
        lines.write(f"{piece.shard} {piece.first} {piece.rows}\n")


class PhantomPiece:
    """Renders a piece of the samples."""

    def __init__(self, folder: Store) -> None:
        """Keep where to write down what was done."""
        self.folder = folder

    def __call__(self, piece: Piece) -> tuple[pa.Table]:
        """Return the samples of a piece."""
        note(self.folder, "samples", piece)
        numbers = np.arange(piece.first, piece.first + piece.rows)
        pictures = render(numbers + 10**6, np.zeros_like(numbers), seed=0, resolution=SIDE)
        columns: dict[str, Any] = {field.name: pa.nulls(piece.rows, field.type) for field in SAMPLES}
        columns |= {
            "sample_id": [f"phantom-{number:08d}" for number in numbers],
            "prompt": ["chest x-ray"] * piece.rows,
            "labels": pictures.labels,
            "seed": numbers,
            "image": [encode_png(image) for image in pictures.images],
        }
        return (pa.table(columns, schema=SAMPLES),)


class NotedMatchPiece(MatchPiece):
    """Matches, and writes down what was done."""

    def __call__(self, piece: Piece) -> list[pa.Table]:
        """Return the matches of a piece."""
        note(Store.open(os.environ["MILLION_FOLDER"]), "matches", piece)
        return super().__call__(piece)


def records(folder: Store) -> None:
    """Write the real images: phantoms too, one image each."""
    first = 0
    for role, people in PEOPLE.items():
        # Probes are second visits of train patients.
        numbers = np.arange(people) if role == "probe" else np.arange(first, first + people)
        first += 0 if role == "probe" else people
        pictures = render(numbers, np.full_like(numbers, role == "probe"), seed=0, resolution=SIDE)
        columns: dict[str, Any] = {field.name: pa.nulls(people, field.type) for field in RECORDS}
        columns |= {
            "image_id": [f"{role}-{number}" for number in numbers],
            "patient_id": [str(number) for number in numbers],
            "study_index": [0] * people,
            "image": [encode_png(image) for image in pictures.images],
            "prompt": ["chest x-ray"] * people,
            "sha256": ["0"] * people,
        }
        folder.write_table(f"{role}/part-00000.parquet", pa.table(columns, schema=RECORDS))


def eyes(folder: Store) -> None:
    """Write two networks. They are small and know nothing: what they cost is what matters here."""
    for number, (eye, kind) in enumerate({"filter": "resnet", "auditor": "convnext"}.items()):
        config = ReidConfig(backbone=BackboneConfig(kind=kind, width=8), embedding_dim=64)
        place = Path(folder.path) / eye
        place.mkdir(parents=True, exist_ok=True)
        ReidNetwork.build(config, resolution=SIDE, seed=number).save(place)


def run(stage: Stage, context: Context) -> float:
    """Run a stage; seconds that it took."""
    start = time.monotonic()
    stage.run(context)
    return time.monotonic() - start


def main(rows: int, folder: Store) -> dict[str, float]:
    """Do what isn't done yet; return the seconds of each stage."""
    import raydistill.stages.match as match

    os.environ["MILLION_FOLDER"] = folder.path
    # The same work, written down.
    match.MatchPiece = NotedMatchPiece
    taken: dict[str, float] = {}
    with session(ClusterConfig(num_cpus=4, object_store_mb=300)):
        if not folder.exists("eyes"):
            records(folder / "records")
            eyes(folder / "eyes")
        start = time.monotonic()
        map_shards(
            PhantomPiece,
            {"folder": folder},
            cut(rows, -(-rows // SHARDS), ROWS_PER_PIECE),
            out=folder / "samples",
            work=folder / "work" / "samples",
            compute=COMPUTE,
            progress=lambda *_: None,
        )
        taken["samples"] = time.monotonic() - start
        seeing = {f"eye_{eye}": folder / "eyes" / eye for eye in ("filter", "auditor")}
        how = EmbedConfig(batch_size=250, near_copy_max_shift=2, compute=COMPUTE)
        context = Context(inputs={}, out=folder / "none", work=folder / "none", seed=0)
        auditor = {"eye_auditor": seeing["eye_auditor"]}
        for name, role, looking in (("gallery", "train", seeing), ("unseen", "evaluation", auditor)):
            inputs = {"images": folder / "records" / role, **looking}
            place = replace(context, inputs=inputs, out=folder / name, work=folder / "work" / name)
            run(Embed(name, how, {}, 0), place)
        queries = {f"query_{role}": folder / "records" / role for role in ("probe", "calibration", "evaluation")}
        inputs = {"images": folder / "samples", "gallery": folder / "gallery", "unseen": folder / "unseen"}
        place = replace(
            context, inputs={**inputs, **queries, **seeing}, out=folder / "matches", work=folder / "work" / "matches"
        )
        taken["matches"] = run(Match("matches", MatchConfig(batch_size=250, compute=COMPUTE), {}, 0), place)
        strangers = (folder / "matches" / "filter" / "calibration").read_table()
        policy = policy_at(strangers, 0.05, 0.05, 0.95)
        (folder / "policy").write_json("policy.json", policy.model_dump())
        inputs = {"samples": folder / "samples", "matches": folder / "matches" / "filter", "policy": folder / "policy"}
        place = replace(context, inputs=inputs, out=folder / "verdicts")
        taken["verdicts"] = run(
            Filter("verdicts", FilterNodeConfig(filter=FilterConfig(), confidence=0.95), {}, 0), place
        )
    return taken


if __name__ == "__main__":
    where = Store.open(sys.argv[2])
    said = main(int(sys.argv[1]), where)
    where.write_json("taken.json", said)
    print(json.dumps(said))
