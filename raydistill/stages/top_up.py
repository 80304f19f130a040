"""Ask for more samples until the filter has kept enough, or a budget ends; nothing that is there is made again."""

import math
from typing import Any, ClassVar

from raydistill.core.columns import JUDGED
from raydistill.core.config import FilterConfig
from raydistill.core.generation import MatchConfig, SampleConfig
from raydistill.core.section import Compute, Section
from raydistill.core.seeds import derive_seed
from raydistill.core.store import Store
from raydistill.distributed.shards import Shard, cut
from raydistill.matching.policy import MatchPolicy, Policy, judged, make_policy
from raydistill.matching.selection import WAY, Selection, in_the_way
from raydistill.stages.base import Context, Outcome, Stage
from raydistill.stages.match import SAMPLES, make_matches, place
from raydistill.stages.sample import deciding, make_samples, requests_of, rows_per_piece, rows_per_shard, side_of
from raydistill.stages.selecting import not_selected

MARGIN = 1.1
"""A round asks for this many times what is missing by the share kept so far, to be seldom short by a few."""

LEAST_SHARE = 0.01
"""The share kept that is reckoned with where hardly anything was."""


class TopUpConfig(Section):
    """What is asked of the model, how that is matched and judged, and whose plan of samples it goes on with."""

    samples: SampleConfig
    match: MatchConfig
    filter: FilterConfig
    samples_of: str
    matches_of: str


class TopUp(Stage):
    """Inputs: those of the sampling and matching that it goes on with, `samples`, the filter's `matches`, `policy`.

    Also `sharing`. Output: `samples/more-*.parquet`, and `<eye>/samples/` like it.
    """

    version: ClassVar[int] = 4
    resumable: ClassVar[bool] = True
    config: TopUpConfig

    @property
    def compute(self) -> Compute:
        """What the stage asks of the cluster."""
        return self.config.samples.compute

    def key_config(self) -> dict[str, Any]:
        """Put what is in a table of prompts into the key, and how many are wanted."""
        dumped, config = super().key_config(), self.config.samples
        wanted = {"target_kept": config.target_kept, "max_samples": config.max_samples}
        return dumped | {"samples": deciding(dumped["samples"], config) | wanted}

    def run(self, context: Context) -> Outcome:
        """Make, match and judge round by round. A round's size follows from what was kept before it."""
        inputs = context.inputs
        thresholds = Policy(**inputs["policy"].read_json("policy.json"))
        config = _asking(thresholds.selection, self.config.samples)
        assert config.target_kept
        policy = make_policy(self.config.filter, thresholds)
        sets = [(inputs["samples"], inputs["matches"] / SAMPLES, inputs["samples"].shards())]
        selection = thresholds.selection
        asked, alike, passed = _counted(policy, selection, *sets[0])
        kept = passed - len(not_selected(sets, inputs["sharing"], policy, selection))
        first, budget, node = asked, config.budget(asked), self.config.samples_of
        seed, seed_of_matches = (derive_seed(self.root_seed, name) for name in (node, self.config.matches_of))
        requests = requests_of(context, config, seed, node)
        side, number = side_of(inputs["model"]), 0
        while kept < config.target_kept and asked < budget:
            # All that is kept, and all that is to come, was made alike.
            missing = math.ceil(MARGIN * (config.target_kept - kept) / max(kept / max(alike, 1), LEAST_SHARE))
            # No more than what the share is known from: one of next to nothing is known badly.
            rows = min(missing, max(alike, 1), budget - asked)
            per_shard = rows_per_shard(config, rows, side)
            shards = _named(cut(rows, per_shard, rows_per_piece(config, rows), first=asked))
            make_samples(context, shards, requests, config)
            with place(context, self.config.match, seed_of_matches) as galleries:
                make_matches(context, {SAMPLES: context.out / "samples"}, self.config.match, galleries)
            sets.append((context.out / "samples", context.out / "filter" / SAMPLES, [s.name for s in shards]))
            more = _counted(policy, selection, *sets[-1])
            asked, alike, passed = asked + more[0], alike + more[1], passed + more[2]
            kept, number = passed - len(not_selected(sets, inputs["sharing"], policy, selection)), number + 1
        facts = {"rounds": number, "asked": asked, "kept": kept, "target_kept": config.target_kept}
        notes = []
        if kept < config.target_kept:
            notes = [f"the budget of {budget} samples ended with {kept} kept of the {config.target_kept} wanted"]
        return Outcome(counts={"rows": asked - first, "kept_of_all": kept}, facts=facts | {"notes": notes})


def _asking(chosen: Selection, config: SampleConfig) -> SampleConfig:
    """Ask for no more samples of ways that the search didn't choose."""
    if chosen.guidance_scale is None and chosen.num_inference_steps is None:
        return config
    way = chosen.guidance_scale or config.guidance_scale, chosen.num_inference_steps or config.num_inference_steps
    return config.model_copy(update={"ways": (way,)})


def _named(shards: list[Shard]) -> list[Shard]:
    """Name shards by their first row: those of another round, or of other sizes, are others."""
    return [Shard(f"more-{shard.first:08d}.parquet", shard.rows, shard.first) for shard in shards]


def _counted(
    policy: MatchPolicy, selection: Selection, samples: Store, matches: Store, shards: list[str]
) -> tuple[int, int, int]:
    """Count the samples of some shards, those made in the chosen way, and what the policy keeps of all."""
    asked = alike = kept = 0
    for shard in shards:
        made = in_the_way(samples.read_table(shard, columns=list(WAY)), selection)
        asked, alike = asked + len(made), alike + int(made.sum())
        verdicts = judged(policy, matches.read_table(shard, columns=list(JUDGED)))
        kept += int(verdicts["keep"].to_numpy(zero_copy_only=False).sum())
    return asked, alike, kept
