"""Ask a model for synthetic images: plan one request a row, then make them shard by shard on an actor pool."""

from typing import ClassVar

import numpy as np
import pyarrow as pa

from raydistill.core.columns import REQUESTS, SAMPLES
from raydistill.core.config import SampleConfig
from raydistill.core.store import Store
from raydistill.data.images import encode_png
from raydistill.data.prompts import plan_requests
from raydistill.diffusion.sampling import Sampler
from raydistill.distributed.data import map_shards, shard_names
from raydistill.stages.base import Context, Outcome, Stage


class Sample(Stage):
    """Inputs: `model`, `prompts` (k-anonymous frequencies). Output: `samples/part-*.parquet`."""

    version: ClassVar[int] = 1
    resumable: ClassVar[bool] = True
    config: SampleConfig

    def run(self, context: Context) -> Outcome:
        """Plan the requests and make the shards that aren't there yet."""
        names = shard_names(self.config.num_samples, self.config.rows_per_shard)
        requests = plan_requests(
            context.inputs["prompts"].read_table(), self.config.num_samples, context.seed, self.node
        ).cast(REQUESTS)
        for i, name in enumerate(names):
            rows = requests.slice(i * self.config.rows_per_shard, self.config.rows_per_shard)
            context.work.write_table(f"requests/{name}", rows)
        arguments = {
            "model": context.inputs["model"],
            "requests": context.work / "requests",
            "out": context.out / "samples",
            "config": self.config,
        }
        map_shards(
            SampleShard,
            arguments,
            names,
            done_in=context.out / "samples",
            compute=self.config.compute,
            progress=context.progress,
        )
        failed = (context.out / "samples").read_table(columns=["failure"])["failure"]
        missing = len(failed) - failed.null_count
        return Outcome(counts={"rows": len(failed), "failed": missing}, facts={})


class SampleShard:
    """Makes one shard of samples. Built on an actor: loads the model once."""

    def __init__(self, model: Store, requests: Store, out: Store, config: SampleConfig) -> None:
        """Load the model onto the device the configuration reserves."""
        self.sampler = Sampler(model.keep_local(), config.compute.device)
        self.requests, self.out, self.config = requests, out, config

    def __call__(self, name: str) -> int:
        """Sample the requests of one shard and write them; an image that can't be made keeps its row and a reason."""
        rows = self.requests.read_table(name)
        images = self.sampler.generate(
            rows["prompt"].to_pylist(),
            rows["seed"].to_pylist(),
            guidance_scale=self.config.guidance_scale,
            num_inference_steps=self.config.num_inference_steps,
            batch_size=self.config.batch_size,
        )
        blank = np.ptp(images.reshape(len(images), -1), axis=1) == 0
        encoded = [None if bad else encode_png(image) for image, bad in zip(images, blank, strict=True)]
        reasons = ["one grey level everywhere" if bad else None for bad in blank]
        columns = [*rows.columns, pa.array(encoded, pa.binary()), pa.array(reasons, pa.string())]
        self.out.write_table(name, pa.Table.from_arrays(columns, schema=SAMPLES))
        return len(rows)
