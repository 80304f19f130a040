"""Ask for more samples until the filter has kept enough, or a budget ends; nothing that is there is made again."""

import math
from typing import ClassVar

from raydistill.core.columns import JUDGED
from raydistill.core.config import FilterConfig
from raydistill.core.generation import MatchConfig, SampleConfig
from raydistill.core.section import Compute, Section
from raydistill.core.seeds import derive_seed
from raydistill.core.store import Store
from raydistill.distributed.shards import Shard, cut
from raydistill.matching.policy import MatchPolicy, Policy, judged, make_policy
from raydistill.stages.base import Context, Outcome, Stage
from raydistill.stages.match import SAMPLES, make_matches
from raydistill.stages.sample import frequencies_of, make_samples, rows_per_shard, side_of

MARGIN = 1.1
"""A round asks for this many times what is missing by the share kept so far, to be seldom short by a few."""

LEAST_SHARE = 0.01
"""The share kept that is reckoned with where hardly anything was."""


class TopUpConfig(Section):
    """What is asked of the model, how that is matched and judged, and whose plan of samples it goes on with."""

    samples: SampleConfig
    match: MatchConfig
    filter: FilterConfig
    of: str


class TopUp(Stage):
    """Inputs: those of the sampling and matching that it goes on with, `samples`, the filter's `matches`, `policy`.

    Output: `samples/more-*.parquet`, and `<eye>/samples/` like it.
    """

    version: ClassVar[int] = 1
    resumable: ClassVar[bool] = True
    config: TopUpConfig

    @property
    def compute(self) -> Compute:
        """What the stage asks of the cluster."""
        return self.config.samples.compute

    def run(self, context: Context) -> Outcome:
        """Make, match and judge round by round. A round's size follows from what was kept before it."""
        config, inputs = self.config.samples, context.inputs
        assert config.target_kept
        policy = make_policy(self.config.filter, Policy(**inputs["policy"].read_json("policy.json")))
        asked, kept = _counted(policy, inputs["samples"], inputs["matches"] / SAMPLES)
        first, budget = asked, config.max_samples or 4 * asked
        frequencies, seed = frequencies_of(context, config), derive_seed(self.root_seed, self.config.of)
        side = side_of(inputs["model"])
        number = 0
        while kept < config.target_kept and asked < budget:
            missing = math.ceil(MARGIN * (config.target_kept - kept) / max(kept / asked, LEAST_SHARE))
            rows = min(missing, budget - asked)
            per_shard = rows_per_shard(config, rows, side)
            shards = _named(number, cut(rows, per_shard, config.rows_per_piece, first=asked))
            make_samples(context, shards, frequencies, config, seed, self.config.of)
            make_matches(context, {SAMPLES: context.out / "samples"}, self.config.match)
            made = {shard.name for shard in shards}
            more = _counted(policy, context.out / "samples", context.out / "filter" / SAMPLES, made)
            asked, kept, number = asked + more[0], kept + more[1], number + 1
        facts = {"rounds": number, "asked": asked, "kept": kept, "target_kept": config.target_kept}
        notes = []
        if kept < config.target_kept:
            notes = [f"the budget of {budget} samples ended with {kept} kept of the {config.target_kept} wanted"]
        return Outcome(counts={"rows": asked - first, "kept": kept}, facts=facts | {"notes": notes})


def _named(number: int, shards: list[Shard]) -> list[Shard]:
    return [
        Shard(f"more-{number:02d}-{place:05d}.parquet", shard.rows, shard.first) for place, shard in enumerate(shards)
    ]


def _counted(policy: MatchPolicy, samples: Store, matches: Store, shards: set[str] | None = None) -> tuple[int, int]:
    """Count the samples of some shards, of all by default, and what the policy keeps of them."""
    asked = kept = 0
    for shard in samples.shards():
        if shards is None or shard in shards:
            asked += sum(samples.row_groups(shard))
            verdicts = judged(policy, matches.read_table(shard, columns=list(JUDGED)))
            kept += int(verdicts["keep"].to_numpy(zero_copy_only=False).sum())
    return asked, kept
