"""Train one re-identification network, an eye, on the train patients; or take somebody's own."""

from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar

from raydistill.core.config import Config
from raydistill.core.errors import ConfigError
from raydistill.core.section import Compute
from raydistill.core.store import Store
from raydistill.core.training import ReidConfig
from raydistill.distributed.job import TrainJob, check_tracking, check_training, where
from raydistill.distributed.train import export_checkpoint, train
from raydistill.reid.embedder import OWN, own_embedder
from raydistill.reid.model import check_backbone, tensors_digest, weights_digest
from raydistill.reid.training import ReidObjective, check_whole_patients
from raydistill.stages.base import Context, Outcome, Stage
from raydistill.stages.images import pixels


class TrainReid(Stage):
    """Input: `images` (train records). Output: `network/`, and `history.json` of what was trained."""

    version: ClassVar[int] = 2
    is_gang: ClassVar[bool] = True
    config: ReidConfig

    def check(self, config: Config) -> None:
        """Refuse a batch that cuts patients, and a backbone that can't take the images; or an import that fails.

        And an eye that is another one under another name.
        """
        mine = self.own["fingerprint"] if self.own else _identity(self._eye, self.config)
        for name, other in config.eyes:
            if f"reid_{name}" != self.node and mine and _identity(name, other) == mine:
                raise ConfigError(
                    f"eyes.{self._eye} and eyes.{name} are the same network under two names: what one can't see the "
                    "other can't find"
                )
        if self.own:
            return
        check_training(self.config.optimizer, self.config.deepspeed, self.config.compute)
        check_tracking(config.tracking)
        if self.config.deepspeed.gradient_checkpointing:
            raise ConfigError("deepspeed.gradient_checkpointing is for diffusion models: a network would ignore it")
        check_whole_patients(self._share(), self.config.images_per_patient, "a worker's part of the batch,")
        check_backbone(self.config.backbone, config.ingest.resolution)

    def key_config(self) -> dict[str, Any]:
        """Put the content of pretrained weights, or of somebody's own embedder, into the key, beside their name."""
        if self.own:
            return self.own
        start = weights_digest(self.config.backbone)
        # Pairs are formed within a worker's part of a batch: here, and only here, it decides the result.
        return {**super().key_config(), "part_of_batch": self._share(), **({"start": start} if start else {})}

    def _share(self) -> int:
        """Rows that are compared with each other.

        Raises:
            ConfigError: when it would depend on how many workers there happen to be, or on which of them.
        """
        compute, rows = self.config.compute, self.config.optimizer.batch_size
        micros = self.config.deepspeed.micros(rows, compute.max_workers)
        if compute.min_workers < compute.max_workers:
            raise ConfigError("compute.num_workers of an eye is one number: pairs are formed within a worker's part")
        share, rest = divmod(rows, compute.max_workers * micros)
        if rest:
            raise ConfigError(
                f"optimizer.batch_size {rows} isn't divisible by compute.num_workers "
                f"{compute.max_workers} x {micros} gradient_accumulation_steps"
            )
        return share

    @property
    def compute(self) -> Compute | None:
        """What the stage asks of the cluster: nothing where there is nothing to train."""
        return None if self.config.embedder else self.config.compute

    @cached_property
    def own(self) -> dict[str, Any] | None:
        """Somebody's own embedder: what to import and what it is now, built once; None where a network is trained."""
        return own_eye(self.config, self._eye)

    @property
    def _eye(self) -> str:
        return self.node.removeprefix("reid_")

    def run(self, context: Context) -> Outcome:
        """Train through the one training loop and export safetensors; of somebody's own, write what to import."""
        if self.own:
            context.out.write_json(f"network/{OWN}", self.own)
            return Outcome(counts={"images": 0}, facts={"embedder": self.own["embedder"]["factory"]})
        records = context.inputs["images"].read_table(columns=["patient_id"])
        job = TrainJob(
            make_objective=self._make_objective(context),
            optimizer=self.config.optimizer,
            deepspeed=self.config.deepspeed,
            compute=self.config.compute,
            ema_decay=None,
            out=context.out,
            weights="network",
            work=context.work,
            name=self.node,
            seed=context.seed,
            logs=context.logs,
            tracking=context.tracking,
        )
        history = train(job, context.cluster.max_failures, context.progress, context.cluster.resize_s)
        patients = len(set(records["patient_id"].to_pylist()))
        return Outcome(
            counts={"images": records.num_rows, "patients": patients},
            facts={
                "final_loss": history["loss"][-1][1],
                "backbone": self.config.backbone.kind,
                **where(self.config.deepspeed, self.config.compute),
            },
        )

    def _make_objective(self, context: Context) -> Callable[[], ReidObjective]:
        return partial(_objective, context.inputs["images"], self.config, context.seed)

    def write_checkpoint(self, context: Context, folder: Path) -> int:
        """Write a network."""
        return export_checkpoint(self._make_objective(context)(), context.work, folder)


def own_eye(config: ReidConfig, eye: str) -> dict[str, Any] | None:
    """Return what is to be imported as an eye, and its fingerprint; None where a network is trained."""
    if config.embedder is None:
        return None
    return {"embedder": config.embedder.model_dump(mode="json"), "fingerprint": _start(eye, config)}


def _identity(eye: str, config: ReidConfig) -> Any:
    """Return what tells one eye from another whatever they are called, and however their weights lie."""
    return _start(eye, config) if config.embedder else tensors_digest(config.backbone)


def _start(eye: str, config: ReidConfig) -> Any:
    """Return what an eye starts from: somebody's fingerprint, or weights' digest."""
    if config.embedder:
        return own_embedder(config.embedder, "cpu", f"eyes.{eye}.embedder").fingerprint()
    return weights_digest(config.backbone)


def _objective(images: Store, config: ReidConfig, seed: int) -> ReidObjective:
    table = images.read_table(columns=["image", "patient_id"])
    return ReidObjective(pixels(table), table["patient_id"].to_numpy(zero_copy_only=False), config, seed)
