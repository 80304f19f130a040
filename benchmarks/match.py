"""What the exact search costs: against a bare matrix product, against scoring pairs one by one, and as it grows.

    python benchmarks/match.py

One thread. Prints tables and, as the last line, one JSON object of figures. SIZE=full goes on to a million queries
among a hundred thousand.
"""

import json
import os
import time
from collections.abc import Callable
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import faiss
import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from raydistill.core.config import Config
from raydistill.matching.near_copy import StructureIndex
from raydistill.matching.search import ExactSearch
from raydistill.reid.model import ReidNetwork

FULL = os.environ.get("SIZE") == "full"
TURNS = 15 if FULL else 7
DIMENSIONS, NEIGHBOURS = 128, 5
SIDE = 64

console = Console(width=140)
Vectors = NDArray[np.float32]


def unit(rows: int, dimensions: int = DIMENSIONS, seed: int = 0) -> Vectors:
    """Random vectors of unit length, (rows, dimensions)."""
    vectors = np.random.default_rng(seed).standard_normal((rows, dimensions), dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def seconds(work: Callable[[], Any]) -> float:
    """Seconds that something takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def in_turns(works: dict[str, Callable[[], Any]], turns: int = TURNS) -> dict[str, NDArray[np.float64]]:
    """Seconds of each work, turn by turn, so that a neighbour on the machine slows all of them alike."""
    taken: dict[str, list[float]] = {name: [] for name in works}
    for work in works.values():
        work()
    for _ in range(turns):
        for name, work in works.items():
            taken[name].append(seconds(work))
    return {name: np.array(times) for name, times in taken.items()}


def against_products() -> dict[str, float]:
    """Pairs a second of the search beside products of the same shapes, none of which look for anything."""
    table = Table(
        "gallery", "queries", "compared with", "its pairs/s", "search over it (middle half)", title="Products"
    )
    figures = {}
    for rows, queries in ((10_000, 4096), (100_000, 1024)):
        gallery, asked = unit(rows), unit(queries, seed=1)
        search, ours, theirs = ExactSearch(gallery), torch.from_numpy(asked), torch.from_numpy(gallery)
        works = {
            "search": lambda search=search, asked=asked: search.search(asked, NEIGHBOURS),
            "numpy, 1024 queries a product": lambda asked=asked, gallery=gallery: [
                part @ gallery.T for part in np.split(asked, len(asked) // 1024)
            ],
            "torch, blocks of 256 x 4096": lambda ours=ours, theirs=theirs: [
                part @ block.T for part in ours.split(256) for block in theirs.split(4096)
            ],
        }
        taken = in_turns(works)
        best = []
        for name, times in taken.items():
            low, middle, high = np.quantile(times / taken["search"], [0.25, 0.5, 0.75])
            pace = rows * queries / np.median(times)
            table.add_row(f"{rows:,}", f"{queries:,}", name, f"{pace:.2e}", f"{middle:.2f} ({low:.2f} to {high:.2f})")
            if name != "search":
                best.append(float(middle))
        # Against the faster of the two.
        figures[f"pairs_per_s_vs_gemm_{rows}"] = round(min(best), 3)
    console.print(table)
    return {"pairs_per_s_vs_gemm": min(figures.values())} | figures


def against_pairs() -> dict[str, float]:
    """Pairs a second of search, its embedding counted in, beside a network that is shown every pair.

    The pairwise way is that of a Siamese network with a head on two embeddings: two images pass through the network for
    each pair, as where the score of a pair is the network's output.
    """
    config = Config().eyes.filter
    network = ReidNetwork.build(config, resolution=SIDE, seed=0).eval()
    queries, rows, pairs = 256, 10_000, 128
    pictures = torch.randint(0, 256, (max(queries, pairs), SIDE, SIDE), dtype=torch.uint8)
    gallery = unit(rows, config.embedding_dim)
    search = ExactSearch(gallery)

    @torch.inference_mode()
    def one_by_one() -> None:
        left, right = network(pictures[:pairs]), network(pictures[:pairs].flip(0))
        (left * right).sum(dim=1)

    @torch.inference_mode()
    def ours() -> None:
        embedded = torch.cat([network(part) for part in pictures[:queries].split(128)])
        search.search(embedded.numpy(), NEIGHBOURS)

    taken = in_turns({"pairwise": one_by_one, "search": ours})
    paces = {"pairwise": pairs / taken["pairwise"], "search": queries * rows / taken["search"]}
    low, middle, high = np.quantile(paces["search"] / paces["pairwise"], [0.25, 0.5, 0.75])
    table = Table("way", "pairs/s", title=f"A gallery of {rows:,} at {SIDE} px, embedding the queries included")
    for name, pace in paces.items():
        table.add_row(name, f"{np.median(pace):.3g}")
    table.add_row("search over pairwise", f"{middle:,.0f} ({low:,.0f} to {high:,.0f})")
    console.print(table)
    return {"pairs_per_s_vs_pairwise_siamese": round(float(middle), 1)}


def growth() -> dict[str, float]:
    """Time by the number of pairs, and the slope of one's logarithm by the other's. No query comes twice."""
    sizes = [(queries, rows) for rows in (10_000, 100_000) for queries in (10_000, 100_000, 1_000_000)]
    sizes = [(q, g) for q, g in sizes if q * g <= (10**11 if FULL else 10**10)]
    table, points = Table("samples", "gallery", "seconds", "pairs/s", title="Growth"), []
    for queries, rows in sizes:
        search, taken = ExactSearch(unit(rows)), 0.0
        for turn in range(queries // 10_000):
            block = unit(10_000, seed=turn + 1)
            taken += seconds(lambda search=search, block=block: search.search(block, NEIGHBOURS))
        points.append((np.log(queries * rows), np.log(taken)))
        table.add_row(f"{queries:,}", f"{rows:,}", f"{taken:.1f}", f"{queries * rows / taken:.2e}")
    console.print(table)
    slope = float(np.polyfit(*np.array(points).T, 1)[0])
    console.print(f"seconds grow as pairs to the power of {slope:.3f}")
    return {"growth_exponent": round(slope, 4)}


def structure() -> dict[str, float]:
    """Pairs a second of the search for near-copies, which looks at many places of a query, beside that of vectors.

    And what it costs to compare its places both ways, as they are and mirrored, beside one way.
    """
    queries, rows = 512, 10_000
    pictures = np.random.default_rng(0).integers(0, 256, (rows, 32, 32), np.uint8)
    asked = np.random.default_rng(1).integers(0, 256, (queries, SIDE, SIDE), np.uint8)
    index, vectors, wanted = StructureIndex.of(pictures, 2), ExactSearch(unit(rows)), unit(queries, seed=1)
    placed = index.exact.vectors[:2048]
    works = {
        "vectors": lambda: vectors.search(wanted, NEIGHBOURS),
        "structures": lambda: index.search(asked),
        "2,048 placements, one way": lambda: index.exact.propose(placed, 1),
        "2,048 placements, both ways": lambda: index.exact.best_either_way(placed, placed.shape[1] // 2),
    }
    taken = in_turns(works, 3)
    table = Table("search", "pairs/s", title=f"Near-copies: {queries} pictures of {SIDE} px among {rows:,}")
    for name, times in taken.items():
        asking = len(placed) if "placements" in name else queries
        table.add_row(name, f"{asking * rows / np.median(times):.2e}")
    console.print(table)
    one, both = (taken[f"2,048 placements, {way}"] for way in ("one way", "both ways"))
    return {
        "structure_pairs_per_s_vs_vectors": round(float(np.median(taken["vectors"] / taken["structures"])), 5),
        "both_ways_over_one": round(float(np.median(both / one)), 3),
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    print(json.dumps(against_products() | against_pairs() | structure() | growth()))
