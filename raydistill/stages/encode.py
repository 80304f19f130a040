"""Encode once: latents of images and words of prompts, for as many trainings as one likes."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa

from raydistill.core.config import Config
from raydistill.core.errors import ConfigError, NothingToDo
from raydistill.core.scratch import temporary_folder
from raydistill.core.store import Store
from raydistill.core.training import FRESH, DiffusionConfig
from raydistill.diffusion import components, provenance
from raydistill.diffusion.latents import POLICY, Encoder
from raydistill.distributed.data import map_shards
from raydistill.distributed.shards import Piece, Shard
from raydistill.stages.base import Context, Outcome, Stage
from raydistill.stages.images import image_shards, pixels, read_kept

KEPT = ("images", "more_images", "verdicts")
"""Inputs that say what is learned from."""

PREVIEWED = 8
"""Commonest prompts, kept for sample grids."""

USED = ("train_text_encoder", "horizontal_flip")
"""Fields of the configuration that decide what is encoded, beside `sizes` and what training starts from."""


class Encode(Stage):
    """Inputs: `images` (records or samples with prompts), optionally `more_images`, `verdicts` and `calibration`.

    Output: `initial/`, the Stable Diffusion folder that training starts from; `train/` and, with that input,
    `calibration/`: `rows/` and `words/` (`diffusion.latents`), `shapes.json`, `index.json` (rows of each shard).
    """

    version: ClassVar[int] = 4
    resumable: ClassVar[bool] = True
    config: DiffusionConfig

    def check(self, config: Config) -> None:
        """Refuse a start that doesn't fit the images, and for a student one that has seen real data."""
        components.check_start(self.config, config.ingest.resolution)
        if "verdicts" in self.inputs and not config.release.allow_private_weights:
            self._refuse_private(config.teacher)

    def _refuse_private(self, teacher: DiffusionConfig) -> None:
        """Refuse a student's start that has seen real data, or that has weights in common with a teacher's that has."""
        private = provenance.private_parts(self.config)
        theirs = provenance.weights_of(provenance.private_parts(teacher))
        folders = provenance.folder_of(self.config), provenance.folder_of(teacher)
        for part in provenance.copied(*folders, theirs):
            private.setdefault(part, ["real data, as the teacher's configuration says"])
        if private:
            said = "; ".join(f"its {part} was trained on {', '.join(seen)}" for part, seen in private.items())
            raise ConfigError(
                f"pretrained {self.config.pretrained} has seen real data: {said}. A student starts from public "
                "weights: name others, or set release.allow_private_weights: true, and the certificate will say so"
            )

    def key_config(self) -> dict[str, Any]:
        """Name what is encoded and by what."""
        dumped = super().key_config()
        start, used = provenance.started_from(self.config)["sha256"], sizes(self.config) + USED
        # What it says of real data must be made anew when that is known better.
        said = {"start": start, "private": provenance.private_parts(self.config)}
        return {"seed": dumped["seed"], **said, **{name: dumped[name] for name in used}}

    def run(self, context: Context) -> Outcome:
        """Write the folder that training starts from, then encode shard by shard on an actor pool."""
        sides = {"train": {name: context.inputs[name] for name in KEPT if name in context.inputs}}
        if "calibration" in context.inputs:
            sides["calibration"] = {"images": context.inputs["calibration"]}
        asked = {side: Asked.count(inputs) for side, inputs in sides.items()}
        if not asked["train"].shards:
            raise NothingToDo(f"{self.node} has no image to encode: the filter kept no sample")
        images = context.inputs["images"]
        resolution = pixels(images.read_table(images.shards()[0], columns=["image"]).slice(0, 1)).shape[-1]
        initial = prepare(self.config, resolution, context.seed, context.out, context.work)
        map_shards(
            EncodeShard,
            {"sides": sides, "initial": initial, "out": context.out, "config": self.config},
            [encoded(side, name, rows) for side, what in asked.items() for name, rows in what.shards.items()],
            out=context.out,
            work=context.work,
            compute=self.config.compute,
            progress=context.progress,
        )
        for side, what in asked.items():
            (context.out / side).write_json("index.json", _about(initial, what))
        counts = {side: what.prompts.total() for side, what in asked.items()}
        index = context.out.read_json("train/index.json")
        return Outcome(counts=counts, facts={"policy": POLICY, "notes": _notes(index), **self._lineage()})

    def _lineage(self) -> dict[str, Any]:
        """Say what training starts from, and whether that, or what it will see, is real data."""
        private = provenance.private_parts(self.config)
        return {
            "started_from": provenance.started_from(self.config),
            "private_start": private,
            "has_seen_real_data": "verdicts" not in self.inputs or bool(private),
        }


def prepare(config: DiffusionConfig, resolution: int, seed: int, out: Store, work: Store) -> Store:
    """Write the folder that training starts from unless an earlier attempt did: whole, as its mark says.

    Args:
        config: what to start from.
        resolution: side of the images in pixels.
        seed: of fresh weights.
        out: where to write `initial/`.
        work: where the mark is.

    Returns:
        That folder.
    """
    initial = out / "initial"
    if not work.exists("initial.json"):
        with temporary_folder() as name:
            folder = Path(name) / "initial"
            components.prepare_initial(config, resolution=resolution, seed=seed, folder=folder)
            initial.upload(folder)
        work.write_json("initial.json", {})
    return initial


def encoder_of(initial: Store, config: DiffusionConfig) -> Encoder:
    """Load what encodes for a training, onto the device that its configuration reserves."""
    parts = components.load(initial.keep_local(), config.compute.device)
    return Encoder(parts, is_text_frozen=not config.train_text_encoder, with_flipped=config.horizontal_flip)


class EncodeShard:
    """Encodes one shard of images. Built on an actor: loads the model once."""

    def __init__(
        self, sides: Mapping[str, Mapping[str, Store]], initial: Store, out: Store, config: DiffusionConfig
    ) -> None:
        """Load the model."""
        self.sides, self.out, self.encoder = sides, out, encoder_of(initial, config)

    def __call__(self, piece: Piece) -> tuple[pa.Table, pa.Table]:
        """Return the rows of a whole shard and its words."""
        side, _, shard = piece.shard.partition("/")
        table = read_kept(self.sides[side], ["image", "prompt"], shard)
        images = pixels(table)
        (self.out / side).write_json("shapes.json", self.encoder.shapes(images.shape[-1]))
        return self.encoder.tables(images, table["prompt"].to_pylist())


def encoded(side: str, name: str, rows: int) -> Shard:
    """Make of a shard of images the shard of what they are encoded to."""
    # One piece: rows name their prompts by their place in the shard's words.
    return Shard(f"{side}/{name}", (rows,), others=(f"{side}/rows/{name}", f"{side}/words/{name}"))


def sizes(config: DiffusionConfig) -> tuple[str, ...]:
    """Names of the fields that a fresh model is built by; pretrained weights bring their own."""
    return FRESH if config.pretrained is None else ()


@dataclass(frozen=True)
class Asked:
    """How many rows each shard has, of those of which something is kept, and how often each prompt is there."""

    shards: Mapping[str, int]
    prompts: Counter[str]

    @classmethod
    def count(cls, inputs: Mapping[str, Store]) -> "Asked":
        """Count, one shard at a time."""
        shards: dict[str, int] = {}
        prompts: Counter[str] = Counter()
        for shard in image_shards(inputs):
            kept = read_kept(inputs, ["prompt"], shard)["prompt"]
            if len(kept):
                shards[shard] = len(kept)
                prompts.update(kept.to_pylist())
        return cls(shards, prompts)


def _about(initial: Store, asked: Asked) -> dict[str, Any]:
    """Say how many rows each shard has, how many prompts are cut at which length, and which are the commonest."""
    tokenizer, counted = components.load_tokenizer(initial.keep_local("tokenizer")), asked.prompts
    cut = sum(counted[prompt] for prompt in components.too_long(tokenizer, list(counted)))
    common = [prompt for prompt, _ in sorted(counted.items(), key=lambda item: (-item[1], item[0]))[:PREVIEWED]]
    about = {"rows": counted.total(), "cut": cut, "length": tokenizer.model_max_length, "common": common}
    return {"shards": dict(asked.shards), **about}


def _notes(index: Mapping[str, Any]) -> list[str]:
    if not index["cut"]:
        return []
    return [
        f"{index['cut']} of {index['rows']} prompts have more than the {index['length']} tokens that the model "
        "reads: what stands at their end can't be asked for"
    ]
