"""Encode once: latents of images and words of prompts, for as many trainings as one likes."""

import tempfile
from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from raydistill.core.config import Config
from raydistill.core.errors import NothingToDo
from raydistill.core.progress import Progress
from raydistill.core.store import Store
from raydistill.core.training import DiffusionConfig
from raydistill.diffusion import components
from raydistill.diffusion.latents import POLICY, Encoder
from raydistill.distributed.data import map_shards, run_on_worker
from raydistill.stages.base import Context, Outcome, Stage
from raydistill.stages.images import pixels, read_kept

PREVIEWED = 8
"""Commonest prompts, kept for sample grids."""

SIZES = ("block_out_channels", "layers_per_block", "text_hidden_size", "prediction_type")
USED = (*SIZES, "train_text_encoder", "horizontal_flip")
"""Fields of the configuration that decide what is encoded; the content of what training starts from does too."""


class Encode(Stage):
    """Inputs: `images` (records or samples with prompts), optionally `verdicts` and `calibration`.

    Output: `initial/`, the Stable Diffusion folder that training starts from; `train/` and, with that input,
    `calibration/`: `rows/` and `words/` (`diffusion.latents`), `shapes.json`, `index.json` (rows of each shard).
    """

    version: ClassVar[int] = 1
    resumable: ClassVar[bool] = True
    config: DiffusionConfig

    def check(self, config: Config) -> None:
        """Refuse a start that doesn't fit the images."""
        components.check_start(self.config, config.ingest.resolution)

    def key_config(self) -> dict[str, Any]:
        """Name what is encoded and by what."""
        dumped = super().key_config()
        start = components.weights_provenance(self.config)["sha256"]
        return {"seed": dumped["seed"], "start": start, **{name: dumped[name] for name in USED}}

    def run(self, context: Context) -> Outcome:
        """Write the folder that training starts from, then encode shard by shard on an actor pool."""
        counts = {"images": self._encode(context, "images", "train")}
        if not counts["images"]:
            raise NothingToDo(f"{self.node} has no image to encode: the filter kept no sample")
        if "calibration" in context.inputs:
            counts["calibration"] = self._encode(context, "calibration", "calibration")
        index = context.out.read_json("train/index.json")
        return Outcome(counts=counts, facts={"policy": POLICY, "notes": _notes(index)})

    def _encode(self, context: Context, name: str, folder: str) -> int:
        inputs = {"images": context.inputs[name]}
        if name == "images" and "verdicts" in context.inputs:
            inputs["verdicts"] = context.inputs["verdicts"]
        out = context.out / folder
        asked = {n: read_kept(inputs, ["prompt"], n)["prompt"].to_pylist() for n in inputs["images"].shards()}
        filled = {shard: len(prompts) for shard, prompts in asked.items() if prompts}
        if not filled:
            return 0
        self._prepare(context, inputs["images"])
        arguments = {"inputs": inputs, "initial": context.out / "initial", "out": out, "config": self.config}
        map_shards(
            EncodeShard,
            arguments,
            list(filled),
            done_in=out / "words",
            compute=self.config.compute,
            progress=context.progress,
        )
        about = _about(context.out / "initial", [prompt for prompts in asked.values() for prompt in prompts])
        out.write_json("index.json", {"shards": filled, **about})
        return sum(filled.values())

    def _prepare(self, context: Context, images: Store) -> None:
        """Write the initial folder unless an earlier attempt did: whole, as its mark says."""
        if context.work.exists("initial.json"):
            return
        one = images.read_table(images.shards()[0], columns=["image"]).slice(0, 1)
        work = partial(_write_initial, self.config, pixels(one).shape[-1], context.seed, context.out / "initial")
        run_on_worker(work, self.config.compute, context.progress)
        context.work.write_json("initial.json", {})


class EncodeShard:
    """Encodes one shard of images. Built on an actor: loads the model once."""

    def __init__(self, inputs: Mapping[str, Store], initial: Store, out: Store, config: DiffusionConfig) -> None:
        """Load the model onto the device that the configuration reserves."""
        parts = components.load(initial.keep_local(), config.compute.device)
        self.inputs, self.out = inputs, out
        options = {"is_text_frozen": not config.train_text_encoder, "with_flipped": config.horizontal_flip}
        self.encoder = Encoder(parts, **options)

    def __call__(self, name: str) -> int:
        """Write the rows of a shard, then its words, which say that the shard is done."""
        table = read_kept(self.inputs, ["image", "prompt"], name)
        images = pixels(table)
        rows, words = self.encoder.tables(images, table["prompt"].to_pylist())
        self.out.write_json("shapes.json", self.encoder.shapes(images.shape[-1]))
        self.out.write_table(f"rows/{name}", rows)
        self.out.write_table(f"words/{name}", words)
        return len(table)


def _write_initial(config: DiffusionConfig, resolution: int, seed: int, out: Store, _: Progress) -> None:
    with tempfile.TemporaryDirectory(prefix="raydistill-") as name:
        components.prepare_initial(config, resolution=resolution, seed=seed, folder=Path(name) / "initial")
        out.upload(Path(name) / "initial")


def _about(initial: Store, prompts: list[str]) -> dict[str, Any]:
    tokenizer = components.load_tokenizer(initial.keep_local("tokenizer"))
    counted = Counter(prompts)
    cut = sum(counted[prompt] for prompt in components.too_long(tokenizer, list(counted)))
    common = [prompt for prompt, _ in sorted(counted.items(), key=lambda item: (-item[1], item[0]))[:PREVIEWED]]
    return {"rows": len(prompts), "cut": cut, "length": tokenizer.model_max_length, "common": common}


def _notes(index: Mapping[str, Any]) -> list[str]:
    if not index["cut"]:
        return []
    return [
        f"{index['cut']} of {index['rows']} prompts have more than the {index['length']} tokens that the model "
        "reads: what stands at their end can't be asked for"
    ]
