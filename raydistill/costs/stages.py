"""Which work is each kind of stage's."""

from collections.abc import Callable, Mapping
from typing import Any

from raydistill.costs import comparisons, models
from raydistill.costs.work import Known, Work, alike
from raydistill.stages.attack import Attack
from raydistill.stages.audit_alone import Audited
from raydistill.stages.base import Stage
from raydistill.stages.embed import Embed
from raydistill.stages.encode import Encode
from raydistill.stages.evaluate import Evaluate
from raydistill.stages.ingest import Ingest
from raydistill.stages.match import Match
from raydistill.stages.rules import Rules
from raydistill.stages.sample import ReleasedSample, Sample
from raydistill.stages.selftest import SelfTest
from raydistill.stages.sight import Sight
from raydistill.stages.top_up import TopUp
from raydistill.stages.train_diffusion import TrainDiffusion
from raydistill.stages.train_reid import TrainReid
from raydistill.stages.tune import Tune

WORKS: Mapping[type[Stage], Callable[[Any, Known], Work]] = {
    TrainReid: models.reid_training,
    Encode: models.encoding,
    TrainDiffusion: models.diffusion_training,
    Sample: models.sampling,
    ReleasedSample: models.sampling,
    TopUp: models.more_sampling,
    Attack: models.attack,
    Embed: comparisons.embedding,
    Match: comparisons.matching,
    SelfTest: comparisons.selftest,
    Sight: comparisons.sight,
    Audited: comparisons.audit,
    Evaluate: comparisons.evaluation,
    Tune: comparisons.search,
    Rules: comparisons.rules,
}


def work_of(stage: Stage, known: Known) -> Work:
    """Return what a stage has to do.

    Args:
        stage: of a wired pipeline.
        known: what is known beside its own configuration.
    """
    if isinstance(stage, Ingest):
        return Work("the cohort", "cohort", 1, alike("ingest", known.config.source, known.config.ingest))
    kind = type(stage)
    return WORKS[kind](stage, known) if kind in WORKS else Work("little", "", None, alike(kind.__name__))
