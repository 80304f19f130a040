"""The stages of an audit of what somebody else made, wired: nothing is trained, nothing released."""

from raydistill.core.config import Config
from raydistill.stages.attack import Attack, AttackNodeConfig
from raydistill.stages.audit_alone import AuditDecision, AuditDecisionConfig, Audited
from raydistill.stages.base import Stage, View
from raydistill.stages.embed import galleries
from raydistill.stages.given import (
    GivenEye,
    GivenEyeConfig,
    GivenImages,
    GivenImagesConfig,
    GivenModel,
    GivenModelConfig,
)
from raydistill.stages.ingest import Ingest, IngestNodeConfig
from raydistill.stages.match import Match
from raydistill.stages.sample import Sample
from raydistill.stages.sight import Sight, SightConfig


def wire_audit(c: Config) -> list[Stage]:
    """Wire the path from a cohort and something that may have been learned from it to a verdict.

    What is audited stands where a run has its student: its images are `student_samples`.

    Args:
        c: the resolved configuration, with `audited`.

    Returns:
        The nodes in an order in which each comes after its inputs.
    """
    assert c.audited is not None
    s, given, side = c.seed, c.audited, c.ingest.resolution
    data = Ingest("ingest", IngestNodeConfig(source=c.source, ingest=c.ingest), {}, s)
    roles = {role: data[role] for role in ("train", "probe", "calibration", "evaluation")}
    seen_by = GivenEyeConfig(eye=c.eyes.auditor, network=given.network, resolution=side)
    auditor = GivenEye("reid_auditor", seen_by, {}, s)
    eye = {"eye_auditor": auditor["network"]}
    gallery, strangers = galleries(roles, eye, c.match, s)
    seen = {"gallery": gallery[""], "unseen": strangers[""], **eye}
    real = {f"query_{role}": roles[role] for role in ("probe", "calibration", "evaluation")}
    sight = Sight("selftest", SightConfig(selftest=c.selftest, match=c.match), {"train": roles["train"], **seen}, s)

    before: list[Stage] = [data, auditor, gallery, strangers, sight]
    asked: dict[str, View] = {}
    how_asked: AttackNodeConfig | None = None
    if given.model:
        how_asked = AttackNodeConfig(attack=c.attack, samples=c.student_samples)
        what = GivenModelConfig(model=given.model, local_files_only=given.local_files_only, resolution=side)
        model, prompts = GivenModel("student", what, {}, s), {"prompts": data["prompts"]}
        from_it = {"model": model["model"], **prompts}
        samples: Stage = Sample("student_samples", c.student_samples, from_it, s)
        attack = Attack("student_attack", how_asked, from_it, s)
        found = Match("attack_matches", c.match, {"images": attack["samples"], **seen}, s)
        asked = {"model": model["model"], "attack_matches": found["auditor"], "attack_samples": attack["samples"]}
        before += [model, samples, attack, found]
    else:
        shown = GivenImagesConfig(images=given.images or "", resolution=side, max_pixels=c.ingest.max_image_pixels)
        samples = GivenImages("student_samples", shown, {}, s)
        before += [samples]
    matches = Match("student_matches", c.match, {"images": samples["samples"], **real, **seen}, s)
    judged = {"images": samples["samples"], "matches": matches["auditor"], "selftest": sight[""], **roles, **asked}
    judged |= {"gallery": gallery["auditor"], "strangers": strangers["auditor"]}
    evaluation = Audited("student_evaluation", c.evaluate, judged, s)
    held = {"evaluation": evaluation[""], "cohort": data["cohort"]}
    judged_by = AuditDecisionConfig(
        budgets=c.release.budgets,
        evaluate=c.evaluate,
        selftest=c.selftest,
        prompts=c.ingest.prompts,
        asked=how_asked,
    )
    return [*before, matches, evaluation, AuditDecision("audit_decision", judged_by, held, s)]
