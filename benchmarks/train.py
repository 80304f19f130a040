"""What the training loop costs, what encoding once saves, and how ZeRO cuts the state of a training.

    python benchmarks/train.py [steps] [epochs] [memory] [gpu]

Prints tables and, as the last line, one JSON object of figures. Without a name all are measured within a quarter of an
hour, on the first model of each table; a measure that is named takes its time and all of its models. SIZE=full takes
larger models and more blocks.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from raydistill.core.config import ClusterConfig
from raydistill.core.training import DiffusionConfig, LoraConfig, OptimizerConfig
from raydistill.distributed.environment import prepare_libraries
from raydistill.distributed.session import session

# Before they are imported; hence E402 below.
prepare_libraries()

import numpy as np  # noqa: E402
import torch  # noqa: E402
import train_gpu  # noqa: E402
import train_memory  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402
from train_models import Material, Sizes  # noqa: E402
from train_pace import BARE, ENCODING, Pace, Speed, side_by_side  # noqa: E402

from raydistill.diffusion import components  # noqa: E402
from raydistill.distributed.stream import Parts, Stream  # noqa: E402

FULL = os.environ.get("SIZE") == "full"
IS_SHORT = len(sys.argv) == 1 and not FULL
BLOCKS = 16 if FULL else 8
EPOCHS = 10
WORKERS = (1, 2, 4)
MEASURES = ("steps", "epochs", "memory", "gpu")

Setting = TypeVar("Setting")

console = Console(width=160)


def config(channels: tuple[int, ...], batch_size: int, **more: Any) -> DiffusionConfig:
    """A model and how it is trained; a loop is told by itself how long."""
    optimizer = OptimizerConfig(steps=1, batch_size=batch_size, lr=1e-4)
    return DiffusionConfig(block_out_channels=channels, optimizer=optimizer, **more)


def chosen(settings: Mapping[str, Setting]) -> list[tuple[str, Setting]]:
    """Return the models to measure with, by the suffix of their figures."""
    return list(settings.items())[: 1 if IS_SHORT else None]


def packaged(folder: Path, what: DiffusionConfig, resolution: int, rows: int = 256) -> Material:
    """A fresh model around the packaged autoencoder, and phantoms."""

    def write(initial: Path) -> None:
        components.prepare_initial(what, resolution=resolution, seed=0, folder=initial)

    return Material.make(folder, what, resolution, rows, write)


def ratio(plain: Speed, ours: Speed) -> str:
    """How many times as fast ours is: median over the blocks, where their middle half lies, and by computing time."""
    low, middle, high = np.quantile(plain.wall / ours.wall, [0.25, 0.5, 0.75])
    return f"{middle:.3f} ({low:.3f} to {high:.3f}) {np.median(plain.process / ours.process):.3f}"


def faster(plain: Speed, ours: Speed) -> float:
    """The figure: the median over the blocks of the ratio of throughputs."""
    return round(float(np.median(plain.wall / ours.wall)), 4)


def reading(stream: Stream) -> float:
    """Seconds a row that a reader, which is a process of its own, computes."""
    steps = min(64, stream.window_rows // stream.batch_size)
    start = time.process_time()
    list(stream.records({"first": [0], "last": [steps]}, Parts(stream.batch_size, 1, 1)))
    return (time.process_time() - start) / (steps * stream.batch_size)


def steps(folder: Path) -> dict[str, float]:
    """A step of raydistill's loop against one of a bare loop on latents in memory."""
    settings = {
        "": ("UNet (64, 128), 64 px, 32 rows: jobs/nih64.yaml", config((64, 128), 32), 64, Pace(2 * BLOCKS, 3, 1)),
        "_tiny": ("UNet (32, 64), 32 px, 32 rows: jobs/demo.yaml", config((32, 64), 32), 32, Pace(2 * BLOCKS, 12, 2)),
    }
    table = Table("model", "loop", "rows/s", "over the bare loop, and by CPU time", "mean loss", title="Steps")
    figures = {}
    for suffix, (name, what, resolution, pace) in chosen(settings):
        material = packaged(folder / f"steps{suffix}", what, resolution)
        speeds = side_by_side(material, pace, (1, 2), False, folder / f"steps{suffix}")
        plain = speeds[BARE]
        for loop, speed in speeds.items():
            table.add_row(
                name if speed is plain else "",
                loop,
                f"{1 / np.median(speed.wall):.1f}",
                ratio(plain, speed),
                f"{speed.loss:.6f}",
            )
        table.add_row("", "its reader", f"{1 / reading(material.encoded()):.0f}", "", "")
        figures[f"step_throughput_vs_bare_loop{suffix}"] = faster(plain, speeds["ZeRO-1"])
        figures[f"step_throughput_vs_bare_loop_zero2{suffix}"] = faster(plain, speeds["ZeRO-2"])
    console.print(table)
    return figures


def epochs(folder: Path) -> dict[str, float]:
    """An epoch of encoded rows against one of a loop that encodes at every step; both learn the UNet alone."""
    sizes, resolution = Sizes(4 if FULL else 8), 256
    frozen: dict[str, Any] = {"train_text_encoder": False}
    scaled = Material.make(folder / "scaled", config((64, 128), 4, **frozen), resolution, 32, sizes.write)
    adapted = config((64, 128), 4, **frozen, pretrained="the same", lora=LoraConfig())
    own = packaged(folder / "own", config((64, 128), 16, **frozen), 64)
    name = f"Stable Diffusion 1.5, widths / {sizes.divisor}, {resolution} px, 4 rows"
    settings = {
        "": (name, scaled, Pace(BLOCKS, 4, 1)),
        "_lora": (f"{name}; LoRA", replace(scaled, config=adapted), Pace(BLOCKS, 4, 1)),
        "_packaged_vae": ("packaged VAE, UNet (64, 128), 64 px, 16 rows", own, Pace(BLOCKS, 10, 1)),
    }
    table = Table(
        "model", "encoding / step", "over encoding at every step, and by CPU time", "1 epoch with encoding",
        f"{EPOCHS} with encoding", "paid for after", title="Epochs",
    )  # fmt: skip
    figures = {}
    for suffix, (name, material, pace) in chosen(settings):
        speeds = side_by_side(material, pace, (1,), True, folder / f"epochs{suffix}")
        ours, plain = (float(np.median(speeds[loop].wall)) for loop in ("ZeRO-1", ENCODING))
        whole = [f"{plain / (ours + material.encoding_s / count):.2f}" for count in (1, EPOCHS)]
        paid = f"{material.encoding_s / (plain - ours):.1f} epochs" if plain > ours else "never"
        table.add_row(name, f"{plain / ours - 1:.2f}", ratio(speeds[ENCODING], speeds["ZeRO-1"]), *whole, paid)
        figures[f"epoch_throughput_vs_encode_every_step{suffix}"] = faster(speeds[ENCODING], speeds["ZeRO-1"])
    console.print(table)
    public, here = Sizes(1).encoder_per_step(512), sizes.encoder_per_step(resolution)
    console.print(
        f"Operations of encoding a row over those of a UNet's step: {public:.2f} in Stable Diffusion 1.5 at 512 px, "
        f"{here:.2f} in the model here."
    )
    return figures


def memory(folder: Path) -> dict[str, float]:
    """Bytes of state that a worker holds, counted and by formula."""
    what = config((320, 640) if FULL else (32, 320), 4)
    initial = packaged(folder / "memory", what, 32, 1).folder.keep_local("initial")
    counts = {workers: train_memory.bytes_a_parameter(initial, what, workers) for workers in WORKERS}
    names = [f"{workers} worker{'s'[: workers > 1]}" for workers in WORKERS]
    table = Table("state", *names, "its parts at 4", title="Bytes a parameter in a worker, counted (by formula)")
    for case in train_memory.CASES:
        cells = [
            f"{train_memory.total(counts[workers][case]):.2f} ({train_memory.formula(case, workers):.2f})"
            for workers in WORKERS
        ]
        table.add_row(case, *cells, ", ".join(f"{kind} {size:.2f}" for kind, size in counts[4][case].items() if size))
    console.print(table)
    whole = {case: train_memory.total(counts[4][case]) for case in train_memory.CASES}
    return {
        f"zero3_state_bytes_vs_ddp_4_workers{suffix}": round(whole[f"ZeRO-3, {kind}"] / whole[train_memory.DDP], 4)
        for suffix, kind in (("", "fp32"), ("_bf16", "bf16"))
    }


def gpu() -> dict[str, Any]:
    """Images a second on a GPU where there is one."""
    measured = train_gpu.measured()
    if not measured:
        console.print("No GPU here: images a second of a Stable Diffusion 1.5 UNet in bf16 were not measured.")
        return {}
    table = Table("side", *train_gpu.KINDS, title="Images/s: UNet of Stable Diffusion 1.5, bf16, cached latents")
    for side, rates in measured.items():
        table.add_row(side, *(f"{rate:.1f}" for rate in rates.values()))
    console.print(table)
    return {"gpu_images_per_s": measured}


def main(asked: list[str]) -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    start, figures = time.monotonic(), {}
    for measure in (steps, epochs, memory):
        if measure.__name__ in (asked or MEASURES):
            with tempfile.TemporaryDirectory(prefix="raydistill-") as name, session(ClusterConfig(num_cpus=4)):
                figures |= measure(Path(name))
    if "gpu" in (asked or MEASURES):
        figures |= gpu()
    console.print(f"{os.cpu_count()} cores, {(time.monotonic() - start) / 60:.0f} minutes")
    print(json.dumps(figures))


if __name__ == "__main__":
    main(sys.argv[1:])
