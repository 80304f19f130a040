"""Ask the student harder than the filter was asked: every training prompt, other guidance, few steps."""

from typing import Any, ClassVar

from raydistill.core.generation import AttackConfig, SampleConfig
from raydistill.core.section import Compute, Section
from raydistill.core.seeds import derive_seed
from raydistill.data.requests import Requests
from raydistill.distributed.shards import Shard, cut
from raydistill.stages.base import Context, Outcome, Stage
from raydistill.stages.sample import deciding, make_samples, requests_of, rows_per_piece, rows_per_shard, side_of


class AttackNodeConfig(Section):
    """The ways, and what is usual."""

    attack: AttackConfig
    samples: SampleConfig


class Attack(Stage):
    """Inputs: `model`, `prompts`. Output: `samples/<way>-*.parquet`; a way's name begins the ids of its samples."""

    version: ClassVar[int] = 3
    resumable: ClassVar[bool] = True
    config: AttackNodeConfig

    @property
    def compute(self) -> Compute:
        """What the stage asks of the cluster."""
        return self.config.samples.compute

    def key_config(self) -> dict[str, Any]:
        """Name what decides the samples."""
        dumped, how = super().key_config(), self.config
        # Version of how many are asked for where the student's own follow from its prompts: no other attack changed.
        counted = {"counted": 2} if how.samples.requests.per_prompt and not how.attack.num_samples else {}
        return dumped | counted | {"samples": deciding(dumped["samples"], how.samples)}

    def run(self, context: Context) -> Outcome:
        """Ask in every way, one after another."""
        ways, side = self._ways(context), side_of(context.inputs["model"])
        frequencies, made = context.inputs["prompts"].read_table(), 0
        for name, way in ways.items():
            requests = Requests(frequencies, way.requests, derive_seed(context.seed, name), name, is_shuffled=True)
            # The prompts come in turn, round after round, and end anywhere: in another order in every way.
            total = max(way.num_samples, frequencies.num_rows)
            shards = cut(total, rows_per_shard(way, total, side), rows_per_piece(way, total))
            named = [Shard(f"{name}-{shard.name}", shard.rows, shard.first) for shard in shards]
            make_samples(context, named, requests, way)
            made += total
        return Outcome(counts={"rows": made}, facts={"ways": list(ways)})

    def _ways(self, context: Context) -> dict[str, SampleConfig]:
        """Return the ways, where the student's own samples are as many as `per_prompt` comes to."""
        samples = self.config.samples
        usual = requests_of(context, samples, context.seed, self.node).total(samples.num_samples)
        return self.config.attack.ways(samples.model_copy(update={"num_samples": usual}))


def way_of(sample_id: str) -> str:
    """Return the way in which a sample was asked for."""
    return sample_id.rpartition("-")[0]
