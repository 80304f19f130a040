"""Train a diffusion model: the teacher on real images, the student on kept samples. One stage, two inputs."""

import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from raydistill.core.config import Config, DiffusionConfig
from raydistill.core.errors import NothingToDo
from raydistill.core.store import Store
from raydistill.diffusion import components
from raydistill.diffusion.folder import MARKER
from raydistill.diffusion.objective import DiffusionObjective
from raydistill.distributed.train import TrainJob, share_of_batch, train
from raydistill.stages.base import Context, Outcome, Stage
from raydistill.stages.images import pixels, read_kept

ENCODED = "encoded"
ENCODE_BATCH = 64


class TrainDiffusion(Stage):
    """Inputs: `images` (records or samples with prompts), optionally `verdicts`. Output: `model/`, `history.json`."""

    version: ClassVar[int] = 3
    is_gang: ClassVar[bool] = True
    config: DiffusionConfig

    def check(self, config: Config) -> None:
        """Refuse a batch that can't be shared out, and a start that doesn't fit the images."""
        share_of_batch(self.config.optimizer, self.config.compute)
        components.check_start(self.config, config.ingest.resolution)

    def key_config(self) -> dict[str, Any]:
        """Put the content of the folder that training starts from into the key, in place of its address."""
        dumped = {name: value for name, value in super().key_config().items() if name != "pretrained"}
        return {**dumped, "start": components.weights_provenance(self.config)["sha256"]}

    def run(self, context: Context) -> Outcome:
        """Encode images and prompts once, train on the latents, export a Stable Diffusion folder."""
        encoded = self._encode(context)
        job = TrainJob(
            make_objective=partial(_objective, context.work / ENCODED, self.config, context.seed),
            optimizer=self.config.optimizer,
            deepspeed=self.config.deepspeed,
            compute=self.config.compute,
            ema_decay=self.config.ema_decay,
            out=context.out,
            weights="model",
            work=context.work,
        )
        history = train(job, context.cluster, context.progress)
        touched = sorted(entry.node for entry in context.manifests.values())
        start = components.weights_provenance(self.config)
        private = components.trained_on(self.config)
        context.out.write_json(f"model/{MARKER}", {"trained_on": touched, "started_from": start})
        epochs = self.config.optimizer.steps * self.config.optimizer.batch_size / encoded["rows"]
        facts = {"final_loss": history["loss"][-1][1], "epochs": round(epochs, 1), "notes": _notes(encoded)}
        origin = {"started_from": start, "start_trained_on": private}
        return Outcome(counts={"images": encoded["rows"]}, facts={**facts, **origin})

    def _encode(self, context: Context) -> dict[str, int]:
        """Write the initial model, latents and token ids below the work folder, unless an earlier attempt did.

        Returns:
            `rows`; of their prompts `cut` are longer than the `length` in tokens that is read.
        """
        encoded = context.work / ENCODED
        if encoded.exists("rows.json"):
            return dict(encoded.read_json("rows.json"))
        table = read_kept(context.inputs, ["image", "prompt"])
        if not table.num_rows:
            raise NothingToDo(f"{self.node} has no image to learn from: the filter kept no sample")
        images = pixels(table)
        with tempfile.TemporaryDirectory(prefix="raydistill-") as name:
            folder = Path(name)
            initial = folder / "initial"
            components.prepare_initial(self.config, resolution=images.shape[-1], seed=context.seed, folder=initial)
            model = components.load(initial, "cpu")
            np.save(folder / "latents.npy", components.encode_images(model.vae, images, ENCODE_BATCH))
            if self.config.horizontal_flip:
                flipped = components.encode_images(model.vae, images[:, :, ::-1], ENCODE_BATCH)
                np.save(folder / "flipped.npy", flipped)
            prompts = table["prompt"].to_pylist()
            np.save(folder / "ids.npy", components.tokenize(model.tokenizer, prompts))
            encoded.upload(folder)
        cut, length = components.count_cut(model.tokenizer, prompts), model.tokenizer.model_max_length
        counts = {"rows": len(table), "cut": cut, "length": length}
        encoded.write_json("rows.json", counts)
        return counts


def _notes(encoded: Mapping[str, int]) -> list[str]:
    if not encoded["cut"]:
        return []
    return [
        f"{encoded['cut']} of {encoded['rows']} prompts have more than the {encoded['length']} tokens that the model "
        "reads: what stands at their end can't be asked for"
    ]


def _objective(encoded: Store, config: DiffusionConfig, seed: int) -> DiffusionObjective:
    """Build the objective on a worker from what `_encode` left."""
    folder = encoded.keep_local()
    flipped = folder / "flipped.npy"
    return DiffusionObjective(
        folder / "initial",
        np.load(folder / "latents.npy", mmap_mode="r"),
        np.load(flipped, mmap_mode="r") if flipped.exists() else None,
        np.load(folder / "ids.npy"),
        batch_size=config.optimizer.batch_size,
        prompt_dropout=config.prompt_dropout,
        train_text_encoder=config.train_text_encoder,
        seed=seed,
    )
