"""How well the re-identification networks recognise people they never saw: rank-1, pairs, by time, without duplicates.

    python benchmarks/reid.py FILE [KIND …]

FILE is a cohort in raydistill's Parquet form; half of its patients teach, the other half are the test. KIND is a
backbone (resnet and regnet by default). Prints, for the test half: rank-1 (the share of images, of patients who have
another, whose nearest image is that patient's), the same as a mean over patients, and the area under the ROC curve of
all pairs, also with at most ten images a patient; rank-1 by the time between two images of a patient; and after
near-duplicates were removed. Beside them: raw pixels, and the packaged weights as they are. Last line: one JSON object.
"""

import json
import os
import sys
import tempfile
import time
from functools import partial
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from raydistill.core.config import Config
from raydistill.core.section import Compute
from raydistill.core.store import Store
from raydistill.core.training import BackboneConfig, DeepSpeedConfig, OptimizerConfig, ReidConfig
from raydistill.data.images import decode_batch
from raydistill.distributed.environment import prepare_libraries
from raydistill.distributed.job import TrainJob
from raydistill.distributed.train import train_here
from raydistill.matching.duplicates import near_duplicates
from raydistill.matching.thumbnails import unit
from raydistill.metrics.bootstrap import resample, weighted_mean
from raydistill.reid.embedder import ReidEmbedder
from raydistill.reid.model import PUBLIC
from raydistill.reid.training import ReidObjective

STEPS, BATCH, MOST_IMAGES, SEED = 1600, 64, 10, 0
GAPS = {"same year": (0, 0), "1 year apart": (1, 1), "2 years or more": (2, 200)}
"""Years of age between two images of a patient: the only clock that the table has."""


def main() -> None:
    """Train, test, print."""
    prepare_libraries()
    table = pq.read_table(sys.argv[1])
    images = decode_batch(table["image"].to_pylist())
    patients = np.array(table["patient_id"].to_pylist(), dtype=str)
    ages = np.array(table["age"].to_pylist(), dtype=float)
    teaching = halved(patients)
    test, whose, when = images[~teaching], patients[~teaching], ages[~teaching]
    alone = np.ones(len(test), bool)
    similar = Config().ingest.near_duplicate_similarity
    alone[list(near_duplicates(table.filter(~teaching)["image"].to_pylist(), similar or 1.0))] = False
    print(
        f"{int(teaching.sum())} images of {len(set(patients[teaching]))} patients teach; "
        f"{len(test)} of {len(set(whose))} test"
    )
    print(
        "| network | rank-1 (95 % interval) | by patient | pair AUC | capped | "
        + " | ".join(GAPS)
        + " | no duplicates | minutes |"
    )
    print("|---|" + "---|" * (6 + len(GAPS)))
    figures: dict[str, Any] = {
        "raw pixels": report(
            "raw pixels", unit(test.reshape(len(test), -1).astype(np.float32)), whose, when, alone, 0.0
        )
    }
    vectors = {}
    for kind in sys.argv[2:] or ("resnet", "regnet"):
        untaught = ReidEmbedder.load(PUBLIC / kind).embed(test, BATCH)
        figures[f"{kind}, packaged"] = report(f"{kind}, packaged", untaught, whose, when, alone, 0.0)
        start = time.perf_counter()
        vectors[kind] = taught(kind, images[teaching], patients[teaching]).embed(test, BATCH)
        minutes = (time.perf_counter() - start) / 60
        figures[kind] = report(f"**{kind}**", vectors[kind], whose, when, alone, minutes)
    if len(vectors) > 1:
        together = np.concatenate(list(vectors.values()), axis=1) / np.sqrt(len(vectors))
        figures["together"] = report("together", together, whose, when, alone, 0.0)
    print(json.dumps(figures))


def halved(patients: NDArray[np.str_]) -> NDArray[np.bool_]:
    """Mark the images of half of the patients, of those with one, few and many images alike."""
    rng, names, counts = np.random.default_rng(SEED), *np.unique(patients, return_counts=True)
    chosen: set[str] = set()
    for group in (names[counts == 1], names[(counts > 1) & (counts <= 4)], names[counts > 4]):
        chosen |= set(rng.permutation(group)[: len(group) // 2])
    return np.array([name in chosen for name in patients])


def taught(kind: Any, images: NDArray[np.uint8], patients: NDArray[np.str_]) -> ReidEmbedder:
    """Train a network as a run does, in this process."""
    config = ReidConfig(
        backbone=BackboneConfig(kind=kind),
        optimizer=OptimizerConfig(steps=STEPS, batch_size=BATCH, lr=1e-3, weight_decay=0.05),
        seed=1,
    )
    with tempfile.TemporaryDirectory() as folder:
        train_here(
            TrainJob(
                make_objective=partial(ReidObjective, images, patients, config, SEED),
                optimizer=config.optimizer,
                deepspeed=DeepSpeedConfig(zero_stage=0),
                compute=Compute(num_workers=1),
                ema_decay=None,
                out=Store.open(f"{folder}/out"),
                weights="network",
                work=Store.open(f"{folder}/work"),
                seed=SEED,
            )
        )
        return ReidEmbedder.load(f"{folder}/out/network")


def report(
    name: str, vectors: NDArray[Any], whose: NDArray[Any], when: NDArray[Any], alone: NDArray[Any], minutes: float
) -> dict[str, Any]:
    """Print a row; return its figures."""
    similarity = vectors @ vectors.T
    np.fill_diagonal(similarity, -2.0)
    same = whose[:, None] == whose
    np.fill_diagonal(same, False)
    has = same.any(axis=1)
    hits = (whose[similarity.argmax(axis=1)] == whose)[has]
    rank = float(hits.mean())
    spread = resample(weighted_mean(hits.astype(float)), whose[has], seed=SEED)
    low, high = spread.logit(rank, spread.num_clusters, 0.95) or (0.0, 1.0)
    by_patient = float(np.mean([hits[whose[has] == who].mean() for who in set(whose[has])]))
    every = np.triu(np.ones(same.shape, bool), 1)
    few = np.zeros(len(whose), bool)
    for who in set(whose):
        mine = np.flatnonzero(whose == who)
        few[np.random.default_rng(SEED).permutation(mine)[:MOST_IMAGES]] = True
    areas = [roc_auc_score(same[pairs], similarity[pairs]) for pairs in (every, every & few[:, None] & few)]
    gaps = {name: at_gap(similarity, same, whose, when, *years) for name, years in GAPS.items()}
    kept = has & alone & (same & alone).any(axis=1)
    among = np.where(alone, similarity, -2.0)
    clean = float((whose[among.argmax(axis=1)] == whose)[kept].mean())
    said = [f"{rank:.3f} ({low:.3f} to {high:.3f})", f"{by_patient:.3f}", f"{areas[0]:.3f}", f"{areas[1]:.3f}"]
    said += [f"{value:.3f} ({count})" for value, count in gaps.values()] + [f"{clean:.3f} ({int(kept.sum())})"]
    print(f"| {name} | " + " | ".join(said) + f" | {minutes:.1f} |", flush=True)
    return {"rank_1": round(rank, 4), "by_patient": round(by_patient, 4), "pair_auc": round(areas[0], 4)} | {
        "pair_auc_capped": round(areas[1], 4), "rank_1_no_duplicates": round(clean, 4)
    }  # fmt: skip


def at_gap(similarity: Any, same: Any, whose: Any, when: Any, least: int, most: int) -> tuple[float, int]:
    """Return rank-1 among strangers and the patient's images at such a distance in time, and the number of images."""
    apart = np.abs(when[:, None] - when)
    right = same & (apart >= least) & (apart <= most)
    asked = right.any(axis=1)
    allowed = np.where(same & ~right, -2.0, similarity)
    found = right[np.arange(len(whose)), allowed.argmax(axis=1)]
    return (float(found[asked].mean()) if asked.any() else float("nan")), int(asked.sum())


if __name__ == "__main__":
    main()
