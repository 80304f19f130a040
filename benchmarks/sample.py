"""What sampling through Ray Data costs, what the solver saves, and what a million rows take.

    python benchmarks/sample.py [throughput] [solver] [memory]

Prints tables and, as the last line, one JSON object of figures; a quarter of an hour on two cores. A teacher is trained
on phantoms first. SIZE=full takes more samples and turns. The big job is `benchmarks/million.py`; it is killed twice.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from raydistill.core.config import ClusterConfig, Config
from raydistill.core.generation import RequestConfig, SampleConfig
from raydistill.distributed.environment import prepare_libraries
from raydistill.distributed.session import session

# Before they are imported; hence E402 below.
prepare_libraries()

import numpy as np  # noqa: E402
import psutil  # noqa: E402
import torch  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from raydistill.core.loading import validate  # noqa: E402
from raydistill.core.section import Compute  # noqa: E402
from raydistill.core.store import Store  # noqa: E402
from raydistill.data.images import encode_png  # noqa: E402
from raydistill.data.requests import Requests  # noqa: E402
from raydistill.diffusion.features import public_features  # noqa: E402
from raydistill.diffusion.sampling import Sampler, Way  # noqa: E402
from raydistill.distributed.data import map_shards  # noqa: E402
from raydistill.distributed.shards import cut  # noqa: E402
from raydistill.metrics.fidelity import frechet_distance  # noqa: E402
from raydistill.pipeline import wire  # noqa: E402
from raydistill.runner import Runner  # noqa: E402
from raydistill.stages.images import pixels  # noqa: E402
from raydistill.stages.sample import SamplePiece  # noqa: E402

FULL = os.environ.get("SIZE") == "full"
MEASURES = ("throughput", "solver", "memory")
ROUNDS, PIECES, ROWS = (6, 24, 64) if FULL else (3, 8, 64)
SAMPLES = 4096 if FULL else 1024
STEPS = (6, 8, 10, 12, 15)
SMALL, LARGE = 10_000, int(os.environ.get("LARGE", 1_000_000))
SAMPLE_EVERY_S = 0.5

console = Console(width=130)


def configuration() -> Config:
    """A cohort of phantoms and a teacher that has learned what they look like."""
    return validate(
        {
            "name": "bench_sample",
            "source": {"kind": "phantom", "num_patients": 700, "max_visits": 4, "resolution": 32},
            "ingest": {"resolution": 32},
            "teacher": {
                "block_out_channels": [32, 64],
                "optimizer": {"steps": 1500, "batch_size": 32, "lr": 0.001},
                "guard": {"max_gap": None},
                "preview_every": 0,
            },
        }
    )


class Taught:
    """A trained teacher, its prompts and the images it learned from."""

    def __init__(self, folder: Store) -> None:
        """Train it, or find it trained."""
        config = configuration()
        runner = Runner(folder, config, wire(config))
        stages = {stage.node: stage for stage in runner.stages}
        made = {node: runner.execute(stages[node])[0] for node in ("ingest", "teacher_latents", "teacher")}
        place = {node: runner.artifact(node, manifest.key) for node, manifest in made.items()}
        self.model, self.frequencies = place["teacher"] / "model", (place["ingest"] / "prompts").read_table()
        self.real = pixels((place["ingest"] / "train").read_table(columns=["image"]))

    def requests(self) -> Requests:
        """What is asked of it."""
        return Requests(self.frequencies, RequestConfig(), 0, "bench")


def bare(model: Store, requests: Requests, config: SampleConfig) -> list[float]:
    """Seconds of each piece in a plain loop over the same sampler and batches, images encoded as PNG."""
    torch.set_num_threads(1)
    sampler = Sampler(model.keep_local())
    way = Way(config.guidance_scale, config.num_inference_steps, config.batch_size, config.solver)
    taken = []
    for piece in range(PIECES):
        start = time.perf_counter()
        asked = requests.rows(range(piece * ROWS, (piece + 1) * ROWS))
        images = sampler.generate(asked["prompt"].to_pylist(), asked["seed"].to_pylist(), way)
        [encode_png(image) for image in images]
        taken.append(time.perf_counter() - start)
    return taken[1:]


def through_ray(taught: Taught, config: SampleConfig, workers: int, folder: Store) -> float:
    """Rows a second from the end of the pool's first round of pieces on."""
    ends = [(0, time.perf_counter())]
    map_shards(
        SamplePiece,
        {"model": taught.model, "requests": taught.requests(), "config": config},
        cut(PIECES * ROWS * workers, PIECES * ROWS, ROWS),
        out=folder / "out",
        work=folder / "work",
        compute=Compute(num_workers=workers, num_cpus=1),
        progress=lambda done, total, unit: ends.append((done, time.perf_counter())),
    )
    steady = [(done, at) for done, at in ends if done >= workers * ROWS]
    (first, start), (last, end) = steady[0], steady[-1]
    return (last - first) / (end - start)


def throughput(taught: Taught, folder: Store) -> dict[str, float]:
    """Images a second through Ray Data beside a bare loop, in turns."""
    import ray

    config = SampleConfig(rows_per_piece=ROWS)
    task = ray.remote(num_cpus=1)(bare)
    rows = []
    for turn in range(ROUNDS):
        plain = ROWS / np.median(ray.get(task.remote(taught.model, taught.requests(), config)))
        one, two = (through_ray(taught, config, workers, folder / f"{turn}-{workers}") for workers in (1, 2))
        rows.append((plain, one, two))
    plain, one, two = np.array(rows).T
    table = Table("loop", "images/s", "over the bare loop (each turn)", title="Sampling at 32 px, 20 steps, guided")
    for name, pace in (("bare", plain), ("Ray Data, 1 actor", one), ("Ray Data, 2 actors", two)):
        each = ", ".join(f"{ratio:.3f}" for ratio in pace / plain)
        table.add_row(name, f"{np.median(pace):.1f}", f"{np.median(pace / plain):.3f} ({each})")
    console.print(table)
    figures = {"throughput_vs_bare_loop": one, "throughput_vs_bare_loop_2_actors": two}
    return {name: round(float(np.median(pace / plain)), 4) for name, pace in figures.items()}


def solver(taught: Taught) -> dict[str, float]:
    """How long solvers take until samples are as near to real images as with 50 steps of PNDM."""
    torch.set_num_threads(1)
    sampler, asked = Sampler(taught.model.keep_local()), taught.requests().rows(range(SAMPLES))
    prompts, seeds = asked["prompt"].to_pylist(), asked["seed"].to_pylist()
    real = public_features(taught.real, pooled=True)

    def measure(name: str, steps: int) -> tuple[float, float]:
        # Of computing: on one thread the neighbours on the machine don't count.
        start = time.process_time()
        images = sampler.generate(prompts, seeds, Way(2.0, steps, 32, name))
        taken = time.process_time() - start
        distance = frechet_distance(public_features(images, pooled=True), real).value
        assert distance is not None
        return taken, distance

    table = Table("solver", "steps", "CPU seconds", "Fréchet distance", title=f"{SAMPLES} samples against real images")
    limit_s, limit = measure("pndm", 50)
    table.add_row("pndm (the usual default)", "50", f"{limit_s:.1f}", f"{limit:.4f}")
    found = None
    for steps in STEPS:
        taken, distance = measure("dpmsolver++", steps)
        table.add_row("dpmsolver++ (ours)", str(steps), f"{taken:.1f}", f"{distance:.4f}")
        if distance <= limit:
            found = steps, taken
            break
    default = SampleConfig().num_inference_steps
    taken, distance = measure("dpmsolver++", default)
    table.add_row("dpmsolver++ (our default)", str(default), f"{taken:.1f}", f"{distance:.4f}")
    console.print(table)
    if found is None:
        console.print("no number of steps tried is as good")
        return {"time_to_equal_distance_vs_default_solver": 0.0}
    ratio = limit_s / found[1]
    console.print(f"as near to real images after {found[0]} steps, {ratio:.2f} times as fast")
    return {"time_to_equal_distance_vs_default_solver": round(ratio, 3), "steps_to_equal_distance": found[0]}


class Job:
    """The big job in processes of its own, all of them marked, so that all can be weighed and killed."""

    def __init__(self, rows: int, folder: Path) -> None:
        """Nothing is started yet."""
        self.rows, self.folder, self.mark = rows, folder, uuid.uuid4().hex
        self.peak_mib, self.seconds = 0.0, 0.0

    def run(self, until: float | None = None) -> bool:
        """Run it; kill all of it at a share of the work of sampling and matching. Whether it came to its end."""
        line = [sys.executable, str(Path(__file__).with_name("million.py")), str(self.rows), str(self.folder)]
        environment = os.environ | {"BENCH_MARK": self.mark}
        start = time.monotonic()
        with (self.folder.parent / f"{self.rows}.log").open("a") as log:
            process = subprocess.Popen(line, env=environment, stdout=log, stderr=log, start_new_session=True)
            while process.poll() is None:
                mine = list(self._processes())
                self.peak_mib = max(self.peak_mib, sum(map(_weight, mine)))
                if until is not None and self.computed() >= until * 2 * self.rows:
                    for one in mine:
                        one.send_signal(signal.SIGKILL)
                    process.wait()
                    break
                time.sleep(SAMPLE_EVERY_S)
        self.seconds += time.monotonic() - start
        if until is None and process.returncode:
            sys.exit((self.folder.parent / f"{self.rows}.log").read_text()[-2000:])
        return process.returncode == 0

    def computed(self) -> int:
        """Samples and matches that were begun so far, those that were lost again counted too."""
        logs = [self.folder / f"{name}.log" for name in ("samples", "matches")]
        lines = [line.split() for log in logs if log.exists() for line in log.read_text().splitlines()]
        return sum(int(rows) for shard, _, rows in lines if shard.startswith(("part-", "samples/")))

    def _processes(self) -> Iterator[psutil.Process]:
        for process in psutil.process_iter():
            try:
                if process.environ().get("BENCH_MARK") == self.mark:
                    yield process
            except psutil.Error:
                continue


def _weight(process: psutil.Process) -> float:
    """MiB of a process; what it shares with others, such as the object store, is shared out among them."""
    try:
        return float(process.memory_full_info().pss / 2**20)
    except psutil.Error:
        return 0.0


def check(job: Job) -> dict[str, Any]:
    """Make sure that nothing is lost or doubled, and look at the files."""
    store = Store.open(str(job.folder))
    ids: dict[str, int] = {}
    for name, column, folder in (
        ("samples", "sample_id", store / "samples"),
        ("matches", "query_id", store / "matches" / "auditor" / "samples"),
        ("verdicts", "sample_id", store / "verdicts" / "verdicts"),
    ):
        numbers = np.concatenate(
            [_numbers(folder.read_table(shard, columns=[column])[column].to_pylist()) for shard in folder.shards()]
        )
        assert np.array_equal(np.sort(numbers), np.arange(job.rows)), f"{name}: rows are lost or doubled"
        ids[name] = len(folder.shards())
    return {"files": ids, "redone": job.computed() / (2 * job.rows) - 1}


def _numbers(ids: list[str]) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.array([int(name.rpartition("-")[2]) for name in ids], np.int64)


def memory(folder: Path) -> dict[str, float]:
    """Peak memory of ten thousand rows and of a million, the latter killed twice on the way."""
    small, large = (Job(rows, folder / str(rows)) for rows in (SMALL, LARGE))
    for job in (small, large):
        job.folder.mkdir()
    small.run()
    kills = [not large.run(until) for until in (0.25, 0.75)]
    large.run()
    assert all(kills), "the job wasn't killed in the middle"
    table = Table(
        "rows", "killed", "seconds", "rows/s", "peak MiB", "computed again", "files", title="Rows by the million"
    )
    figures = {}
    for job, killed in ((small, 0), (large, 2)):
        found = check(job)
        files = ", ".join(f"{name} {count}" for name, count in found["files"].items())
        table.add_row(
            f"{job.rows:,}",
            str(killed),
            f"{job.seconds:.0f}",
            f"{job.rows / job.seconds:.0f}",
            f"{job.peak_mib:.0f}",
            f"{100 * found['redone']:.2f} %",
            files,
        )
        figures["redone_share_after_kill"] = round(found["redone"], 5)
        figures["rows_per_s"] = round(job.rows / job.seconds, 1)
    console.print(table)
    return {"memory_large_vs_small_run": round(large.peak_mib / small.peak_mib, 4)} | figures


def main(wanted: list[str]) -> None:
    """Measure, print."""
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        if {"throughput", "solver"} & set(wanted):
            store = Store.open(f"{name}/run")
            with session(ClusterConfig(num_cpus=4)):
                taught = Taught(store)
                figures |= throughput(taught, store / "bench") if "throughput" in wanted else {}
            figures |= solver(taught) if "solver" in wanted else {}
        figures |= memory(Path(name)) if "memory" in wanted else {}
    print(json.dumps(figures))


if __name__ == "__main__":
    main([name for name in MEASURES if name in sys.argv[1:] or len(sys.argv) == 1])
