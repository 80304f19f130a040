"""The file to read first: the stages in order, wired. `runner.py` says what is cached, `run.py` runs what isn't."""

from raydistill.auditing import wire_audit
from raydistill.core.config import Config
from raydistill.core.seeds import derive_seed
from raydistill.stages.attack import Attack, AttackNodeConfig
from raydistill.stages.base import Stage, View
from raydistill.stages.embed import galleries
from raydistill.stages.encode import Encode
from raydistill.stages.evaluate import Evaluate
from raydistill.stages.filter import Filter, FilterNodeConfig
from raydistill.stages.ingest import Ingest, IngestNodeConfig
from raydistill.stages.match import Match
from raydistill.stages.release import Release, ReleaseNodeConfig
from raydistill.stages.rules import Rules, RulesNodeConfig
from raydistill.stages.sample import ReleasedSample, Sample
from raydistill.stages.selftest import SelfTest, SelfTestNodeConfig
from raydistill.stages.top_up import TopUp, TopUpConfig
from raydistill.stages.train_diffusion import TrainDiffusion
from raydistill.stages.train_reid import TrainReid
from raydistill.stages.trial import TuneNodeConfig
from raydistill.stages.tune import Tune


def wire(c: Config) -> list[Stage]:
    """Wire the whole path from real images to a release decision.

    Args:
        c: the resolved configuration.

    Returns:
        The nodes in an order in which each comes after its inputs; of an audit, those of `wire_audit`.
    """
    if c.audited:
        return wire_audit(c)
    s = c.seed
    data = Ingest("ingest", IngestNodeConfig(source=c.source, ingest=c.ingest), {}, s)
    train, probe, calibration, evaluation = (data[role] for role in ("train", "probe", "calibration", "evaluation"))

    # Three pairs of eyes, never shared: the filter's, the tuning judge's, the final auditor's.
    reid = TrainReid("reid_filter", c.eyes.filter, {"images": train}, s)
    judge = TrainReid("reid_judge", c.eyes.judge, {"images": train}, s)
    auditor = TrainReid("reid_auditor", c.eyes.auditor, {"images": train}, s)

    t_latents = Encode("teacher_latents", c.teacher, {"images": train, "calibration": calibration}, s)
    learnt, t_start = {"rows": t_latents["train"]}, {"initial": t_latents["initial"]}
    # The guard: training stops when calibration images fare worse than train images, if the configuration says so.
    guard = {"calibration": t_latents["calibration"]}
    teacher = TrainDiffusion("teacher", c.teacher, {**learnt, **t_start, **guard}, s)
    prompts, shared = {"prompts": data["prompts"]}, {"sharing": data["sharing"]}
    t_samples = Sample("teacher_samples", c.teacher_samples_in_turn, {"model": teacher["model"], **prompts}, s)

    eyes = {"eye_filter": reid["network"], "eye_judge": judge["network"], "eye_auditor": auditor["network"]}
    gallery, strangers = galleries({"train": train, "evaluation": evaluation}, eyes, c.match, s)
    real = {"gallery": gallery[""], "query_probe": probe, "query_calibration": calibration}
    unseen = {"query_evaluation": evaluation, "unseen": strangers[""]}
    t_matches = Match("teacher_matches", c.match, {"images": t_samples["samples"], **real, **unseen, **eyes}, s)

    selftest = SelfTest(
        "selftest",
        SelfTestNodeConfig(
            selftest=c.selftest,
            match=c.match,
            consistency_fpir=c.evaluate.audit_fpir,
            consistency_near_copy_fpir=c.evaluate.audit_near_copy_fpir,
            confidence=c.evaluate.confidence,
        ),
        {"model": teacher["model"], "train": train, "calibration": calibration}
        | {"gallery": gallery[""], **eyes}
        | {f"matches_{eye}": t_matches[eye] for eye in ("filter", "judge", "auditor")},
        s,
    )
    policy = Tune(
        "tune",
        TuneNodeConfig(
            tune=c.tune,
            filter=c.filter,
            audit_fpir=c.evaluate.audit_fpir,
            audit_near_copy_fpir=c.evaluate.audit_near_copy_fpir,
            confidence=c.evaluate.confidence,
            network_steps=c.evaluate.probe_steps,
            compute=c.evaluate.compute,
            student=c.short_student(derive_seed(s, "student_latents")),
        ),
        {"samples": t_samples["samples"], **shared, "calibration": calibration}
        | {"findings": data["findings"], "matches": t_matches["filter"], "judge": t_matches["judge"]},
        s,
    )
    chosen = {"policy": policy["policy"]}
    s_eyes = {name: eyes[name] for name in ("eye_filter", "eye_auditor")}
    judged = {"samples": t_samples["samples"], "matches": t_matches["filter"]}
    kept, f_audit = {"images": t_samples["samples"]}, {"matches": t_matches["auditor"]}
    more = []
    if c.teacher_samples.target_kept:
        # By new seeds, until the filter has kept enough.
        of = {"samples_of": t_samples.node, "matches_of": t_matches.node}
        how_more = TopUpConfig(samples=c.teacher_samples_in_turn, match=c.match, filter=c.filter, **of)
        asked = {"model": teacher["model"], **prompts, **judged, **chosen, **shared}
        seen = {"gallery": gallery[""], "unseen": strangers[""], **s_eyes}
        more = [TopUp("more_samples", how_more, {**asked, **seen}, s)]
        judged |= {"more_samples": more[0]["samples"], "more_matches": more[0]["filter"]}
        kept, f_audit = kept | {"more_images": more[0]["samples"]}, f_audit | {"more_matches": more[0]["auditor"]}
    filtering = FilterNodeConfig(filter=c.filter, confidence=c.evaluate.confidence)
    selecting = filtering.model_copy(update={"selects": True})
    verdicts = Filter("verdicts", selecting, {**judged, **chosen, **shared, "selftest": selftest[""]}, s)

    kept |= {"verdicts": verdicts["verdicts"]}
    s_latents = Encode("student_latents", c.student, kept, s)
    s_start = {"rows": s_latents["train"], "initial": s_latents["initial"]}
    student = TrainDiffusion("student", c.student, s_start, s)
    s_samples = ReleasedSample("student_samples", c.student_samples, {"model": student["model"], **prompts}, s)
    s_matches = Match("student_matches", c.match, {"images": s_samples["samples"], **real, **unseen, **s_eyes}, s)
    s_verdicts = Filter(
        "student_verdicts",
        filtering,
        {"samples": s_samples["samples"], "matches": s_matches["filter"], **chosen},
        s,
    )

    how_attacked = AttackNodeConfig(attack=c.attack, samples=c.student_samples)
    attack = Attack("student_attack", how_attacked, {"model": student["model"], **prompts}, s)
    seen_by_auditor = {"gallery": gallery[""], "unseen": strangers[""], "eye_auditor": eyes["eye_auditor"]}
    a_matches = Match("attack_matches", c.match, {"images": attack["samples"], **seen_by_auditor}, s)

    cohort = {"train": train, "calibration": calibration, "evaluation": evaluation, "findings": data["findings"]}

    def evaluate(name: str, **inputs: View) -> Stage:
        return Evaluate(f"{name}_evaluation", c.evaluate, {**cohort, **inputs}, s)

    # A model of the same kind that saw neither train nor evaluation images: how difficult is each of them?
    shadows = []
    if c.evaluate.shadow_share:
        s_rows = {"rows": t_latents["calibration"], "initial": t_latents["initial"]}
        shadows = [TrainDiffusion("shadow", c.shadow, s_rows, s)]
    shadow = {"shadow": shadows[0]["model"]} if shadows else {}

    r_eval = evaluate("real", images=train)
    reference = {"reference": r_eval["predictions"], "extractor": r_eval["extractor"]}
    t_audit = {"matches": t_matches["auditor"], "probe": probe, **reference}
    t_eval = evaluate("teacher", images=t_samples["samples"], model=teacher["model"], **t_audit, **shadow)
    f_eval = evaluate("filtered", **kept, **f_audit, **reference)
    s_audit = {"matches": s_matches["auditor"], "attack_matches": a_matches["auditor"], "probe": probe, **reference}
    s_audit |= {"selftest": selftest[""], "attack_samples": attack["samples"]}
    s_audit |= {"gallery": gallery["auditor"], "strangers": strangers["auditor"]}
    s_audit |= {"teacher_predictions": t_eval["predictions"]}
    s_eval = evaluate("student", images=s_samples["samples"], model=student["model"], **s_audit, **shadow)

    # Was the search worth it? Nothing is chosen by this.
    how_compared = RulesNodeConfig(evaluate=c.evaluate, seeds=c.tune.rule_seeds)
    compared = {**judged, **chosen, "verdicts": verdicts["verdicts"], "auditor": t_matches["auditor"]}
    compared |= {"train": train, "evaluation": evaluation, "findings": data["findings"]}
    rules = Rules("simple_rules", how_compared, compared, s)

    release = Release(
        "decision",
        ReleaseNodeConfig(release=c.release, evidence=c.evidence, prompts=c.ingest.prompts),
        {"student": student[""], "student_latents": s_latents[""]}
        | {"teacher": teacher[""], "teacher_latents": t_latents[""]}
        | {"filter": verdicts[""], "student_filter": s_verdicts[""]}
        | {"real_evaluation": r_eval[""], "teacher_evaluation": t_eval[""], "student_evaluation": s_eval[""]}
        | {"cohort": data["cohort"]},
        s,
    )
    return [
        *(data, reid, judge, auditor, t_latents, teacher, t_samples),
        *(gallery, strangers, t_matches, selftest, policy, *more, verdicts),
        *(s_latents, student, s_samples, s_matches, s_verdicts, attack, a_matches),
        *(*shadows, r_eval, t_eval, f_eval, s_eval, rules, release),
    ]
