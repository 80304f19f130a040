"""Is the verdict right, and do the intervals hold? Worlds whose truth is known, and detectors side by side.

    python benchmarks/evidence.py [RUN …]

Generators that copy, that copy a little, that show the same people anew, that are honest, that repeat themselves, and a
cohort too small to tell: each over SEEDS cohorts of phantoms, judged by the product's own audit and the audit's part of
its gate (`worlds.py` says what that leaves out). Three ways to cheat are tried. The self-test of each RUN, a finished
run folder, is shown with baselines beside the filter; without one a small run is made for it, in runs/selftest. Four
cohorts by default, which take a quarter of an hour; twenty with SIZE=full, and honest generators of so many people that
they must pass. With KEPT=FOLDER, what was judged already by this version of the code is read from there, and the rest
is kept there. Prints tables, and as the last line one JSON object; its figures of the self-test are those of the last
RUN.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import torch
from detectors import table_of
from pydantic import ValidationError
from worlds import LARGE, TRUTHS, Truth, World, drawn, same_people

from raydistill.core.config import Budgets, Config
from raydistill.core.errors import ConfigError, InputError
from raydistill.core.seeds import generator
from raydistill.core.store import Store
from raydistill.data.distortions import distort
from raydistill.metrics.result import Verdict
from raydistill.reid.model import PUBLIC, ReidNetwork
from raydistill.stages.train_reid import TrainReid

KEPT = os.environ.get("KEPT")
FULL = os.environ.get("SIZE") == "full"
SEEDS = int(os.environ.get("SEEDS", 20 if FULL else 4))
PATIENTS, SAMPLES = 1000, 1200
PROCESSES = 2
VERDICTS: tuple[Verdict, ...] = ("fail", "insufficient_evidence", "pass")
TRIED = TRUTHS | (LARGE if FULL else {})


def judged(seed: int) -> list[dict[str, Any]]:
    """Judge every generator in the cohorts of a seed, or read what was said of them."""
    if not KEPT:
        return _judged_all(seed, TRIED)
    place, file = Store.open(f"{KEPT}/{_version()}"), f"cohort-{seed}.json"
    rows = {row["name"]: row for row in (place.read_json(file) if place.is_file(file) else [])}
    for names in (TRUTHS.keys() - rows.keys(), TRIED.keys() - rows.keys()):
        if missing := {name: truth for name, truth in TRIED.items() if name in names and name not in rows}:
            rows |= {row["name"]: row for row in _judged_all(seed, missing)}
            place.write_json(file, list(rows.values()))
    return [rows[name] for name in TRIED]


@cache
def _version() -> str:
    """Return a digest of all code, and of all packaged weights, that have a say in a verdict."""
    digest, root = sha256(), Path(__file__).parents[1]
    packaged = [path for path in (root / "raydistill").rglob("*") if path.suffix in {".py", ".safetensors", ".json"}]
    for path in sorted([*packaged, *Path(__file__).parent.glob("*.py")]):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _judged_all(seed: int, truths: Mapping[str, Truth]) -> list[dict[str, Any]]:
    torch.set_num_threads(1)
    folder, found = tempfile.mkdtemp(), []
    try:
        worlds: dict[int, World] = {}
        for name, truth in truths.items():
            size = truth.patients or PATIENTS
            if size not in worlds:
                worlds[size] = World(f"{folder}/{size}", seed, size)
            found.append({"seed": seed, "name": name} | _judged(worlds[size], name, truth))
        return found
    finally:
        shutil.rmtree(folder)


def _judged(world: World, name: str, truth: Truth) -> dict[str, Any]:
    metrics = world.audited(drawn(truth, world, truth.samples or SAMPLES, name), f"of_{list(TRIED).index(name)}")
    verdict, reasons = world.verdict(metrics, Budgets())
    leak = metrics["leak_rate"]
    low, high = leak.interval or (0.0, 1.0)
    return {
        "verdict": verdict,
        "reason": reasons[0],
        "leak": leak.value,
        "covers": leak.value is not None and low <= truth.leak <= high,
        "interval": (low, high),
        "copied": metrics["copied_excess"].interval,
        "excess": metrics["excess_risk"].interval,
    }


def cheats() -> list[tuple[str, bool, str]]:
    """Try to cheat: a student graded by its own filter's network, under one name or two; a gallery with gaps."""
    same = {"eyes": {"auditor": {"backbone": {"kind": "resnet"}, "seed": 9}}}
    try:
        Config.model_validate(same)
        tried = [("graded by its own filter's backbone", False, "accepted")]
    except ValidationError as error:
        said = error.errors()[0]["msg"]
        tried = [("graded by its own filter's backbone", "graded by its own filter" in said, said)]
    tried.append(_under_two_names())
    for pair in (("resnet", "regnet"), ("regnet", "resnet")):
        with tempfile.TemporaryDirectory() as folder:
            tried.append(_graded_by_itself(folder, *pair))
    with tempfile.TemporaryDirectory() as folder:
        world = World(folder, 0, 200, left_out=True)
        try:
            world.audited(same_people(world, 64, generator(1, "cheat")), "cheat")
            tried.append(("one patient left out of the gallery", False, "audited"))
        except InputError as error:
            tried.append(("one patient left out of the gallery", True, str(error).split(" was ")[1]))
    return tried


def _under_two_names() -> tuple[str, bool, str]:
    """Let the filter have packaged weights, and the auditor the same in a folder."""
    name = "filter and auditor are one network under two names"
    with tempfile.TemporaryDirectory() as folder:
        ReidNetwork.load(PUBLIC / "resnet").backbone.save_pretrained(folder)
        eyes = {"filter": {"backbone": {"kind": "resnet"}, "seed": 10}}
        eyes |= {"auditor": {"backbone": {"pretrained": folder}, "seed": 11}}
        config = Config.model_validate({"eyes": eyes})
        try:
            TrainReid("reid_auditor", config.eyes.auditor, {}, 0).check(config)
        except ConfigError as error:
            return name, "under two names" in str(error), str(error)
    return name, False, "accepted"


def _graded_by_itself(folder: str, its_filter: str, auditor: str) -> tuple[str, bool, str]:
    """Filter new, cropped pictures of train patients by one network; ask it what leaks of the rest, and ask another."""
    own, other = (World(f"{folder}/{kind}", 0, 400, kind) for kind in (its_filter, auditor))
    images = distort(same_people(own, 600, generator(2, "cheat")), "crop", list(range(600)))
    own.audited(images, "all")
    flagged = (own.store / "all_audit").read_table("tables/audit.parquet")["flagged"].to_numpy()
    kept = images[~flagged]
    graded, audited = (world.audited(kept, "kept")["excess_risk"] for world in (own, other))
    found = graded.value is not None and graded.value <= 0.0 < min(audited.interval or (0.0,))
    said = f"{len(kept)} of 600 kept, excess risk {graded.value:.3f} by itself, {audited.value:.3f} by the auditor"
    return f"graded by its own filter's network ({its_filter}; auditor {auditor})", found, said


def is_right(row: Mapping[str, Any]) -> bool:
    """Say whether a verdict is right; any is of a leak within the budget."""
    return row["verdict"] in (TRIED[row["name"]].right or VERDICTS)


def every() -> Iterator[dict[str, Any]]:
    """Judge seed by seed, two at a time."""
    with ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn")) as pool:
        for done, rows in enumerate(pool.map(judged, range(SEEDS)), start=1):
            right, held = sum(map(is_right, rows)), sum(row["covers"] for row in rows)
            said = f"cohort {done} of {SEEDS}: {right} of {len(rows)} verdicts right, {held} intervals hold the truth"
            print(said, file=sys.stderr, flush=True)
            yield from rows


def made() -> str:
    """Make a run for the table of the self-test, or go on with it."""
    here = Path(__file__).parent
    job = [sys.executable, str(here.parent / "jobs" / "distill.py"), "--config", str(here / "selftest.yaml")]
    subprocess.run([*job, "--run-dir", "runs/selftest"], check=True, stdout=sys.stderr)
    return "runs/selftest"


def main() -> None:
    """Judge, try to cheat, compare detectors, print."""
    rows = list(every())
    others = "; ".join(
        f"{name}: {t.patients} patients, {t.samples or SAMPLES} samples" for name, t in TRIED.items() if t.patients
    )
    print(f"{SEEDS} cohorts, {PATIENTS} patients, {SAMPLES} samples each ({others})\n")
    print(f"| generator | leak | right | {' | '.join(VERDICTS)} | leak found, mean | its interval holds it | reason |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, truth in TRIED.items():
        mine = [row for row in rows if row["name"] == name]
        known = [row["leak"] for row in mine if row["leak"] is not None]
        mean = f"{sum(known) / len(known):.3f}" if known else "-"
        counts = " | ".join(str(sum(row["verdict"] == verdict for row in mine)) for verdict in VERDICTS)
        held = f"{sum(row['covers'] for row in mine)} of {len(mine)}"
        right, reason = " or ".join(truth.right) or "any", mine[0]["reason"]
        print(f"| {name} | {truth.leak:g} | {right} | {counts} | {mean} | {held} | {reason} |")
    judgeable = [row for row in rows if TRIED[row["name"]].right]
    wrong = [row for row in judgeable if not is_right(row)]
    honest = [row for row in rows if "pass" in TRIED[row["name"]].right]
    for row in wrong:
        print(f"wrong: {row}")
    print()
    for name, failed, how in cheats():
        print(f"cheat: {name}: {'found out' if failed else 'NOT FOUND OUT'}: {how}")
    # An interval that ends at 1 can't miss a leak of 1.
    can_miss = [row["covers"] for row in rows if TRIED[row["name"]].leak < 1]
    figures: dict[str, Any] = {
        "verdicts_right": len(judgeable) - len(wrong),
        "verdicts_tried": len(judgeable),
        "leaks_passed": sum(row["verdict"] == "pass" and TRIED[row["name"]].leak > 0 for row in judgeable),
        "honest_passed": round(sum(row["verdict"] == "pass" for row in honest) / len(honest), 4),
        "false_accusations": sum(row["verdict"] == "fail" and not TRIED[row["name"]].leak for row in rows),
        "interval_coverage": round(sum(can_miss) / len(can_miss), 4),
        "intervals": len(can_miss),
        "interval_coverage_by_generator": {
            name: sum(row["covers"] for row in rows if row["name"] == name) / SEEDS for name in TRIED
        },
    }
    for run in sys.argv[1:] or [made()]:
        figures |= table_of(Store.open(run))
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
